"""How far embeddings are from being spread over the whole space."""

from __future__ import annotations

import pytest
import torch

from sentence_transformers import losses
from sentence_transformers.losses.functional import moments_beyond_chance
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import dot_score

Loss = losses.GlobalOrthogonalRegularizationLoss


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parts_of(loss, columns):
    return {part.name: part.value for part in loss.parts([Embeddings(column) for column in columns], None)}


def moments(vectors: torch.Tensor) -> tuple[float, float]:
    rows, width = vectors.shape
    cosines = [
        float(vectors[i] @ vectors[j] / (vectors[i].norm() * vectors[j].norm()))
        for i in range(rows)
        for j in range(rows)
        if i != j
    ]
    mean, second = sum(cosines) / len(cosines), sum(value**2 for value in cosines) / len(cosines)
    return mean**2, max(0, second - 1 / width)


@pytest.mark.parametrize("aggregation", ["mean", "sum"])
@pytest.mark.parametrize("columns", [1, 3])
def test_the_values_are_those_of_the_definition(aggregation, columns):
    given = 0.7 + vectors(columns, 5, 8)
    found = parts_of(Loss(None, mean_weight=2.0, second_moment_weight=0.5, aggregation=aggregation), given)
    means, seconds = zip(*(moments(column) for column in given))
    share = columns if aggregation == "mean" else 1
    assert found["gor_mean"].item() == pytest.approx(2 * sum(means) / share, rel=1e-9)
    assert found["gor_second_moment"].item() == pytest.approx(0.5 * sum(seconds) / share, rel=1e-9)


def test_gradients_are_those_of_differences():
    given = (0.7 + vectors(2, 4, 6)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *columns: tuple(parts_of(Loss(None), columns).values()), given.unbind()
    )


def test_orthogonal_rows_and_single_rows_give_nothing():
    for rows in (8, 1):
        assert all(value == 0 for value in parts_of(Loss(None), [torch.eye(8)[:rows]]).values())


def test_random_directions_give_next_to_nothing():
    mean, second = moments_beyond_chance(
        dot_score(*[torch.nn.functional.normalize(vectors(2000, 64))] * 2), 64
    )
    assert mean < 1e-6
    assert second < 1e-4


def test_parts_without_weight_are_left_out():
    given = vectors(1, 5, 8)
    assert parts_of(Loss(None, mean_weight=None), given).keys() == {"gor_second_moment"}
    assert parts_of(Loss(None, second_moment_weight=0), given).keys() == {"gor_mean"}
    with pytest.raises(ValueError, match="leave nothing to compute"):
        Loss(None, mean_weight=None, second_moment_weight=0)
    with pytest.raises(ValueError, match="aggregation='max'"):
        Loss(None, aggregation="max")
