"""Two copies of a model that agree on a text: against written-out definitions, and about the copies."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from loss_columns import ROWS, gradients_are_those_of_small_differences, made, value_of
from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import ContrastiveTensionLoss, ContrastiveTensionLossInBatchNegatives
from sentence_transformers.models import StaticEmbedding
from tiny import sample_texts, tiny_checkpoint, tiny_tokenizer

SAME = [1, 0, 1, 1, 0, 0]
TEXTS = [text[:50] for text in sample_texts()]


@pytest.fixture
def model(tmp_path):
    return SentenceTransformer(str(tiny_checkpoint("bert", tmp_path)), device="cpu").double().eval()


def moved(loss):
    """The loss after some training: the copies differ."""
    with torch.no_grad():
        for parameter in loss.model1.parameters():
            parameter.mul_(0.8)
    return loss


def embedded(model, texts):
    return model(model.preprocess(texts))["sentence_embedding"]


def test_contrastive_tension_is_the_sum_of_cross_entropies():
    first, second = made(2)
    expected = 0.0
    for a, b, same in zip(first, second, SAME):
        probability = 1 / (1 + math.exp(-float(a @ b)))
        expected -= math.log(probability if same else 1 - probability)
    value = value_of(ContrastiveTensionLoss(nn.Identity()), [first, second], SAME)
    assert value.item() == pytest.approx(expected, rel=1e-9)


def test_in_batch_negatives_is_the_mean_of_both_directions():
    first, second = made(2)
    scores = [[3 * float(a @ b) / float(a.norm() * b.norm()) for b in second] for a in first]
    expected = 0.0
    for row in range(ROWS):
        across, down = scores[row], [scores[other][row] for other in range(ROWS)]
        for logits in (across, down):
            expected += math.log(sum(math.exp(logit) for logit in logits)) - logits[row]
    loss = ContrastiveTensionLossInBatchNegatives(nn.Identity(), scale=3.0)
    assert value_of(loss, [first, second]).item() == pytest.approx(expected / (2 * ROWS), rel=1e-6)


@pytest.mark.parametrize("kind", [ContrastiveTensionLoss, ContrastiveTensionLossInBatchNegatives])
def test_gradients_are_those_of_small_differences(kind):
    assert gradients_are_those_of_small_differences(kind(nn.Identity()), made(2), SAME)


def test_the_first_column_goes_through_the_copy_and_the_second_through_the_model(model):
    loss = moved(ContrastiveTensionLoss(model))
    assert loss.model2 is model
    columns = [model.preprocess(TEXTS[:ROWS]), model.preprocess(TEXTS[ROWS : 2 * ROWS])]
    first, second = embedded(loss.model1, TEXTS[:ROWS]), embedded(model, TEXTS[ROWS : 2 * ROWS])
    torch.testing.assert_close(loss(columns, torch.tensor(SAME)), value_of(loss, [first, second], SAME))


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_in_batch_negatives_gives_both_copies_the_first_column(model, columns):
    loss = moved(ContrastiveTensionLossInBatchNegatives(model))
    given = [model.preprocess(TEXTS[number * ROWS : (number + 1) * ROWS]) for number in range(columns)]
    both = [embedded(each, TEXTS[:ROWS]) for each in (loss.model1, model)]
    torch.testing.assert_close(loss(given), value_of(loss, both))


def test_without_labels_texts_with_the_same_tokens_are_the_same(model):
    loss = moved(ContrastiveTensionLoss(model))
    first = TEXTS[:ROWS]
    # Padded to another length than the first column, and with other capitals, which the model does not see.
    second = [text.upper() if same else TEXTS[10] * 3 for text, same in zip(first, SAME)]
    columns = [model.preprocess(first), model.preprocess(second)]
    assert columns[0]["input_ids"].shape != columns[1]["input_ids"].shape
    torch.testing.assert_close(loss(columns), loss(columns, torch.tensor(SAME)))


def test_tokens_that_lie_flat_are_compared_too():
    torch.manual_seed(0)
    static = SentenceTransformer(
        modules=[StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=8)], device="cpu"
    )
    loss = ContrastiveTensionLoss(static)
    second = [text if same else "other words" for text, same in zip(TEXTS, SAME)]
    columns = [static.preprocess(TEXTS[:ROWS]), static.preprocess(second)]
    torch.testing.assert_close(loss(columns), loss(columns, torch.tensor(SAME)))


def test_inputs_without_tokens_need_labels():
    class Vectors(nn.Module):
        def forward(self, features):
            return {"sentence_embedding": features["values"]}

    loss = ContrastiveTensionLoss(Vectors())
    columns = [{"values": column} for column in made(2)]
    with pytest.raises(ValueError, match="needs a label"):
        loss(columns)
    torch.testing.assert_close(loss(columns, torch.tensor(SAME)), value_of(loss, made(2), SAME))


def test_the_copy_is_trained_and_stays_apart_from_the_model(model):
    loss = ContrastiveTensionLossInBatchNegatives(model)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    before = [
        {name: value.clone() for name, value in each.named_parameters()} for each in (model, loss.model1)
    ]
    loss([model.preprocess(TEXTS[:ROWS])]).backward()
    optimizer.step()
    for each, old in zip((model, loss.model1), before):
        assert any(not torch.equal(value, old[name]) for name, value in each.named_parameters())
    ids = {id(parameter) for parameter in model.parameters()}
    assert not ids & {id(parameter) for parameter in loss.model1.parameters()}


def test_the_scale_is_learned_and_shown_as_it_is():
    loss = ContrastiveTensionLossInBatchNegatives(nn.Identity(), scale=20.0)
    value_of(loss, made(2)).backward()
    assert loss.logit_scale.grad.item() != 0
    assert loss.get_config_dict() == {"scale": pytest.approx(20.0), "similarity_fct": "cos_sim"}
    with torch.no_grad():
        loss.logit_scale.sub_(math.log(2))
    assert loss.get_config_dict()["scale"] == pytest.approx(10.0)
