"""Checkpoints opened without transformers: the same model, and only where nothing is unusual."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend import native
from sentence_transformers.backend.lean import CLASSES, LeanEncoder, grown, open_lean
from sentence_transformers.inputs.packing import PackedLayout
from sentence_transformers.modules.transformer.architectures import position_offset
from tiny import FAMILIES, VOCABULARY_SIZE, sample_texts, tiny_checkpoint

TEXTS = sample_texts()[:6]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of each model type that can be opened this way."""
    from transformers import AutoModel, CamembertConfig

    root = tmp_path_factory.mktemp("checkpoints")
    for family in CLASSES:
        if family in FAMILIES:
            tiny_checkpoint(family, root / family)
    torch.manual_seed(0)
    settings = FAMILIES["roberta"].settings
    config = CamembertConfig(vocab_size=VOCABULARY_SIZE, pad_token_id=1, **settings)
    AutoModel.from_config(config).save_pretrained(root / "camembert")
    return {family: root / family for family in CLASSES}


@pytest.fixture
def folder(folders, tmp_path):
    """A BERT checkpoint to spoil."""
    return Path(shutil.copytree(folders["bert"], tmp_path / "checkpoint"))


def outputs(model, lengths=(9, 4, 4, 1)):
    generator = torch.Generator().manual_seed(0)
    layout = PackedLayout.of(lengths)
    tokens = torch.randint(5, VOCABULARY_SIZE, (1, layout.total), generator=generator)
    with torch.inference_mode():
        forward = native.forward_of(model)
        assert forward is not None
        return forward(layout, input_ids=tokens, position_ids=layout.positions(position_offset(model.config)))


@pytest.mark.parametrize("family", CLASSES)
def test_a_lean_model_has_transformers_parameters_and_computes_the_same(family, folders):
    from transformers import AutoModel

    lean, whole = open_lean(folders[family]), AutoModel.from_pretrained(folders[family]).eval()
    assert isinstance(lean, LeanEncoder)
    assert lean.class_name == type(whole).__name__
    assert not lean.training
    own, theirs = dict(lean.named_parameters()), dict(whole.named_parameters())
    assert own.keys() == theirs.keys()
    for name, parameter in own.items():
        assert torch.equal(parameter, theirs[name])
        assert parameter.requires_grad
    assert lean.state_dict().keys() == whole.state_dict().keys()
    assert torch.equal(outputs(lean), outputs(whole))


