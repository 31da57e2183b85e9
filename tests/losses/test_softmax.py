"""The classifier on pairs against its written-out definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from loss_columns import ROWS, WIDTH, gradients_are_those_of_small_differences, made, value_of
from sentence_transformers import InputExample, SentenceTransformer
from sentence_transformers.evaluation import LabelAccuracyEvaluator
from sentence_transformers.losses import MatryoshkaLoss, SoftmaxLoss
from tiny import WIDTH as MODEL_WIDTH
from tiny import sample_texts, tiny_checkpoint

CLASSES = [0, 1, 2, 0, 1, 2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_checkpoint("bert", tmp_path_factory.mktemp("model"))
    return SentenceTransformer(str(folder), device="cpu").eval()


def made_loss(**options) -> SoftmaxLoss:
    torch.manual_seed(0)
    return SoftmaxLoss(nn.Identity(), WIDTH, 3, **options).double()


@pytest.mark.parametrize("embeddings", [True, False])
@pytest.mark.parametrize("difference", [True, False])
@pytest.mark.parametrize("product", [True, False])
def test_the_value_is_the_cross_entropy_of_what_the_classifier_sees(embeddings, difference, product):
    options = {
        "concatenation_sent_rep": embeddings,
        "concatenation_sent_difference": difference,
        "concatenation_sent_multiplication": product,
    }
    if not any(options.values()):
        with pytest.raises(ValueError, match="nothing to classify by"):
            made_loss(**options)
        return
    loss, columns = made_loss(**options), made(2)
    weight, bias = loss.classifier.weight.tolist(), loss.classifier.bias.tolist()
    expected = 0.0
    for a, b, right in zip(columns[0].tolist(), columns[1].tolist(), CLASSES):
        seen = [*a, *b] if embeddings else []
        seen += [abs(x - y) for x, y in zip(a, b)] if difference else []
        seen += [x * y for x, y in zip(a, b)] if product else []
        logits = [sum(w * x for w, x in zip(row, seen)) + shift for row, shift in zip(weight, bias)]
        expected += math.log(sum(math.exp(logit) for logit in logits)) - logits[right]
    value = value_of(loss, columns, CLASSES)
    assert value.item() == pytest.approx(expected / ROWS, rel=1e-9)
    assert loss.get_config_dict() == {"num_labels": 3, **options}


def test_gradients_are_those_of_small_differences():
    loss = made_loss(concatenation_sent_multiplication=True)
    assert gradients_are_those_of_small_differences(loss, made(2), CLASSES)


def test_labels_may_be_probabilities_of_the_classes():
    loss, columns = made_loss(), made(2)
    certain = torch.eye(3, dtype=torch.float64)[CLASSES]
    loss.check(2, certain)
    torch.testing.assert_close(value_of(loss, columns, certain), value_of(loss, columns, CLASSES))


@pytest.mark.parametrize("labels", [torch.tensor([0.0, 1.0, 2.0]), torch.zeros(6, 4)])
def test_labels_that_are_no_classes_are_refused(labels):
    with pytest.raises(ValueError, match="needs an int"):
        made_loss().check(2, labels)


def test_another_loss_function_decides_about_labels_itself():
    loss, columns = made_loss(loss_fct=nn.MultiLabelSoftMarginLoss()), made(2)
    labels = torch.rand(ROWS, 3, generator=torch.Generator().manual_seed(0)).double()
    loss.check(2, labels)
    expected = nn.MultiLabelSoftMarginLoss()(logits_of(loss, columns), labels)
    torch.testing.assert_close(value_of(loss, columns, labels), expected)


def logits_of(loss, columns):
    a, b = columns
    return loss.classifier(torch.cat([a, b, (a - b).abs()], dim=1))


def test_without_labels_it_gives_embeddings_and_logits(model):
    loss = SoftmaxLoss(model, MODEL_WIDTH, 3)
    columns = [model.preprocess(sample_texts()[number : number + 4]) for number in (0, 4)]
    embeddings, logits = loss(columns, labels=None)
    assert [column.shape for column in embeddings] == [(4, MODEL_WIDTH)] * 2
    torch.testing.assert_close(logits, logits_of(loss, embeddings))
    torch.testing.assert_close(
        loss(columns, torch.tensor([0, 1, 2, 0])),
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])),
    )


def test_it_is_the_classifier_that_the_accuracy_evaluator_asks(model):
    loss = SoftmaxLoss(model, MODEL_WIDTH, 3)
    texts = sample_texts()
    columns = [model.preprocess(texts[number : number + 4]) for number in (0, 4)]
    right = loss(columns)[1].argmax(dim=1).tolist()
    labels = [right[0], right[1], right[2], (right[3] + 1) % 3]
    examples = [InputExample(texts=[texts[row], texts[row + 4]], label=labels[row]) for row in range(4)]
    evaluator = LabelAccuracyEvaluator(
        torch.utils.data.DataLoader(examples, batch_size=2), softmax_model=loss, write_csv=False
    )
    assert evaluator(model)["accuracy"] == 0.75


def test_a_wrapper_does_not_take_a_missing_label_for_a_question(model):
    wrapper = MatryoshkaLoss(model, SoftmaxLoss(model, MODEL_WIDTH, 3), [MODEL_WIDTH])
    with pytest.raises(ValueError, match="needs a label"):
        wrapper([model.preprocess(["a"]), model.preprocess(["b"])], None)


def test_the_older_name_of_the_width_is_taken():
    loss = SoftmaxLoss(nn.Identity(), sentence_embedding_dimension=WIDTH, num_labels=2)
    assert loss.classifier.in_features == 3 * WIDTH


def test_embeddings_in_half_precision_are_classified_in_that_of_the_classifier():
    loss, columns = made_loss().float(), [column.bfloat16() for column in made(2)]
    assert value_of(loss, columns, CLASSES).dtype == torch.float32
