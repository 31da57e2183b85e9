"""Divergence of the student's from the teacher's distribution over candidates."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from sentence_transformers import losses
from sentence_transformers.tensors.embeddings import Embeddings


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value_of(loss, columns, labels):
    (part,) = loss.parts([Embeddings(column) for column in columns], labels)
    return part.value


def softmax(scores: list[float], temperature: float) -> list[float]:
    powers = [math.exp(score / temperature) for score in scores]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize(
    ("arguments", "student", "teacher"),
    [
        ({}, 1, 1),
        ({"temperature": 3.0}, 3, 3),
        ({"temperature": 3.0, "student_temperature": 2.0}, 2, 3),
        ({"student_temperature": 2.0, "teacher_temperature": 0.5}, 2, 0.5),
    ],
)
@pytest.mark.parametrize("candidates", [2, 4])
def test_the_value_is_that_of_the_definition(arguments, student, teacher, candidates):
    columns, labels = vectors(1 + candidates, 5, 7), vectors(5, candidates, seed=1)
    total = 0.0
    for row in range(5):
        scores = [float(columns[0, row] @ columns[number, row]) for number in range(1, 1 + candidates)]
        wanted, found = softmax(labels[row].tolist(), teacher), softmax(scores, student)
        total += sum(p * math.log(p / q) for p, q in zip(wanted, found))
    value = value_of(losses.DistillKLDivLoss(None, **arguments), columns, labels)
    assert value.item() == pytest.approx(student**2 * total / 5, rel=1e-9)


def test_gradients_are_those_of_differences():
    loss, labels = losses.DistillKLDivLoss(None, temperature=2.0), vectors(4, 3, seed=1)
    columns = vectors(4, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: value_of(loss, given, labels), columns.unbind())


def test_a_student_that_scores_like_its_teacher_loses_nothing():
    columns = vectors(4, 5, 7)
    labels = torch.stack([(columns[0] * column).sum(dim=1) for column in columns[1:]], dim=1) + 3
    assert value_of(losses.DistillKLDivLoss(None), columns, labels).item() == pytest.approx(0, abs=1e-12)


def test_teachers_that_cannot_teach_are_refused_or_named(caplog):
    columns, labels = vectors(3, 5, 7), vectors(5, 2, seed=1)
    with pytest.raises(ValueError, match="NaN"):
        value_of(
            losses.DistillKLDivLoss(None), columns, labels.masked_fill(labels == labels.max(), torch.nan)
        )
    with caplog.at_level(logging.WARNING):
        value_of(losses.DistillKLDivLoss(None), columns, 1e5 * labels)
    assert "DistillKLDivLoss: with teacher_temperature=1.0" in caplog.text


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 3)])
def test_labels_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="each of the 2 candidates"):
        value_of(losses.DistillKLDivLoss(None), vectors(3, 5, 7), vectors(*shape))


@pytest.mark.parametrize("name", ["temperature", "student_temperature", "teacher_temperature"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_temperatures_that_cannot_be_divided_by_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}="):
        losses.DistillKLDivLoss(None, **{name: value})


def test_settings_name_only_the_temperatures_that_were_given():
    assert losses.DistillKLDivLoss(None, temperature=2.0).get_config_dict() == {
        "similarity_fct": "pairwise_dot_score",
        "temperature": 2.0,
    }
    assert (
        losses.DistillKLDivLoss(None, teacher_temperature=2.0).get_config_dict()["teacher_temperature"] == 2.0
    )