@pytest.mark.parametrize("family", CLASSES)
def test_a_grown_model_is_transformers_own_and_shares_the_very_parameters(family, folders):
    from transformers import AutoModel

    lean, whole = open_lean(folders[family]), AutoModel.from_pretrained(folders[family])
    model = grown(lean)
    assert type(model) is type(whole)
    assert model.config.to_dict() == {**whole.config.to_dict(), "dtype": model.config.to_dict()["dtype"]}
    for name, parameter in model.named_parameters():
        assert parameter is lean.get_parameter(name)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in whole.named_parameters()]
    assert torch.equal(outputs(model), outputs(lean))
    inputs = {"input_ids": torch.tensor([[7, 8, 9]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    with torch.no_grad():
        assert torch.equal(model(**inputs)[0], whole(**inputs)[0])


def test_a_model_grows_after_its_folder_has_gone(folder):
    model = SentenceTransformer(str(folder), device="cpu")
    before = model.encode(TEXTS)
    shutil.rmtree(folder)
    assert type(model[0].auto_model).__name__ == "BertModel"
    np.testing.assert_allclose(model.encode(TEXTS), before, atol=1e-6)


def test_growing_keeps_type_mode_and_what_is_frozen(folders):
    lean = open_lean(folders["bert"])
    lean.to(torch.bfloat16).train()
    lean.get_parameter("embeddings.word_embeddings.weight").requires_grad_(False)
    model = grown(lean)
    assert model.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.training
    assert model.encoder.layer[1].training
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["embeddings.word_embeddings.weight"]
    assert model.device == torch.device("cpu")


def test_neither_opening_nor_growing_draws_random_numbers(folders):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    grown(open_lean(folders["bert"]))
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_that_ask_for_the_transformers_model_get_the_same_one(folders):
    model = SentenceTransformer(str(folders["bert"]), device="cpu")
    barrier, found = threading.Barrier(8), []

    def ask():
        barrier.wait()
        found.append(model[0].auto_model)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda lean: pickle.loads(pickle.dumps(lean))], ids=["copy", "pickle"]
)
def test_a_lean_model_can_be_copied_and_sent(folders, copied):
    lean = open_lean(folders["mpnet"])
    other = copied(lean)
    assert torch.equal(outputs(other), outputs(lean))
    assert torch.equal(outputs(grown(other)), outputs(lean))
    assert next(other.parameters()).data_ptr() != next(lean.parameters()).data_ptr()


def test_opening_and_encoding_import_no_transformers(folders, minilm_path):
    program = (
        "import sys, json\n"
        "from pathlib import Path\n"
        "from sentence_transformers import SentenceTransformer\n"
        "from sentence_transformers.backend.lean import open_lean\n"
        "assert all(open_lean(Path(folder)) is not None for folder in sys.argv[2:])\n"
        "model = SentenceTransformer(sys.argv[1], device='cpu')\n"
        "assert model.encode(['one text', 'another']).shape == (2, 384)\n"
        "assert 'transformers' not in sys.modules\n"
        "assert type(model[0].auto_model).__name__ == 'BertModel'\n"
    )
    command = [sys.executable, "-c", program, str(minilm_path), *map(str, folders.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- what calls for transformers --------------------------------------------------------------------------


def changed_settings(folder, **changes):
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    for name, value in changes.items():
        if value is Ellipsis:
            settings.pop(name, None)
        else:
            settings[name] = value
    path.write_text(json.dumps(settings), encoding="utf-8")


def changed_weights(folder, change):
    path = folder / "model.safetensors"
    state = change(load_file(path))
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "albert"},
        {"model_type": "distilbert"},
        {"hidden_act": "silu"},
        {"hidden_size": 64},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 1},
        {"vocab_size": 401},
        {"max_position_embeddings": 64},
        {"intermediate_size": 65},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"add_cross_attention": True},
        {"output_hidden_states": True},
        {"output_attentions": True},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"auto_map": {"AutoModel": "modeling_mine.MyModel"}},
        {"adapters": {"adapters": {}, "fusions": {}, "config_map": {}}},
        {"pruned_heads": {"0": [1]}},
        {"dtype": "float16"},
        {"torch_dtype": "bfloat16"},
        {"architectures": ["BertForMaskedLM"]},
        {"architectures": None},
        {"architectures": []},
        {"architectures": ...},
        *({name: ...} for name in ("hidden_act", "layer_norm_eps", "pad_token_id", "num_attention_heads")),
        {"vocab_size": None},
    ],
    ids=str,
)
def test_an_unusual_configuration_is_left_to_transformers(folder, changes):
    assert open_lean(folder) is not None
    changed_settings(folder, **changes)
    assert open_lean(folder) is None


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    "change",
    [
        without("pooler.dense.weight"),
        without("encoder.layer.1.output.dense.bias"),
        lambda state: {**state, "encoder.layer.0.adapter.weight": torch.zeros(2, 2)},
        lambda state: {f"bert.{name}": value for name, value in state.items()},
        lambda state: {name: value.half() for name, value in state.items()},
        lambda state: {**state, "pooler.dense.weight": state["pooler.dense.weight"].bfloat16()},
        lambda state: {**state, "pooler.dense.weight": torch.zeros(32, 31)},
        lambda state: {
            name.replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in state.items()
        },
    ],
    ids=["no weight", "no bias", "more", "prefix", "half", "mixed", "shape", "old names"],
)
def test_unusual_weights_are_left_to_transformers(folder, change):
    changed_weights(folder, change)
    assert open_lean(folder) is None


