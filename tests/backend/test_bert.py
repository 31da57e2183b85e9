"""What is particular to the forward of BERT and its relatives."""

from __future__ import annotations

import pytest
import torch

from native_cases import LONGEST, model_of, ours, rows_of, theirs
from sentence_transformers.backend import bert
from sentence_transformers.backend.activations import ACTIVATIONS
from sentence_transformers.backend.relative_positions import distance_buckets
from sentence_transformers.inputs.packing import PackedLayout
from tiny import WIDTH


def test_first_tokens_of_a_model_without_biases_are_computed_too():
    model, rows = model_of("bert"), rows_of([9, 4, 4])
    for part in bert.layers_of(model)[-1][:3]:
        part.bias = None
    torch.testing.assert_close(
        ours(model, rows, first_tokens_only=True), theirs(model, rows)[[0, 9, 13]], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_the_table_is_transformers_own(activation):
    model, rows = model_of("bert", hidden_act=activation), rows_of([9, 4])
    torch.testing.assert_close(ours(model, rows), theirs(model, rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("table", [32, 64])
def test_far_positions_share_buckets_as_in_mpnet(table):
    model = model_of("mpnet", relative_attention_num_buckets=table)
    expected = model.encoder.compute_position_bias(torch.zeros(1, LONGEST, WIDTH))
    found = bert.position_bias(model, PackedLayout.of([LONGEST]))
    torch.testing.assert_close(found, expected[:1])
    # All are in use but the one for distance zero to what lies behind.
    used = distance_buckets(LONGEST, 32, torch.device("cpu")).unique().tolist()
    assert used == [bucket for bucket in range(32) if bucket != 16]
