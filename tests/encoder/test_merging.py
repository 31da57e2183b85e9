"""Models that were trained from the same one become one model."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers.base.merging import merge_models
from torch import Tensor, nn

from sentence_transformers import SentenceTransformer, models
from sentence_transformers.encoder.base import BaseModel
from tiny import sample_texts, tiny_checkpoint, tiny_tokenizer

TEXTS = sample_texts()[:6]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    """Three saved models that differ in their weights only."""
    root = tmp_path_factory.mktemp("models")
    paths = []
    for seed in range(3):
        checkpoint = tiny_checkpoint("bert", root / f"checkpoint-{seed}", seed=seed)
        transformer = models.Transformer(str(checkpoint))
        model = SentenceTransformer(modules=[transformer, models.Pooling(32)], device="cpu")
        path = str(root / f"model-{seed}")
        model.save(path)
        paths.append(path)
    return paths


@pytest.fixture
def three(folders) -> list[SentenceTransformer]:
    return [SentenceTransformer(folder, device="cpu") for folder in folders]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_weights(model: nn.Module, expected: dict[str, Tensor], **tolerance: float) -> None:
    weights = state(model)
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, **tolerance)


def averaged(first: nn.Module, second: nn.Module, share: float) -> dict[str, Tensor]:
    others = state(second)
    return {name: share * tensor + (1 - share) * others[name] for name, tensor in state(first).items()}


def test_linear_gives_the_weighted_average_of_all_weights(three):
    a, b, _ = three
    assert_weights(SentenceTransformer.merge([a, b]), averaged(a, b, 0.5))
    weighted = SentenceTransformer.merge([a, b], parameters={"weight": [0.6, 0.4]})
    assert_weights(weighted, averaged(a, b, 0.6))


def test_names_folders_and_instances_can_be_mixed(folders, three):
    expected = averaged(three[0], three[1], 0.5)
    for pair in ([folders[0], folders[1]], [Path(folders[0]), three[1]], (three[0], folders[1])):
        assert_weights(SentenceTransformer.merge(pair), expected)


def test_further_arguments_reach_the_models_that_are_loaded(folders):
    merged = SentenceTransformer.merge(folders[:2], truncate_dim=7)
    assert merged.encode(TEXTS).shape == (6, 7)


def test_inputs_are_left_as_they_were_and_share_nothing_with_the_result(three):
    three[0].train()
    before, embeddings = [state(model) for model in three], [model.encode(TEXTS) for model in three]
    merged = SentenceTransformer.merge(three, "ties", base_model=three[2], parameters={"density": 0.5})
    with torch.no_grad():
        for parameter in merged.parameters():
            parameter.fill_(0.1)
    for model, weights, expected in zip(three, before, embeddings, strict=True):
        assert_weights(model, weights, rtol=0, atol=0)
        np.testing.assert_array_equal(model.encode(TEXTS), expected)


def test_the_result_computes_with_the_merged_weights(three):
    a, b, _ = three
    for model in (a, b):  # so that anything prepared for the old weights is there to be copied
        for _ in range(4):
            model.encode(TEXTS[0])
    merged = SentenceTransformer.merge([a, b])
    by_hand = copy.deepcopy(b)
    by_hand.load_state_dict(averaged(a, b, 0.5))
    np.testing.assert_allclose(merged.encode(TEXTS), by_hand.encode(TEXTS), atol=1e-6)
    assert np.abs(merged.encode(TEXTS) - a.encode(TEXTS)).max() > 0.01


def test_the_result_can_be_saved_and_loaded(three, tmp_path):
    merged = SentenceTransformer.merge(three)
    merged.save(str(tmp_path / "merged"))
    loaded = SentenceTransformer(str(tmp_path / "merged"), device="cpu")
    np.testing.assert_allclose(loaded.encode(TEXTS), merged.encode(TEXTS), atol=1e-6)


def test_the_result_can_be_trained_and_starts_without_gradients(three):
    a, b, _ = three
    a(a.preprocess(TEXTS))["sentence_embedding"].sum().backward()
    merged = SentenceTransformer.merge([a, b])
    assert all(parameter.grad is None for parameter in merged.parameters())
    merged(merged.preprocess(TEXTS))["sentence_embedding"].pow(2).sum().backward()
    assert merged[0].auto_model.embeddings.word_embeddings.weight.grad.abs().max() > 0
    assert a[0].auto_model.embeddings.word_embeddings.weight.grad is not None


def test_everything_but_the_weights_is_the_first_models(three):
    a, b, _ = three
    a.prompts, a.max_seq_length, a.similarity_fn_name = {"query": "find: "}, 40, "dot"
    a[0].auto_model.embeddings.requires_grad_(False)
    a.model_card_data.license = "mit"
    a.train()
    merged = SentenceTransformer.merge([a, b])
    assert merged.prompts == {"query": "find: "}
    assert (merged.max_seq_length, merged.similarity_fn_name) == (40, "dot")
    assert not merged[0].auto_model.embeddings.word_embeddings.weight.requires_grad
    assert merged[0].auto_model.encoder.layer[0].output.dense.weight.requires_grad
    assert not merged.training
    assert merged.model_card_data.license is None
    assert merged.model_card_data.model is merged
    assert a.model_card_data.license == "mit"


def test_methods_that_add_up_changes_do_so(three):
    a, b, base = three
    weights, others, before = state(a), state(b), state(base)
    expected = {
        name: before[name] + 0.5 * (weights[name] + others[name] - 2 * before[name]) for name in before
    }
    merged = SentenceTransformer.merge([a, b], "task_arithmetic", base_model=base, parameters={"weight": 0.5})
    assert_weights(merged, expected)


def test_a_base_among_the_models_is_not_merged(folders, three):
    a, b, base = three
    expected = state(SentenceTransformer.merge([a, b], "ties", base_model=base))
    assert_weights(SentenceTransformer.merge([a, base, b], "ties", base_model=base), expected)
    by_name = [folders[0], folders[2], folders[1]]
    assert_weights(SentenceTransformer.merge(by_name, "ties", base_model=folders[2]), expected)
    with pytest.raises(ValueError, match="All models are the base model"):
        SentenceTransformer.merge([base, base], "ties", base_model=base)


def test_slerp_starts_at_the_base_model_or_else_at_the_first(three):
    a, b, c = three
    for base, expected in ((None, a), (a, a), (b, b)):
        merged = SentenceTransformer.merge([a, b], "slerp", base_model=base, parameters={"t": 0.0})
        assert_weights(merged, state(expected))
    with pytest.raises(ValueError, match="none of them"):
        SentenceTransformer.merge([a, b], "slerp", base_model=c)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_random_methods_repeat_themselves(three, method):
    a, b, base = three
    options = {"base_model": base, "parameters": {"density": 0.5}}
    once = SentenceTransformer.merge([a, b], method, **options)
    assert_weights(SentenceTransformer.merge([a, b], method, **options), state(once), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, torch.float32),
        ({"dtype": "float64"}, torch.float64),
        ({"dtype": torch.float64, "out_dtype": "torch.bfloat16"}, torch.bfloat16),
        ({"dtype": None}, torch.float32),
        ({"out_dtype": torch.float16}, torch.float16),
    ],
)
def test_the_result_has_the_type_that_was_asked_for(three, options, expected):
    a, b, _ = three
    a.half()
    merged = SentenceTransformer.merge([a, b], **options)
    assert {parameter.dtype for parameter in merged.parameters()} == {expected}
    assert a.dtype == torch.float16
    torch.testing.assert_close(
        merged[0].auto_model.embeddings.word_embeddings.weight.float(),
        (a[0].auto_model.embeddings.word_embeddings.weight.float() + state(b)[WORDS]) / 2,
        atol=0.02,
        rtol=0.02,
    )


WORDS = "0.auto_model.embeddings.word_embeddings.weight"


class Counter(nn.Module):
    """A module with buffers of both kinds and a weight that is used twice."""

    def __init__(self, value: float, *, is_tied: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), value))
        self.again = self.weight if is_tied else nn.Parameter(torch.full((3,), value))
        self.register_buffer("seen", torch.tensor(int(value)))
        self.register_buffer("mean", torch.tensor(value))


def counters(first: nn.Module, second: nn.Module) -> list[BaseModel]:
    return [BaseModel(modules=[module], device="cpu") for module in (first, second)]


def test_integer_buffers_are_the_first_models_and_others_are_merged():
    merged = BaseModel.merge(counters(Counter(3.0), Counter(5.0)))
    assert merged[0].seen.item() == 3
    assert merged[0].mean.item() == 4.0


def test_shared_weights_stay_shared_and_are_merged_once():
    pair = counters(Counter(3.0), Counter(5.0))
    merged = BaseModel.merge(pair)
    assert merged[0].weight is merged[0].again
    assert merged[0].weight.tolist() == [4.0] * 3


def test_models_that_share_different_weights_cannot_be_merged():
    with pytest.raises(ValueError, match=r"model 1 has a weight '0\.again', and model 0 has none of its own"):
        BaseModel.merge(counters(Counter(3.0), Counter(5.0, is_tied=False)))


def test_static_models_and_routers_are_merged(tmp_path):
    def routed(seed: int) -> SentenceTransformer:
        torch.manual_seed(seed)
        tables = [models.StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=8) for _ in range(2)]
        router = models.Router.for_query_document(tables[:1], tables[1:])
        return SentenceTransformer(modules=[router, models.Dense(8, 4)], device="cpu")

    a, b = routed(0), routed(1)
    merged = SentenceTransformer.merge([a, b], parameters={"weight": [1, 3]})
    assert_weights(merged, averaged(a, b, 0.25))
    assert merged.encode(TEXTS).shape == (6, 4)


# ---- what cannot be merged


def changed(model: SentenceTransformer, change) -> SentenceTransformer:
    copied = copy.deepcopy(model)
    change(copied)
    return copied


def test_the_first_difference_is_named_before_anything_is_computed(three):
    a, b, _ = three

    def refuses(other: SentenceTransformer, said: str) -> None:
        for options in ({"models": [a, other]}, {"models": [a, b], "base_model": other, "method": "ties"}):
            with pytest.raises(ValueError, match=said):
                SentenceTransformer.merge(**options)

    longer = SentenceTransformer(modules=[*b, models.Normalize()], device="cpu")
    refuses(longer, r"modules '0' \(Transformer\), '1' \(Pooling\), and .* has .*'2' \(Normalize\)")
    other_kind = SentenceTransformer(modules=[b[0], models.Normalize()], device="cpu")
    refuses(other_kind, "module '1' of model 0 is Pooling, and of .* Normalize")
    by_first = SentenceTransformer(modules=[b[0], models.Pooling(32, "cls")], device="cpu")
    refuses(by_first, r"module '1' \(Pooling\) has pooling_mode_cls_token=False in model 0, and True in")
    dense = [SentenceTransformer(modules=[*b, models.Dense(32, 4, bias=bias)]) for bias in (True, False)]
    with pytest.raises(ValueError, match=r"module '2' \(Dense\) has bias=True in model 0, and False"):
        SentenceTransformer.merge(dense)

    shorter = changed(b, lambda model: model[0].auto_model.encoder.layer.pop(1))
    refuses(shorter, r"model 0 has a weight '0\.auto_model\.encoder\.layer\.1\.attention.*has none")
    wider = changed(b, lambda model: model[0].auto_model.resize_token_embeddings(401))
    refuses(wider, r"word_embeddings\.weight' is \(400, 32\) in model 0, and \(401, 32\) in")
    fewer_heads = changed(b, lambda model: setattr(model[0].auto_model.config, "num_attention_heads", 2))
    refuses(fewer_heads, "'0' has num_attention_heads=4 in model 0, and 2 in")
    more_words = changed(b, lambda model: model.tokenizer.add_tokens(["unheardof"]))
    refuses(more_words, "tokenizers of module '0' have different vocabularies")


def test_differences_that_do_not_matter_to_weights_are_accepted(three):
    a, b, _ = three
    b.max_seq_length, b.prompts = 5, {"query": "other"}
    b[0].auto_model.config.attention_probs_dropout_prob = 0.9
    b[0].auto_model.config._name_or_path = "some/model"
    assert_weights(SentenceTransformer.merge([a, b]), averaged(a, b, 0.5))


def test_arguments_that_do_not_fit_are_explained(three, folders):
    a, b, c = three
    for options, kind, said in (
        ({"models": [a]}, ValueError, "at least two models, and got 1 in a list"),
        ({"models": folders[0]}, ValueError, "a list of at least two models"),
        ({"models": [a, nn.Linear(2, 2)]}, TypeError, "Linear is no SentenceTransformer"),
        ({"method": "mean"}, ValueError, "Unknown merge method 'mean'. Known: dare_linear"),
        ({"method": "task_arithmetic"}, ValueError, "Pass base_model"),
        ({"base_model": c}, ValueError, "'linear' has no use for a base_model"),
        ({"dtype": "int8"}, ValueError, "dtype='int8'. Pass None, float16"),
        ({"out_dtype": torch.int8}, ValueError, "out_dtype=torch.int8"),
        ({"batch_options": {"max_bytes": 1}}, ValueError, "options of the package mergekit"),
        ({"parameters": {"weight": [1, 2, 3]}}, ValueError, "has 3 values"),
    ):
        with pytest.raises(kind, match=said):
            SentenceTransformer.merge(**{"models": [a, b], **options})


def test_quantised_weights_are_not_merged():
    pair = counters(Counter(3.0), Counter(5.0))
    pair[1][0].weight = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    pair[1][0].again = pair[1][0].weight
    with pytest.raises(ValueError, match=r"'0\.weight' is quantised in model 1 \(torch\.int8\)"):
        BaseModel.merge(pair)


def test_the_function_behind_the_method_takes_the_class_first(three):
    a, b, _ = three
    merged = merge_models(SentenceTransformer, [a, b])
    assert type(merged) is SentenceTransformer
    assert_weights(merged, averaged(a, b, 0.5))
