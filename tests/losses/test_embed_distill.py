"""Distance of embeddings to those of a teacher."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.models import StaticEmbedding
from sentence_transformers.tensors.embeddings import Embeddings
from tiny import sample_texts, tiny_tokenizer

WIDTH = 12
METRICS = ("mse", "l2", "cosine")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SentenceTransformer(
        modules=[StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=WIDTH)], device="cpu"
    )


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value_of(loss, columns, labels):
    (part,) = loss.parts([Embeddings(column) for column in columns], labels)
    return part.value


def distance(metric: str, a: torch.Tensor, b: torch.Tensor) -> float:
    differences = [float(x - y) for x, y in zip(a, b)]
    if metric == "mse":
        return sum(difference**2 for difference in differences) / len(differences)
    if metric == "l2":
        return math.sqrt(sum(difference**2 for difference in differences))
    return 1 - float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_value_is_the_mean_over_rows_and_columns(model, metric, columns):
    students, teacher = vectors(columns, 5, WIDTH), vectors(5, WIDTH, seed=1)
    expected = [distance(metric, row, known) for column in students for row, known in zip(column, teacher)]
    value = value_of(losses.EmbedDistillLoss(model, metric), students, teacher)
    assert value.item() == pytest.approx(sum(expected) / len(expected), rel=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_every_column_may_have_its_own_teacher(model, metric):
    students, teachers = vectors(2, 5, WIDTH), vectors(5, 2, WIDTH, seed=1)
    loss = losses.EmbedDistillLoss(model, metric)
    one_by_one = [value_of(loss, students[[number]], teachers[:, number]) for number in range(2)]
    assert value_of(loss, students, teachers).item() == pytest.approx(float(sum(one_by_one)) / 2)


@pytest.mark.parametrize("metric", METRICS)
def test_gradients_are_those_of_differences(model, metric):
    loss, teacher = losses.EmbedDistillLoss(model, metric), vectors(4, WIDTH, seed=1)
    students = vectors(2, 4, WIDTH).requires_grad_()
    assert torch.autograd.gradcheck(lambda *columns: value_of(loss, columns, teacher), students.unbind())


def test_mse_loss_is_distillation_by_squared_differences(model):
    students, teacher = vectors(3, 5, WIDTH), vectors(5, WIDTH, seed=1)
    expected = nn.functional.mse_loss(students.flatten(0, 1), teacher.repeat(3, 1))
    assert value_of(losses.MSELoss(model), students, teacher).item() == pytest.approx(expected.item())
    assert isinstance(losses.MSELoss(model), losses.EmbedDistillLoss)


def test_a_projection_goes_from_the_student_to_the_teacher_and_is_learned(model):
    loss = losses.MSELoss(model, projection_dim=20)
    teacher = vectors(4, 20).float()
    columns = [model.preprocess(sample_texts()[:4])]
    value = loss(columns, teacher)
    student = loss.projection(model(dict(columns[0]))["sentence_embedding"])
    assert value.item() == pytest.approx(nn.functional.mse_loss(student, teacher).item())
    value.backward()
    assert loss.projection.weight.grad.abs().sum() > 0
    assert model[0].embedding.weight.grad.abs().sum() > 0


def test_a_projection_can_be_saved_and_loaded(model, tmp_path):
    path = tmp_path / "projection.safetensors"
    loss = losses.EmbedDistillLoss(model, projection_dim=20)
    loss.save_projection(path)
    other = losses.EmbedDistillLoss(model, projection_dim=20)
    assert not other.projection.weight.equal(loss.projection.weight)
    other.load_projection(str(path))
    assert other.projection.weight.equal(loss.projection.weight)
    assert other.projection.bias.equal(loss.projection.bias)
    with pytest.raises(ValueError, match=r"from 12 to 20 dimensions.*from 12 to 8"):
        losses.EmbedDistillLoss(model, projection_dim=8).load_projection(path)
    with pytest.raises(ValueError, match="no projection to save"):
        losses.MSELoss(model).save_projection(path)


def test_shortened_students_learn_from_the_leading_dimensions_of_their_teacher(model):
    teacher = vectors(4, WIDTH, seed=1).float()
    columns = [model.preprocess(sample_texts()[:4])]
    value = losses.MatryoshkaLoss(model, losses.MSELoss(model), [5, WIDTH])(columns, teacher)
    student = model(dict(columns[0]))["sentence_embedding"]
    expected = [
        nn.functional.mse_loss(nn.functional.normalize(student[:, :width]), teacher[:, :width])
        for width in (5, WIDTH)
    ]
    assert value.item() == pytest.approx(sum(expected).item(), rel=1e-6)


def test_a_projection_cannot_be_shortened(model):
    loss = losses.MatryoshkaLoss(model, losses.MSELoss(model, projection_dim=20), [5])
    with pytest.raises(ValueError, match="cannot be combined with MatryoshkaLoss"):
        loss([model.preprocess(sample_texts()[:4])], vectors(4, 20).float())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, WIDTH + 1), f"13 dimensions and are compared with {WIDTH}.*projection_dim=13"),
        ((4,), r"labels of shape \(4,\)"),
        ((4, 3, WIDTH), "one for each of the 2 text columns"),
    ],
)
def test_labels_of_another_shape_are_refused(model, shape, message):
    with pytest.raises(ValueError, match=message):
        value_of(losses.MSELoss(model), vectors(2, 4, WIDTH), vectors(*shape))


def test_what_cannot_be_computed_is_refused(model):
    with pytest.raises(ValueError, match="distance_metric='dot'"):
        losses.EmbedDistillLoss(model, "dot")
    with pytest.raises(ValueError, match="width of the model"):
        losses.EmbedDistillLoss(nn.Sequential(nn.Linear(2, 2)), projection_dim=3)
