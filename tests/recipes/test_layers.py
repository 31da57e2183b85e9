"""Layers are kept as they are, made anew where asked, and still there when the model is loaded again."""

from __future__ import annotations

import copy

import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.layers import evenly_spaced, layers_of, with_layers
from tiny import tiny_checkpoint

TEXTS = ["a text", "another, which is longer than the first"]


@pytest.fixture(scope="module", params=["bert", "distilbert", "mpnet", "modernbert"])
def deep(request, tmp_path_factory) -> SentenceTransformer:
    """A model of four different layers."""
    folder = tmp_path_factory.mktemp(request.param)
    return made_deep(request.param, folder)


def made_deep(family: str, folder, count: int = 4) -> SentenceTransformer:
    tiny_checkpoint(family, folder)
    model = SentenceTransformer(str(folder), device="cpu")
    encoder = model[0].auto_model
    config = copy.deepcopy(encoder.config)
    if getattr(config, "layer_types", None):
        config.layer_types = (list(config.layer_types) * count)[:count]
    config.num_hidden_layers = count
    torch.manual_seed(5)
    model[0].auto_model = type(encoder)(config).eval()
    return model


def weights(layer: torch.nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in layer.parameters()])


def test_a_model_that_is_saved_and_loaded_has_the_layers_that_were_kept(deep, tmp_path):
    model = copy.deepcopy(deep)
    before = [weights(layer) for layer in layers_of(model)]
    with_layers(model, [0, 2])
    assert [torch.equal(weights(a), before[b]) for a, b in zip(layers_of(model), [0, 2])] == [True, True]
    expected = model.encode(TEXTS)
    assert abs(expected - deep.encode(TEXTS)).max() > 1e-3
    model.save_pretrained(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert loaded[0].auto_model.config.num_hidden_layers == 2
    assert abs(loaded.encode(TEXTS) - expected).max() < 1e-5


def test_our_forward_over_fewer_layers_is_that_of_transformers(deep):
    model = with_layers(copy.deepcopy(deep), [0, 3])
    packed = torch.from_numpy(model.encode(TEXTS))
    model.train()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    with torch.enable_grad():
        plain = model(model.tokenize(TEXTS))["sentence_embedding"]
    torch.testing.assert_close(packed, plain.detach(), atol=1e-5, rtol=1e-4)


def test_only_the_last_kept_layers_are_made_anew(deep):
    before = [weights(layer) for layer in layers_of(deep)]
    anew = with_layers(copy.deepcopy(deep), [0, 1, 3], reset_last=1, seed=7)
    again = with_layers(copy.deepcopy(deep), [0, 1, 3], reset_last=1, seed=7)
    other = with_layers(copy.deepcopy(deep), [0, 1, 3], reset_last=1, seed=8)
    kept = [torch.equal(weights(layer), before[number]) for layer, number in zip(layers_of(anew), [0, 1, 3])]
    assert kept == [True, True, False]
    assert torch.equal(weights(layers_of(anew)[2]), weights(layers_of(again)[2]))
    assert not torch.equal(weights(layers_of(anew)[2]), weights(layers_of(other)[2]))


def test_making_layers_anew_draws_nothing_from_the_common_chance(deep):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with_layers(copy.deepcopy(deep), [0], reset_last=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("keep", [[], [4], [-1], [1, 1]])
def test_layers_that_are_not_there_cannot_be_kept(deep, keep):
    with pytest.raises(ValueError, match="from 0 to 3"):
        with_layers(copy.deepcopy(deep), keep)


def test_a_layer_that_the_others_need_must_stay_first(tmp_path):
    model = made_deep("t5", tmp_path)
    with pytest.raises(ValueError, match="Keep layer 0"):
        with_layers(model, [1, 2])
    assert len(layers_of(with_layers(model, [0, 2]))) == 2


def test_layers_are_spread_from_the_first_to_the_last():
    assert [evenly_spaced(count, 6) for count in (6, 5, 4, 3, 2, 1)] == [
        [0, 1, 2, 3, 4, 5],
        [0, 1, 3, 4, 5],
        [0, 2, 3, 5],
        [0, 3, 5],
        [0, 5],
        [0],
    ]
    for of in range(2, 30):
        for count in range(2, of + 1):
            found = evenly_spaced(count, of)
            assert found == sorted(set(found))
            assert (len(found), found[0], found[-1]) == (count, 0, of - 1)


def test_more_layers_than_there_are_cannot_be_kept():
    with pytest.raises(ValueError, match="Pass 1 to 6"):
        evenly_spaced(7, 6)