def test_saved_position_numbers_are_no_hindrance(folder):
    changed_weights(folder, lambda state: {**state, "embeddings.position_ids": torch.arange(128)[None]})
    lean = open_lean(folder)
    assert lean is not None
    assert "embeddings.position_ids" not in lean.state_dict()


def test_folders_without_the_usual_files_or_with_an_adapter_are_left_to_transformers(folder, tmp_path):
    assert open_lean(tmp_path) is None
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert open_lean(folder) is None
    (folder / "adapter_config.json").unlink()
    (folder / "config.json").rename(folder / "other.json")
    assert open_lean(folder) is None
    (folder / "other.json").rename(folder / "config.json")
    assert open_lean(folder) is not None
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    assert open_lean(folder) is None


def test_damaged_weights_are_an_error_that_names_the_file(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        open_lean(folder)


@pytest.mark.parametrize(
    "arguments",
    [
        {"model_kwargs": {"dtype": torch.float16}},
        {"model_kwargs": {"attn_implementation": "eager"}},
        {"config_kwargs": {"hidden_dropout_prob": 0.3}},
    ],
    ids=str,
)
def test_a_caller_s_wishes_are_left_to_transformers(folders, arguments):
    model = SentenceTransformer(str(folders["bert"]), device="cpu", **arguments)
    assert not isinstance(model[0]._model, LeanEncoder)


# -- what people put into a lean model --------------------------------------------------------------------


class Doubled(nn.Linear):
    def forward(self, states):
        return 2 * super().forward(states)


@pytest.fixture
def model(folders):
    model = SentenceTransformer(str(folders["bert"]), device="cpu")
    assert isinstance(model[0]._model, LeanEncoder)
    return model


def linears(model):
    return {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}


def test_hooks_set_before_it_has_grown_are_called_and_can_be_removed(model):
    shapes = {}
    handles = [
        part.register_forward_hook(
            lambda part, inputs, output, name=name: shapes.update({name: output.shape})
        )
        for name, part in linears(model).items()
        if "pooler" not in name
    ]
    before = model.encode(TEXTS)
    assert len(shapes) == len(handles) == 12
    assert {shape[0] for shape in shapes.values()} == {len(TEXTS)}
    for handle in handles:
        handle.remove()
    shapes.clear()
    np.testing.assert_allclose(model.encode(TEXTS), before, atol=1e-5)
    assert not shapes


def test_a_hook_on_a_container_is_called(model):
    seen = []
    layers = [part for name, part in model.named_modules() if name.endswith("encoder.layer.1")]
    layers[0].register_forward_hook(lambda part, inputs, output: seen.append(type(part).__name__))
    model.encode(TEXTS)
    assert seen == ["BertLayer"]


def test_a_layer_put_in_before_it_has_grown_is_in_the_grown_model(model, folders):
    before = model.encode(TEXTS)
    expected = SentenceTransformer(str(folders["bert"]), device="cpu")
    assert expected[0].auto_model is not None
    for changed in (model, expected):
        for name, part in linears(changed).items():
            if name.endswith("query"):
                new = Doubled(part.in_features, part.out_features)
                new.load_state_dict(part.state_dict())
                changed.set_submodule(name, new)
    np.testing.assert_allclose(model.encode(TEXTS), expected.encode(TEXTS), atol=1e-6)
    assert isinstance(model[0].auto_model.encoder.layer[0].attention.self.query, Doubled)
    assert np.abs(model.encode(TEXTS) - before).max() > 1e-2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_whose_linear_layers_were_quantised_by_torch_works(model):
    from torch.ao.quantization import quantize_dynamic

    before = model.encode(TEXTS)
    quantised = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    after = quantised.encode(TEXTS)
    cosine = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert cosine.min() > 0.95
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_array_equal(model.encode(TEXTS), before)


def test_what_was_taken_out_before_it_has_grown_stays_out(folders):
    lean = open_lean(folders["bert"])
    del lean.encoder.layer[1]
    del lean._modules["pooler"]
    model = grown(lean)
    assert len(model.encoder.layer) == 1
    assert model.pooler is None
    assert torch.equal(outputs(model), outputs(lean))
