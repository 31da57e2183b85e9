"""Our forward against transformers' own, and all that has to keep ours away."""

from __future__ import annotations

import copy
import types

import numpy as np
import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend import arranged, native
from sentence_transformers.backend.native import ACTIVATIONS, distance_buckets, forward_of, runs, serves
from sentence_transformers.inputs.packing import PackedLayout
from sentence_transformers.modules.transformer.architectures import position_offset
from tiny import FAMILIES, VOCABULARY_SIZE, WIDTH, sample_texts, tiny_checkpoint, tiny_model

LONGEST = 400


def camembert_model():
    from transformers import AutoModel, CamembertConfig

    settings = {**FAMILIES["roberta"].settings, "max_position_embeddings": LONGEST + 2}
    torch.manual_seed(0)
    return AutoModel.from_config(
        CamembertConfig(vocab_size=VOCABULARY_SIZE, pad_token_id=1, **settings)
    ).eval()


SERVED = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "mpnet")


def model_of(family, **settings):
    """A tiny model with room for long rows; after 128 tokens, MPNet's distances share their last bucket."""
    if family == "camembert":
        return camembert_model()
    return tiny_model(family, max_position_embeddings=LONGEST + 2, **settings)


def rows_of(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, VOCABULARY_SIZE, (length,), generator=generator).tolist() for length in lengths]


def ours(model, rows, kinds=None, **wishes):
    layout = PackedLayout.of([len(row) for row in rows])
    with torch.inference_mode():
        forward = forward_of(model, **wishes)
        assert forward is not None
        options = {} if kinds is None else {"token_type_ids": flat(kinds)}
        return forward(
            layout,
            input_ids=flat(rows),
            position_ids=layout.positions(position_offset(model.config)),
            **options,
        )[0]


def theirs(model, rows, kinds=None):
    """Each row by itself, so that there is nothing to mask."""
    with torch.inference_mode():
        options = [{} if kinds is None else {"token_type_ids": flat([kind])} for kind in kinds or rows]
        return torch.cat([model(input_ids=flat([row]), **kind)[0][0] for row, kind in zip(rows, options)])


