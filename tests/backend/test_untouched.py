"""What people put into models, all of which has to keep our forward away."""

from __future__ import annotations

import copy
import types
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from native_cases import GATED, TEXTS, averaged
from sentence_transformers import SentenceTransformer
from sentence_transformers.backend.native import runs
from tiny import tiny_checkpoint


@dataclass(frozen=True)
class Places:
    """Where a family keeps what is touched."""

    words: str
    norm: str
    layer: str
    attention: str
    projected: str
    widened: str
    activation: str
    narrowed: str
    half: str


PLACES = {
    "bert": Places(
        words="embeddings.word_embeddings",
        norm="embeddings.LayerNorm",
        layer="encoder.layer.0",
        attention="encoder.layer.1.attention",
        projected="encoder.layer.0.attention.self.query",
        widened="encoder.layer.1.intermediate.dense",
        activation="encoder.layer.0.intermediate.intermediate_act_fn",
        narrowed="encoder.layer.0.output.dense",
        half="encoder.layer.1.output",
    ),
    "modernbert": Places(
        words="embeddings.tok_embeddings",
        norm="final_norm",
        layer="layers.0",
        attention="layers.1.attn",
        projected="layers.0.attn.Wqkv",
        widened="layers.1.mlp.Wi",
        activation="layers.0.mlp.act",
        narrowed="layers.0.mlp.Wo",
        half="layers.1.mlp",
    ),
    "nomic-bert": Places(
        words="embeddings.word_embeddings",
        norm="layers.1.post_attention_layernorm",
        layer="layers.0",
        attention="layers.1.self_attn",
        projected="layers.0.self_attn.q_proj",
        widened="layers.1.mlp.gate_proj",
        activation="layers.0.mlp.act_fn",
        narrowed="layers.0.mlp.down_proj",
        half="layers.1.mlp",
    ),
}


def at(model, path):
    return model.get_submodule(path)


class Doubled(nn.Linear):
    """A layer of one's own."""

    def forward(self, states):
        return 2 * super().forward(states)


def twice(module, inputs, output=None):
    """A hook that doubles what a module gives; one that is called before it, what it gets."""
    value = inputs if output is None else output
    if isinstance(value, tuple):
        return (2 * value[0], *value[1:])
    return 2 * value


def hook_a_linear_layer(model, places):
    at(model, places.narrowed).register_forward_hook(twice)


def hook_what_goes_into_a_linear_layer(model, places):
    at(model, places.widened).register_forward_pre_hook(twice)


def hook_a_whole_layer(model, places):
    at(model, places.layer).register_forward_hook(twice)


def hook_the_attention_of_a_layer(model, places):
    at(model, places.attention).register_forward_hook(twice)


def hook_the_embeddings(model, places):
    model.embeddings.register_forward_hook(twice)


def hook_the_word_embeddings(model, places):
    # A norm may follow at once, to which a factor makes no difference.
    at(model, places.words).register_forward_hook(lambda module, inputs, output: -output)


def hook_the_model(model, places):
    def double_states(module, inputs, output):
        output.last_hidden_state = 2 * output.last_hidden_state
        return output

    model.register_forward_hook(double_states)


def replace_a_linear_layer(model, places):
    old = at(model, places.projected)
    new = Doubled(old.in_features, old.out_features, bias=old.bias is not None)
    new.load_state_dict(old.state_dict())
    model.set_submodule(places.projected, new)


def replace_the_activation(model, places):
    model.set_submodule(places.activation, nn.Sequential(nn.Tanh()))


def replace_the_activation_by_another_of_torch(model, places):
    model.set_submodule(places.activation, nn.Tanh())


def leave_the_activation_out(model, places):
    model.set_submodule(places.activation, nn.Identity())


def replace_the_norm_of_the_embeddings(model, places):
    model.set_submodule(places.norm, nn.Identity())


def replace_the_embedding_table(model, places):
    class Negative(nn.Embedding):
        def forward(self, ids):
            return -super().forward(ids)

    old = at(model, places.words)
    new = Negative(old.num_embeddings, old.embedding_dim)
    new.load_state_dict(old.state_dict())
    model.set_submodule(places.words, new)


def patch_the_forward_of_a_part(model, places):
    part = at(model, places.half)
    original = part.forward
    part.forward = types.MethodType(lambda self, *args: 2 * original(*args), part)


def parametrize_a_weight(model, places):
    class Negative(nn.Module):
        def forward(self, weight):
            return -weight

    nn.utils.parametrize.register_parametrization(at(model, places.narrowed), "weight", Negative())


