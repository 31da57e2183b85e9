"""Our forward against transformers' own, for every architecture, and when it is used."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from native_cases import (
    GATED,
    LONGEST,
    SERVED,
    TEXTS,
    averaged,
    flat,
    model_of,
    ours,
    rows_of,
    theirs,
    with_biases,
)
from sentence_transformers import SentenceTransformer
from sentence_transformers.backend import arranged
from sentence_transformers.backend.native import forward_of, runs, serves
from sentence_transformers.inputs.packing import PackedLayout
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer.architectures import position_offset
from sentence_transformers.modules.transformer.module import Transformer
from tiny import WIDTH, tiny_checkpoint, tiny_model


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize(
    "lengths", [[1], [2, 1], [17, 17, 5, 3, 3, 1], [LONGEST, 130, 127], [60] * 5], ids=str
)
def test_our_forward_gives_what_transformers_gives(family, lengths):
    model, rows = with_biases(model_of(family)), rows_of(lengths)
    for _ in range(arranged.BATCHES_BEFORE + 2):  # also once the weights have been arranged
        torch.testing.assert_close(ours(model, rows), theirs(model, rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize(
    "lengths", [[1], [2, 1], [17, 17, 5, 3, 3, 1], [3, 17, 3], [LONGEST, 130, 127], [60] * 5], ids=str
)
def test_first_tokens_alone_are_the_first_of_all_tokens(family, lengths):
    model, rows = with_biases(model_of(family)), rows_of(lengths)  # one of them is left out of the scores
    for _ in range(arranged.BATCHES_BEFORE + 2):
        found = ours(model, rows, first_tokens_only=True)
        starts = PackedLayout.of(lengths).cumulative()[:-1].long()
        torch.testing.assert_close(found, theirs(model, rows)[starts], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", *GATED])
def test_a_model_without_layers_is_computed_too(family):
    model, rows = model_of(family), rows_of([9, 4, 4])
    layers = model.encoder.layer if family == "bert" else model.layers
    del layers[:]
    torch.testing.assert_close(ours(model, rows), theirs(model, rows))
    torch.testing.assert_close(ours(model, rows, first_tokens_only=True), theirs(model, rows)[[0, 9, 13]])


@pytest.mark.parametrize("family", ["bert", *GATED])
def test_first_tokens_in_half_precision_are_as_exact_as_all_tokens(family):
    model, rows = model_of(family), rows_of([60, 9, 4])
    exact = theirs(model, rows)[[0, 60, 69]]
    model.to(torch.bfloat16)
    off = (ours(model, rows)[[0, 60, 69]].float() - exact).abs().mean()
    off_alone = (ours(model, rows, first_tokens_only=True).float() - exact).abs().mean()
    assert off_alone < 1.5 * off


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("family", ["mpnet", *GATED])
def test_first_tokens_on_cuda_are_the_first_of_all_tokens(family):
    model, rows = model_of(family), rows_of([60, 9, 4])
    expected = ours(model, rows)[[0, 60, 69]]
    layout = PackedLayout.of([60, 9, 4])
    model.to("cuda")
    with torch.inference_mode():
        positions = layout.positions(position_offset(model.config)).cuda()
        forward = forward_of(model, first_tokens_only=True)
        found = forward(layout, input_ids=flat(rows).cuda(), position_ids=positions)
    torch.testing.assert_close(found[0].cpu(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "electra", "nomic-bert"])
def test_token_types_are_added_where_rows_have_them(family):
    model, rows = model_of(family), rows_of([9, 4])
    kinds = [[0] * 5 + [1] * 4, [0, 1, 1, 0]]
    found = ours(model, rows, kinds)
    torch.testing.assert_close(found, theirs(model, rows, kinds), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, ours(model, rows))


@pytest.mark.parametrize("family", ["bert", *GATED])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_model_in_half_precision_is_served_too(family, dtype):
    exact, rows = model_of(family), rows_of([70, 9, 4])
    expected = theirs(exact, rows)
    model = exact.to(dtype)
    found, by_transformers = ours(model, rows), theirs(model, rows)
    assert found.dtype == dtype
    torch.testing.assert_close(found, by_transformers, atol=0.1, rtol=0.1)
    off, off_by_transformers = ((given.float() - expected).abs().mean() for given in (found, by_transformers))
    assert off < 1.2 * off_by_transformers


@pytest.mark.parametrize("kept", [[0], [1], [1, 0]], ids=str)
@pytest.mark.parametrize("family", ["bert", *GATED])
def test_a_model_whose_layers_were_taken_off_is_served_as_it_is_now(family, kept):
    """In ModernBERT layers differ: the first has one norm less, and the second a window."""
    model, rows = model_of(family), rows_of([9, 4])
    whole = ours(model, rows)
    holder, name = (model.encoder, "layer") if family == "bert" else (model, "layers")
    layers = getattr(holder, name)
    setattr(holder, name, nn.ModuleList([layers[number] for number in kept]))
    found = ours(model, rows)
    torch.testing.assert_close(found, theirs(model, rows), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, whole)


@pytest.mark.parametrize("family", SERVED)
def test_a_row_is_computed_without_regard_to_its_neighbours(family):
    model, rows = with_biases(model_of(family)), rows_of([33, 20, 20, 1])
    alone = torch.cat([ours(model, [row]) for row in rows])
    torch.testing.assert_close(ours(model, rows), alone, atol=1e-5, rtol=1e-5)
    others = [rows[0], *rows_of([20, 20, 50], seed=1)]
    torch.testing.assert_close(ours(model, others)[:33], alone[:33], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["albert", "deberta-v2", "t5", "llama"])
def test_other_architectures_are_left_to_transformers(family):
    model = tiny_model(family)
    assert not serves(model)
    with torch.inference_mode():
        assert forward_of(model) is None


@pytest.mark.parametrize("settings", [{"hidden_act": "silu"}, {"is_decoder": True}], ids=str)
def test_other_configurations_are_left_to_transformers(settings):
    assert not serves(tiny_model("bert", **settings))


@pytest.mark.parametrize("family", ["bert", *GATED])
def test_a_subclass_of_a_known_model_is_left_to_transformers(family):
    model = tiny_model(family)
    model.__class__ = type(type(model).__name__, (type(model),), {"__module__": "my.bert"})
    assert not serves(model)


@pytest.fixture(scope="module")
def checkpoint_of(tmp_path_factory):
    return cache(lambda family: tiny_checkpoint(family, tmp_path_factory.mktemp(family)))


@pytest.fixture(params=["bert", *GATED])
def checkpoint(request, checkpoint_of):
    return checkpoint_of(request.param)


@pytest.fixture
def model(checkpoint):
    """A model to do anything to."""
    model = SentenceTransformer(str(checkpoint), device="cpu")
    assert model[0].auto_model is not None
    return model


@pytest.mark.parametrize("family", ["bert", *GATED])
def test_gradients_autocast_and_training_keep_our_forward_away(family):
    model = tiny_model(family)
    assert forward_of(model) is None  # gradients are wanted
    with torch.no_grad():
        assert forward_of(model) is not None
        with torch.autocast("cpu", torch.bfloat16):
            assert forward_of(model) is None
        model.train()
        assert forward_of(model) is None


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_packed_model_gives_what_its_texts_give_one_at_a_time_and_padded(checkpoint, pooling):
    transformer = Transformer(str(checkpoint))
    model = SentenceTransformer(modules=[transformer, Pooling(WIDTH, pooling)], device="cpu")
    assert transformer.can_pack
    assert runs(transformer.auto_model)
    found = model.encode(TEXTS)
    np.testing.assert_allclose(found, np.stack([model.encode(text) for text in TEXTS]), atol=1e-5)
    transformer.unpad_inputs = False
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=1e-5)
    if pooling == "mean":
        np.testing.assert_allclose(found, averaged(model, TEXTS), atol=1e-5)


def test_packed_features_with_gradients_give_the_gradients_of_padded_ones(model):
    rows = model[0].read_rows(TEXTS)
    gradients = []
    for packed in (True, False):
        model.zero_grad()
        features = model[0].collate_rows(rows, packed=packed)
        model(features)["sentence_embedding"].square().sum().backward()
        gradients.append(
            {
                name: weight.grad.clone()
                for name, weight in model.named_parameters()
                if weight.grad is not None
            }
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-4, rtol=1e-3)


def test_hidden_states_of_all_layers_are_there_when_asked_for(checkpoint):
    model = SentenceTransformer(str(checkpoint), device="cpu", config_kwargs={"output_hidden_states": True})
    assert not model[0].can_pack
    np.testing.assert_allclose(model.encode(TEXTS), averaged(model, TEXTS), atol=1e-5)
    features = model(model.tokenize(TEXTS))
    assert len(features["all_layer_embeddings"]) == 3
    assert torch.equal(features["all_layer_embeddings"][-1], features["token_embeddings"])


# -- changed weights --------------------------------------------------------------------------------------


def scale_in_place(model):
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.5)


def scale_the_data(model):
    for weight in model.parameters():
        weight.data.mul_(0.5)


def load_a_state(model):
    model.load_state_dict({name: value * 0.5 for name, value in model.state_dict().items()})


def assign_a_state(model):
    model.load_state_dict({name: value * 0.5 for name, value in model.state_dict().items()}, assign=True)


def round_to_half_precision(model):
    model.to(torch.bfloat16).to(torch.float32)


@pytest.mark.parametrize("grown", [False, True], ids=["as opened", "with transformers"])
@pytest.mark.parametrize(
    "change",
    [scale_in_place, scale_the_data, load_a_state, assign_a_state, round_to_half_precision],
    ids=lambda change: change.__name__,
)
def test_changed_weights_are_used_at_once(checkpoint, change, grown):
    model = SentenceTransformer(str(checkpoint), device="cpu")
    if grown:
        assert model[0].auto_model is not None
    for _ in range(arranged.BATCHES_BEFORE + 2):
        before = model.encode("a short text")
    change(model)
    changed = [model.encode("a short text") for _ in range(arranged.BATCHES_BEFORE + 2)]
    expected = averaged(model, ["a short text"])[0]
    for vector in changed:
        np.testing.assert_allclose(vector, expected, atol=1e-5)
    assert np.abs(expected - before).max() > 1e-4


def test_a_copied_model_has_weights_of_its_own(model):
    for _ in range(arranged.BATCHES_BEFORE + 2):
        before = model.encode("a short text")
    copied = copy.deepcopy(model)
    scale_in_place(copied)
    np.testing.assert_allclose(
        copied.encode("a short text"), averaged(copied, ["a short text"])[0], atol=1e-5
    )
    np.testing.assert_array_equal(model.encode("a short text"), before)