def flat(rows):
    return torch.tensor([[token for row in rows for token in row]])


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize(
    "lengths", [[1], [2, 1], [17, 17, 5, 3, 3, 1], [LONGEST, 130, 127], [60] * 5], ids=str
)
def test_our_forward_gives_what_transformers_gives(family, lengths):
    model, rows = model_of(family), rows_of(lengths)
    for _ in range(arranged.BATCHES_BEFORE + 2):  # also once the weights have been arranged
        torch.testing.assert_close(ours(model, rows), theirs(model, rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize(
    "lengths", [[1], [2, 1], [17, 17, 5, 3, 3, 1], [3, 17, 3], [LONGEST, 130, 127], [60] * 5], ids=str
)
def test_first_tokens_alone_are_the_first_of_all_tokens(family, lengths):
    model, rows = model_of(family), rows_of(lengths)
    for layer in native.layers_of(model):  # biases begin as zeros, and one of them is left out of the scores
        for part in layer[:4]:
            torch.nn.init.normal_(part.bias)
    for _ in range(arranged.BATCHES_BEFORE + 2):
        found = ours(model, rows, first_tokens_only=True)
        starts = PackedLayout.of(lengths).cumulative()[:-1].long()
        torch.testing.assert_close(found, theirs(model, rows)[starts], atol=1e-5, rtol=1e-5)


def test_first_tokens_of_a_model_without_biases_or_layers_are_computed_too():
    model, rows = model_of("bert"), rows_of([9, 4, 4])
    for part in native.layers_of(model)[-1][:3]:
        part.bias = None
    torch.testing.assert_close(
        ours(model, rows, first_tokens_only=True), theirs(model, rows)[[0, 9, 13]], atol=1e-5, rtol=1e-5
    )
    model.encoder.layer = model.encoder.layer[:0]
    torch.testing.assert_close(ours(model, rows, first_tokens_only=True), theirs(model, rows)[[0, 9, 13]])


def test_first_tokens_in_half_precision_are_as_exact_as_all_tokens():
    model, rows = model_of("bert"), rows_of([60, 9, 4])
    exact = theirs(model, rows)[[0, 60, 69]]
    model.to(torch.bfloat16)
    off = (ours(model, rows)[[0, 60, 69]].float() - exact).abs().mean()
    off_alone = (ours(model, rows, first_tokens_only=True).float() - exact).abs().mean()
    assert off_alone < 1.5 * off


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_first_tokens_on_cuda_are_the_first_of_all_tokens():
    model, rows = model_of("mpnet"), rows_of([60, 9, 4])
    expected = ours(model, rows)[[0, 60, 69]]
    layout = PackedLayout.of([60, 9, 4])
    model.to("cuda")
    with torch.inference_mode():
        positions = layout.positions(position_offset(model.config)).cuda()
        forward = forward_of(model, first_tokens_only=True)
        found = forward(layout, input_ids=flat(rows).cuda(), position_ids=positions)
    torch.testing.assert_close(found[0].cpu(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_token_types_are_added_where_rows_have_them(family):
    model, rows = model_of(family), rows_of([9, 4])
    kinds = [[0] * 5 + [1] * 4, [0, 1, 1, 0]]
    found = ours(model, rows, kinds)
    torch.testing.assert_close(found, theirs(model, rows, kinds), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, ours(model, rows))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_the_table_is_transformers_own(activation):
    model, rows = model_of("bert", hidden_act=activation), rows_of([9, 4])
    torch.testing.assert_close(ours(model, rows), theirs(model, rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("table", [32, 64])
def test_far_positions_share_buckets_as_in_mpnet(table):
    model = model_of("mpnet", relative_attention_num_buckets=table)
    expected = model.encoder.compute_position_bias(torch.zeros(1, LONGEST, WIDTH))
    found = native.position_bias(model, PackedLayout.of([LONGEST]))
    torch.testing.assert_close(found, expected[:1])
    # All are in use but the one for distance zero to what lies behind.
    used = distance_buckets(LONGEST, 32, torch.device("cpu")).unique().tolist()
    assert used == [bucket for bucket in range(32) if bucket != 16]


def test_a_model_in_half_precision_is_served_too():
    model, rows = model_of("bert").to(torch.bfloat16), rows_of([9, 4])
    found = ours(model, rows)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, theirs(model, rows), atol=0.1, rtol=0.1)


def test_a_model_whose_last_layers_were_taken_off_is_served_as_it_is_now():
    model, rows = model_of("bert"), rows_of([9, 4])
    whole = ours(model, rows)
    model.encoder.layer = model.encoder.layer[:1]
    found = ours(model, rows)
    torch.testing.assert_close(found, theirs(model, rows), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, whole)


@pytest.mark.parametrize("family", ["albert", "modernbert", "nomic-bert", "deberta-v2", "t5", "llama"])
def test_other_architectures_are_left_to_transformers(family):
    model = tiny_model(family)
    assert not serves(model)
    with torch.inference_mode():
        assert forward_of(model) is None


@pytest.mark.parametrize("settings", [{"hidden_act": "silu"}, {"is_decoder": True}], ids=str)
def test_other_configurations_are_left_to_transformers(settings):
    assert not serves(tiny_model("bert", **settings))


def test_a_subclass_of_a_known_model_is_left_to_transformers():
    model = tiny_model("bert")
    model.__class__ = type("BertModel", (type(model),), {"__module__": "my.bert"})
    assert not serves(model)


# -- what people put into models --------------------------------------------------------------------------


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


def hook_a_linear_layer(model):
    model.encoder.layer[0].output.dense.register_forward_hook(twice)


def hook_what_goes_into_a_linear_layer(model):
    model.encoder.layer[1].intermediate.dense.register_forward_pre_hook(twice)


def hook_a_whole_layer(model):
    model.encoder.layer[0].register_forward_hook(twice)


def hook_the_attention_of_a_layer(model):
    model.encoder.layer[1].attention.register_forward_hook(twice)


def hook_the_embeddings(model):
    model.embeddings.register_forward_hook(twice)


def hook_the_word_embeddings(model):
    model.embeddings.word_embeddings.register_forward_hook(twice)


def hook_the_model(model):
    def double_states(module, inputs, output):
        output.last_hidden_state = 2 * output.last_hidden_state
        return output

    model.register_forward_hook(double_states)


def replace_a_linear_layer(model):
    old = model.encoder.layer[0].attention.self.query
    new = Doubled(old.in_features, old.out_features)
    new.load_state_dict(old.state_dict())
    model.encoder.layer[0].attention.self.query = new


def replace_the_activation(model):
    model.encoder.layer[0].intermediate.intermediate_act_fn = nn.Sequential(nn.Tanh())


def replace_the_norm_of_the_embeddings(model):
    model.embeddings.LayerNorm = nn.Identity()


def replace_the_embedding_table(model):
    class Tripled(nn.Embedding):
        def forward(self, ids):
            return 3 * super().forward(ids)

    old = model.embeddings.word_embeddings
    new = Tripled(old.num_embeddings, old.embedding_dim)
    new.load_state_dict(old.state_dict())
    model.embeddings.word_embeddings = new


def patch_the_forward_of_a_part(model):
    part = model.encoder.layer[1].output
    original = part.forward
    part.forward = types.MethodType(lambda self, *args: 2 * original(*args), part)


def parametrize_a_weight(model):
    class Negative(nn.Module):
        def forward(self, weight):
            return -weight

    nn.utils.parametrize.register_parametrization(model.encoder.layer[0].output.dense, "weight", Negative())


def prune_a_weight(model):
    from torch.nn.utils import prune

    prune.l1_unstructured(model.encoder.layer[0].output.dense, "weight", amount=0.5)


def put_a_weight_of_another_kind(model):
    class Negated(torch.Tensor):
        """A weight that counts the other way round, as quantised weights are tensors of their own kinds."""

        @classmethod
        def __torch_function__(cls, function, kinds, args=(), kwargs=None):
            def plain(value):
                return -value.as_subclass(torch.Tensor) if isinstance(value, cls) else value

            if function is nn.functional.linear:
                return function(*map(plain, args), **(kwargs or {}))
            return super().__torch_function__(function, kinds, args, kwargs)

    layer = model.encoder.layer[0].output.dense
    layer.weight = nn.Parameter(layer.weight.detach().as_subclass(Negated), requires_grad=False)


def add_lora_to_the_attention(model):
    inject_lora(model, ["query", "value"])


def add_lora_to_the_word_embeddings(model):
    inject_lora(model, ["word_embeddings"])


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
def checkpoint(tmp_path_factory):
    return tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def opened(checkpoint):
    model = SentenceTransformer(str(checkpoint), device="cpu")
    assert model[0].auto_model is not None
    return model


@pytest.fixture
def model(opened):
    """A model to do anything to."""
    return copy.deepcopy(opened)


TEXTS = [*sample_texts()[:5], "short", "two words"]


def averaged(model, texts):
    """Transformers' own forward over padded rows, and the plain average."""
    features = model.tokenizer(texts, return_tensors="pt", truncation=True, max_length=128, padding=True)
    with torch.no_grad():
        states = model[0].auto_model(**features).last_hidden_state
    kept = features["attention_mask"].bool()
    return np.stack([row[mask].mean(dim=0).numpy() for row, mask in zip(states, kept)])


@pytest.mark.parametrize("touch", TOUCHES, ids=lambda touch: touch.__name__)
def test_what_has_been_put_into_a_model_keeps_our_forward_away_and_counts(model, touch):
    before = model.encode(TEXTS)
    assert runs(model[0].auto_model)
    touch(model[0].auto_model)
    assert not runs(model[0].auto_model)
    found = model.encode(TEXTS)
    np.testing.assert_allclose(found, averaged(model, TEXTS), atol=1e-5)
    assert np.abs(found - before).max() > 1e-3


def test_a_hook_sees_padded_rows_and_once_removed_is_forgotten(model):
    shapes = []
    handle = model[0].auto_model.encoder.register_forward_hook(
        lambda module, inputs, output: shapes.append(output.last_hidden_state.shape)
    )
    model.encode(TEXTS)
    handle.remove()
    assert [shape[0] for shape in shapes] == [len(TEXTS)]
    model.encode(TEXTS)
    assert len(shapes) == 1
    assert runs(model[0].auto_model)


def test_a_hook_on_everything_is_honoured(model):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append(type(module).__name__)
    )
    try:
        found = model.encode(TEXTS)
    finally:
        handle.remove()
    assert "BertLayer" in seen
    np.testing.assert_allclose(found, averaged(model, TEXTS), atol=1e-5)


def test_gradients_autocast_and_training_keep_our_forward_away():
    model = tiny_model("bert")
    assert forward_of(model) is None  # gradients are wanted
    with torch.no_grad():
        assert forward_of(model) is not None
        with torch.autocast("cpu", torch.bfloat16):
            assert forward_of(model) is None
        model.train()
        assert forward_of(model) is None


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