def prune_a_weight(model, places):
    from torch.nn.utils import prune

    prune.l1_unstructured(at(model, places.narrowed), "weight", amount=0.5)


def put_a_weight_of_another_kind(model, places):
    class Negated(torch.Tensor):
        """A weight that counts the other way round, as quantised weights are tensors of their own kinds."""

        @classmethod
        def __torch_function__(cls, function, kinds, args=(), kwargs=None):
            def plain(value):
                return -value.as_subclass(torch.Tensor) if isinstance(value, cls) else value

            if function is nn.functional.linear:
                return function(*map(plain, args), **(kwargs or {}))
            return super().__torch_function__(function, kinds, args, kwargs)

    layer = at(model, places.narrowed)
    layer.weight = nn.Parameter(layer.weight.detach().as_subclass(Negated), requires_grad=False)


def add_lora_to_the_attention(model, places):
    inject_lora(model, [places.projected.rpartition(".")[2]])


def add_lora_to_the_word_embeddings(model, places):
    inject_lora(model, [places.words.rpartition(".")[2]])


def inject_lora(model, targets):
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(1)
    inject_adapter_in_model(LoraConfig(r=2, target_modules=targets, init_lora_weights=False), model)


TOUCHES = [
    hook_a_linear_layer,
    hook_what_goes_into_a_linear_layer,
    hook_a_whole_layer,
    hook_the_attention_of_a_layer,
    hook_the_embeddings,
    hook_the_word_embeddings,
    hook_the_model,
    replace_a_linear_layer,
    replace_the_activation,
    replace_the_activation_by_another_of_torch,
    leave_the_activation_out,
    replace_the_norm_of_the_embeddings,
    replace_the_embedding_table,
    patch_the_forward_of_a_part,
    parametrize_a_weight,
    prune_a_weight,
    put_a_weight_of_another_kind,
    add_lora_to_the_attention,
    add_lora_to_the_word_embeddings,
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    @cache
    def opened(family):
        model = SentenceTransformer(
            str(tiny_checkpoint(family, tmp_path_factory.mktemp(family))), device="cpu"
        )
        assert model[0].auto_model is not None
        return model

    return opened


@pytest.fixture(params=["bert", *GATED])
def family(request):
    return request.param


@pytest.fixture
def model(opened, family):
    """A model to do anything to."""
    return copy.deepcopy(opened(family))


@pytest.mark.parametrize("touch", TOUCHES, ids=lambda touch: touch.__name__)
def test_what_has_been_put_into_a_model_keeps_our_forward_away_and_counts(family, model, touch):
    before = model.encode(TEXTS)
    assert runs(model[0].auto_model)
    touch(model[0].auto_model, PLACES[family])
    assert not runs(model[0].auto_model)
    found = model.encode(TEXTS)
    np.testing.assert_allclose(found, averaged(model, TEXTS), atol=1e-5)
    assert np.abs(found - before).max() > 1e-3


def test_a_hook_sees_padded_rows_and_once_removed_is_forgotten(family, model):
    shapes = []
    handle = at(model[0].auto_model, PLACES[family].words).register_forward_hook(
        lambda module, inputs, output: shapes.append(output.shape)
    )
    model.encode(TEXTS)
    handle.remove()
    assert [shape[0] for shape in shapes] == [len(TEXTS)]
    model.encode(TEXTS)
    assert len(shapes) == 1
    assert runs(model[0].auto_model)


def test_a_hook_on_everything_is_honoured(family, model):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append(type(module).__name__)
    )
    try:
        found = model.encode(TEXTS)
    finally:
        handle.remove()
    assert type(at(model[0].auto_model, PLACES[family].layer)).__name__ in seen
    np.testing.assert_allclose(found, averaged(model, TEXTS), atol=1e-5)


@pytest.mark.parametrize("family", GATED, indirect=True)
def test_a_half_of_a_layer_that_has_been_left_out_keeps_our_forward_away(family, model):
    """By an `nn.Identity`, which ModernBERT itself has in other places."""
    before = model.encode(TEXTS)
    encoder = model[0].auto_model
    encoder.set_submodule(PLACES[family].half, nn.Identity())
    assert not runs(encoder)
    found = model.encode(TEXTS)
    np.testing.assert_allclose(found, averaged(model, TEXTS), atol=1e-5)
    assert np.abs(found - before).max() > 1e-3
