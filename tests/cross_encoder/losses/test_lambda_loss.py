"""The weighting schemes as users call and extend them, and what LambdaLoss refuses."""

from __future__ import annotations

import pytest
import torch

from pair_model import PairModel
from score_loss_cases import COLUMNS, LABELS
from sentence_transformers.cross_encoder.losses import (
    LambdaLoss,
    LambdaRankScheme,
    NDCGLoss2PPScheme,
    NDCGLoss2Scheme,
    NoWeightingScheme,
    RankNetLoss,
)

GAIN = torch.tensor([[0.5, 0.2, 0.1, 0.0], [0.3, 0.9, 0.0, 0.0]])
DISCOUNT = torch.arange(2.0, 6.0).log2()[None]


def test_the_joint_scheme_is_the_sum_of_its_two():
    given = (GAIN, DISCOUNT, torch.zeros(2, 4))
    expected = 3 * NDCGLoss2Scheme()(*given) + LambdaRankScheme()(*given)
    torch.testing.assert_close(NDCGLoss2PPScheme(mu=3.0)(*given), expected)
    # Printed by sentence-transformers 6.2.0.
    torch.testing.assert_close(
        NDCGLoss2PPScheme()(*given)[0, 0], torch.tensor([0.0, 1.217932, 0.723719, 0.631279])
    )


def test_a_scheme_of_ones_own_is_given_documents_by_score():
    class Noting(NoWeightingScheme):
        def forward(self, gain, discount, true_sorted):
            self.seen = gain, discount, true_sorted
            return super().forward(gain, discount, true_sorted)

    scheme = Noting()
    loss = LambdaLoss(PairModel(), scheme)
    value = loss(COLUMNS["lists"], LABELS["grades"])
    torch.testing.assert_close(value, RankNetLoss(loss.model)(COLUMNS["lists"], LABELS["grades"]))
    gain, discount, true_sorted = scheme.seen
    query, documents = COLUMNS["lists"][0][4], COLUMNS["lists"][1][4]
    order = loss.model.scores([(query, document) for document in documents]).argsort(descending=True)
    assert true_sorted[4].tolist() == LABELS["grades"][4][order].tolist()
    assert (gain[4] > 0).tolist() == (true_sorted[4] > 0).tolist()
    assert discount.shape == (1, 5)
    assert (gain * (1 / discount)).sum(dim=1).max() <= 1 + 1e-6


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="k=0 leaves no pair"):
        RankNetLoss(PairModel(), k=0)
    with pytest.raises(ValueError, match="reduction_log='decimal' must be one of 'natural', 'binary'"):
        LambdaLoss(PairModel(), reduction_log="decimal")
