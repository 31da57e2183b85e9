"""In-batch negatives without those a guide takes for positives."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.losses.features import run
from sentence_transformers.models import StaticEmbedding
from sentence_transformers.tensors.embeddings import Embeddings
from tiny import WIDTH, sample_texts, tiny_checkpoint, tiny_tokenizer

TEXTS = [text[:60] for text in sample_texts()]
COLUMNS = [TEXTS[:5], TEXTS[5:10], TEXTS[10:15], TEXTS[15:20]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {
        family: str(tiny_checkpoint(family, tmp_path_factory.mktemp(family), seed=5))
        for family in ("bert", "roberta")
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_checkpoint("bert", tmp_path_factory.mktemp("model"))
    return SentenceTransformer(str(folder), device="cpu").eval()


@pytest.fixture(scope="module")
def guide(folders):
    return SentenceTransformer(folders["bert"], device="cpu").eval()


def features(model, columns):
    return [model.preprocess(column) for column in columns]


def cosine(a, b) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def by_definition(columns, guided, temperature, margin, strategy, anchors_count, positives_count) -> float:
    """The loss, one comparison after the other."""
    rows = len(columns[0])
    total = 0.0
    for row in range(rows):
        own = cosine(guided[0][row], guided[1][row])
        limit = own - margin if strategy == "absolute" else own - abs(own) * margin
        kept = [cosine(columns[0][row], columns[1][row])]
        for other in range(rows):
            comparisons = [(0, row, number, other) for number in range(2, len(columns))]
            if other != row:
                comparisons.append((0, row, 1, other))
                comparisons.extend([(0, row, 0, other)] if anchors_count else [])
                comparisons.extend([(1, row, 1, other)] if positives_count else [])
            for first, i, second, j in comparisons:
                if cosine(guided[first][i], guided[second][j]) <= limit:
                    kept.append(cosine(columns[first][i], columns[second][j]))
        total -= kept[0] / temperature - math.log(sum(math.exp(score / temperature) for score in kept))
    return total / rows


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize(
    ("strategy", "margin"), [("absolute", 0), ("absolute", 0.2), ("absolute", -1.5), ("relative", 0.4)]
)
@pytest.mark.parametrize("contrast", [(True, True), (True, False), (False, True)])
def test_the_value_is_that_of_the_definition(model, columns, strategy, margin, contrast):
    generator = torch.Generator().manual_seed(columns)
    embeddings = torch.randn(columns, 6, 8, generator=generator, dtype=torch.float64)
    guided = torch.randn(columns, 6, 4, generator=generator, dtype=torch.float64)
    loss = losses.GISTEmbedLoss(model, model, 0.3, strategy, margin, *contrast)
    (part,) = loss.parts([Embeddings(x) for x in embeddings], None, context=[Embeddings(x) for x in guided])
    assert part.value.item() == pytest.approx(
        by_definition(embeddings, guided, 0.3, margin, strategy, *contrast), rel=1e-9
    )


def test_gradients_are_those_of_differences(model):
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    guided = [Embeddings(x) for x in torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)]
    loss = losses.GISTEmbedLoss(model, model, 0.5)

    def value(*columns):
        return next(loss.parts([Embeddings(column) for column in columns], None, context=guided)).value

    assert torch.autograd.gradcheck(value, embeddings.unbind())


def test_a_positive_that_the_guide_dislikes_is_still_the_target(model):
    embeddings = [Embeddings(torch.eye(2)), Embeddings(torch.eye(2))]
    # The guide finds each anchor most like the other's positive, and unlike its own.
    guided = [Embeddings(torch.eye(2)), Embeddings(torch.eye(2).flip(0))]
    (part,) = losses.GISTEmbedLoss(model, model, 1.0).parts(embeddings, None, context=guided)
    # Everything else is left out, apart from pairs that the guide finds no better than 0.
    anchors_and_positives_of_others = 2 * math.exp(0)
    expected = -math.log(math.e / (math.e + anchors_and_positives_of_others))
    assert part.value.item() == pytest.approx(expected, abs=1e-6)


def test_a_guide_with_the_same_tokens_is_given_the_features(model, guide):
    loss = losses.GISTEmbedLoss(model, guide)
    assert not loss.must_retokenize
    columns = features(model, COLUMNS)
    context = loss.context(columns)
    for column, found in zip(columns, context):
        torch.testing.assert_close(found.values, run(guide, column).values.detach())
        assert not found.values.requires_grad


@pytest.mark.parametrize("which", ["other tokenizer", "shorter", "flat"])
def test_a_guide_with_other_tokens_is_given_the_text(model, guide, folders, which):
    if which == "other tokenizer":
        guide = SentenceTransformer(folders["roberta"], device="cpu").eval()
    elif which == "shorter":
        guide = copy.deepcopy(guide)
        guide.max_seq_length = 8
    else:
        guide = SentenceTransformer(
            modules=[StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=16)], device="cpu"
        )
    loss = losses.GISTEmbedLoss(model, guide)
    assert loss.must_retokenize
    context = loss.context(features(model, COLUMNS))
    for texts, found in zip(COLUMNS, context):
        # The model's tokenizer knows no capitals.
        known = model.tokenizer.batch_decode(model.tokenizer(texts)["input_ids"], skip_special_tokens=True)
        torch.testing.assert_close(found.values, guide.encode(known, convert_to_tensor=True))


def test_a_model_of_flat_rows_can_have_a_guide_of_another_kind(guide):
    static = StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=16)
    model = SentenceTransformer(modules=[static], device="cpu")
    loss = losses.GISTEmbedLoss(model, guide, 0.1)
    columns = features(model, COLUMNS[:2])
    loss(columns, None).backward()
    assert static.embedding.weight.grad.abs().sum() > 0
    known = model.tokenizer.decode_batch(
        [model.tokenizer.encode(text, add_special_tokens=False).ids for text in COLUMNS[0]]
    )
    torch.testing.assert_close(loss.context(columns)[0].values, guide.encode(known, convert_to_tensor=True))


def test_the_guide_is_run_in_evaluation_mode_and_left_as_it_was(model, guide):
    guide = copy.deepcopy(guide)
    loss = losses.GISTEmbedLoss(copy.deepcopy(model), guide)
    columns = features(model, COLUMNS[:2])
    expected = loss.context(columns)
    guide.train()
    loss.train()
    for found, known in zip(loss.context(columns), expected):
        assert found.values.equal(known.values)
    assert guide.training


def test_the_guide_is_no_part_of_what_is_trained_and_goes_where_the_loss_goes(model, guide):
    guide = copy.deepcopy(guide)
    loss = losses.GISTEmbedLoss(copy.deepcopy(model), guide)
    inside = {id(parameter) for parameter in guide.parameters()}
    assert not inside & {id(parameter) for parameter in loss.parameters()}
    assert len(loss.state_dict()) == len(model.state_dict())
    loss.double()
    assert guide.dtype == torch.float64
    loss(features(loss.model, COLUMNS[:2]), None).backward()
    assert all(parameter.grad is None for parameter in guide.parameters())


def test_the_model_can_be_its_own_guide(model):
    loss = losses.GISTEmbedLoss(model, model, 0.1)
    columns = features(model, COLUMNS[:2])
    assert loss(columns, None).item() == pytest.approx(
        losses.GISTEmbedLoss(model, copy.deepcopy(model), 0.1)(columns, None).item()
    )


def test_the_cached_loss_embeds_with_the_guide_a_few_rows_at_a_time(model, guide):
    seen = []
    guide = copy.deepcopy(guide)
    guide.register_forward_pre_hook(lambda part, args: seen.append(len(args[0]["input_ids"])))
    loss = losses.CachedGISTEmbedLoss(model, guide, 0.05, 2)
    columns = features(model, COLUMNS[:3])
    value = loss(columns, None)
    assert seen == [2, 2, 1] * 3
    assert value.item() == pytest.approx(
        losses.GISTEmbedLoss(model, guide, 0.05)(columns, None).item(), rel=1e-5
    )


def test_the_older_order_of_arguments_holds(model, guide):
    loss = losses.CachedGISTEmbedLoss(model, guide, 0.02, 16, True)
    assert (loss.temperature, loss.mini_batch_size, loss.show_progress_bar) == (0.02, 16, True)


def test_unknown_strategies_and_models_without_tokenizer_are_refused(model):
    with pytest.raises(ValueError, match="margin_strategy='percentage'"):
        losses.GISTEmbedLoss(model, model, margin_strategy="percentage")
    with pytest.raises(ValueError, match="guide, a Linear, has no tokenizer"):
        losses.GISTEmbedLoss(model, torch.nn.Linear(WIDTH, 2))
    with pytest.raises(ValueError, match="2 or more text columns"):
        losses.GISTEmbedLoss(model, model)(features(model, COLUMNS[:1]), None)
