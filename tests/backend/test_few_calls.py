"""Layers in few calls: with arranged weights they give what they give one by one."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from native_cases import model_of, with_biases
from sentence_transformers.backend import arranged, bert, few_calls
from sentence_transformers.backend.arranged import BATCHES_BEFORE, LARGEST_BATCH, never_arranged
from sentence_transformers.inputs.packing import PackedLayout

pytestmark = pytest.mark.skipif(not arranged.available(), reason="this PyTorch cannot arrange weights")

FAMILIES = ["bert", "distilbert", "mpnet", "electra"]


def states_of(model, lengths):
    generator = torch.Generator().manual_seed(sum(lengths))
    width = bert.layers_of(model)[0][3].out_features
    return torch.randn(sum(lengths), width, generator=generator)


@torch.inference_mode()
def run(model, lengths):
    """The states behind all layers, with whatever way of computing them is chosen."""
    heads = getattr(model.config, "num_attention_heads", None) or model.config.n_heads
    layout = PackedLayout.of(lengths)
    return bert.run_layers(
        states_of(model, lengths),
        bert.layers_of(model),
        heads,
        bert.activation_of(model),
        layout,
        bert.position_bias(model, layout),
    )


def one_by_one(model, lengths):
    with never_arranged():
        return run(model, lengths)


def in_use(model, lengths=(5,)):
    """A model that has met enough small batches, and that program."""
    for _ in range(BATCHES_BEFORE + 1):
        run(model, list(lengths))
    made = few_calls.arranged_layers(
        bert.layers_of(model), bert.activation_of(model), states_of(model, list(lengths))
    )
    assert made is not None
    return made


@pytest.mark.parametrize("lengths", [[1], [7], [70], [9, 4], [5, 5, 5], [9, 4, 4, 1]], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_program_gives_what_the_layers_give_one_by_one(family, lengths):
    model = with_biases(model_of(family))
    in_use(model)
    torch.testing.assert_close(run(model, lengths), one_by_one(model, lengths), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_activations_are_computed_with_the_product_before_them(activation):
    model = model_of("bert", hidden_act=activation)
    in_use(model)
    torch.testing.assert_close(run(model, [6]), one_by_one(model, [6]), atol=1e-5, rtol=1e-5)


def scale(part):
    with torch.no_grad():
        part.mul_(1.5)


def scale_the_data(part):
    part.data.mul_(1.5)


@pytest.mark.parametrize("change", [scale, scale_the_data], ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 6, 7])
def test_a_change_of_any_part_is_used_at_once(number, name, change):
    model = model_of("bert")
    in_use(model)
    before = run(model, [6])
    part = bert.layers_of(model)[-1][number]
    with torch.no_grad():
        part.bias.normal_(generator=torch.Generator().manual_seed(0))  # zeros would stay zeros
    change(getattr(part, name))
    for _ in range(BATCHES_BEFORE + 2):
        expected = one_by_one(model, [6])
        torch.testing.assert_close(run(model, [6]), expected, atol=1e-5, rtol=1e-5)
    # What a key's bias adds is the same for all keys, which a softmax does not see.
    assert (name, number) == ("bias", 1) or (expected - before).abs().max() > 1e-4


@pytest.mark.parametrize("number", [0, 3, 5, 6])
def test_a_new_bias_in_place_of_the_old_one_is_used_at_once(number):
    model = model_of("bert")
    in_use(model)
    part = bert.layers_of(model)[0][number]
    part.bias = nn.Parameter(torch.randn(part.out_features, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(run(model, [6]), one_by_one(model, [6]), atol=1e-5, rtol=1e-5)


def test_layers_that_cannot_become_one_are_computed_one_by_one():
    model = model_of("bert")
    bert.layers_of(model)[0][1].bias = None
    for _ in range(BATCHES_BEFORE + 2):
        torch.testing.assert_close(run(model, [6]), one_by_one(model, [6]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("most", [LARGEST_BATCH, 2 * LARGEST_BATCH])
def test_large_batches_take_part_where_that_is_faster(most, monkeypatch):
    monkeypatch.setattr(arranged, "largest_batch", lambda: most)
    model = model_of("bert")
    in_use(model)
    layers, activation = bert.layers_of(model), bert.activation_of(model)
    assert few_calls.arranged_layers(layers, activation, states_of(model, [most])) is not None
    assert few_calls.arranged_layers(layers, activation, states_of(model, [most + 1])) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_large_batches_give_what_the_layers_give_one_by_one(family, monkeypatch):
    monkeypatch.setattr(arranged, "largest_batch", lambda: sys.maxsize)
    model, lengths = with_biases(model_of(family)), [60, 60, 41, 33, 33, 20, 1]
    assert sum(lengths) > LARGEST_BATCH
    torch.testing.assert_close(run(model, lengths), one_by_one(model, lengths), atol=1e-5, rtol=1e-5)


def test_a_model_by_itself_and_rows_beside_others_agree():
    model, lengths = model_of("bert"), [8, 3]
    in_use(model)
    together = run(model, lengths)
    with torch.inference_mode():
        layout = PackedLayout.of([8])
        alone = bert.run_layers(
            states_of(model, lengths)[:8],
            bert.layers_of(model),
            model.config.num_attention_heads,
            bert.activation_of(model),
            layout,
            None,
        )
    torch.testing.assert_close(together[:8], alone, atol=1e-5, rtol=1e-5)
