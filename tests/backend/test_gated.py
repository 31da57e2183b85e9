"""The switches of ModernBERT's and NomicBERT's configurations: those that are computed, and those that are not."""

from __future__ import annotations

import pytest
import torch

from native_cases import GATED, LONGEST, flat, model_of, ours, rows_of, theirs, with_biases
from sentence_transformers.backend import fixed_shapes, gated
from sentence_transformers.backend.gated import GATES
from sentence_transformers.backend.native import forward_of, keeps_bits, serves
from sentence_transformers.inputs.packing import PackedLayout
from tiny import tiny_model

YARN = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "original_max_position_embeddings": LONGEST // 4,
}

MODERNBERT = [
    {"num_hidden_layers": 5, "global_attn_every_n_layers": 3},
    {"layer_types": ["sliding_attention", "full_attention"]},
    {"layer_types": ["sliding_attention", "sliding_attention"]},
    {"layer_types": ["full_attention", "full_attention"]},
    {"local_attention": 2},
    {"local_attention": 7},
    {"local_attention": 200},
    {"global_rope_theta": 5000.0, "local_rope_theta": 77.0},
    {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    {"norm_bias": True},
    {"attention_bias": True, "mlp_bias": True},
    {"num_attention_heads": 1},
    {"num_attention_heads": 8, "norm_eps": 1e-2},
    {"attention_dropout": 0.3, "mlp_dropout": 0.3, "embedding_dropout": 0.3},
]

NOMICBERT = [
    {"head_dim": 16},
    {"num_attention_heads": 2, "layer_norm_eps": 1e-2},
    {"type_vocab_size": 1},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
    {"rope_parameters": YARN, "max_position_embeddings": LONGEST},
    {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3},
]

SWITCHES = [
    *(("modernbert", settings) for settings in MODERNBERT),
    *(("nomic-bert", settings) for settings in NOMICBERT),
    *(("modernbert", {"hidden_activation": name}) for name in GATES),
    *(("nomic-bert", {"hidden_act": name}) for name in GATES),
]


@pytest.mark.parametrize(("family", "settings"), SWITCHES, ids=str)
def test_every_switch_is_computed_as_transformers_does(family, settings):
    if "max_position_embeddings" not in settings:
        settings = {"max_position_embeddings": LONGEST + 2, **settings}
    model, rows = with_biases(tiny_model(family, **settings)), rows_of([LONGEST, 130, 17, 17, 1])
    expected = theirs(model, rows)
    torch.testing.assert_close(ours(model, rows), expected, atol=1e-5, rtol=1e-5)
    starts = PackedLayout.of([len(row) for row in rows]).cumulative()[:-1].long()
    found = ours(model, rows, first_tokens_only=True)
    torch.testing.assert_close(found, expected[starts], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", GATED)
def test_eager_attention_gives_the_same(family):
    model, rows = model_of(family), rows_of([60, 9, 1])
    found = ours(model, rows)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(found, theirs(model, rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", GATED)
def test_padded_rows_of_transformers_are_the_same(family):
    model, rows = model_of(family), rows_of([60, 9, 9, 1])
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.no_grad():
        padded = model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
    torch.testing.assert_close(ours(model, rows), padded, atol=1e-5, rtol=1e-5)


def test_a_token_beyond_the_window_of_all_layers_does_not_count():
    model, [row] = tiny_model("modernbert", layer_types=["sliding_attention"] * 2), rows_of([30])
    changed = [row[0], *rows_of([29], seed=1)[0]]
    same = [*row[:20], *changed[20:]]  # in each of two layers a token sees 4 to each side
    torch.testing.assert_close(ours(model, [row])[:12], ours(model, [same])[:12], atol=1e-6, rtol=0)
    assert not torch.allclose(ours(model, [row])[12], ours(model, [same])[12], atol=1e-4)


@pytest.mark.parametrize("family", GATED)
def test_positions_that_are_given_are_used(family):
    """As rows hold them that do not begin at their first token."""
    model, [row] = model_of(family), rows_of([12])
    positions = torch.arange(12)[None] * 3 + 5
    with torch.inference_mode():
        found = forward_of(model)(PackedLayout.of([12]), input_ids=flat([row]), position_ids=positions)
        expected = model(input_ids=flat([row]), position_ids=positions).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found[0], ours(model, [row]), atol=1e-3)


DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}

LEFT = [
    ("modernbert", {"hidden_activation": "mish"}),
    ("modernbert", {"rope_scaling": DYNAMIC}),
    ("modernbert", {"is_decoder": True}),
    ("nomic-bert", {"hidden_act": "mish"}),
    ("nomic-bert", {"rope_parameters": {**DYNAMIC, "rope_theta": 1000.0}}),
    ("nomic-bert", {"is_decoder": True}),
]


@pytest.mark.parametrize(("family", "settings"), LEFT, ids=str)
def test_other_configurations_are_left_to_transformers(family, settings):
    assert not serves(tiny_model(family, **settings))


@pytest.mark.parametrize("family", GATED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_in_fixed_shapes_a_row_has_the_same_bits_beside_any_others(family, dtype):
    model, rows = with_biases(model_of(family)).to(dtype), rows_of([90, 90, 33, 5, 1])
    with torch.inference_mode(), fixed_shapes.fixed_shapes():
        assert keeps_bits(model)
        alone = [ours(model, [row]) for row in rows]
        assert torch.equal(ours(model, rows), torch.cat(alone))
        assert torch.equal(ours(model, rows[2:]), torch.cat(alone[2:]))
        first = ours(model, rows, first_tokens_only=True)
    assert torch.equal(first, torch.stack([states[0] for states in alone]))
    if dtype == torch.float32:
        torch.testing.assert_close(torch.cat(alone), theirs(model, rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", GATED)
def test_layers_of_one_kind_share_their_angles(family, monkeypatch):
    computed = []
    turns_of = gated.rotary.turns_of
    monkeypatch.setattr(
        gated.rotary, "turns_of", lambda *given, **options: computed.append(1) or turns_of(*given, **options)
    )
    ours(tiny_model(family, num_hidden_layers=6), rows_of([5]))
    assert len(computed) == (2 if family == "modernbert" else 1)
