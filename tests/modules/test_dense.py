"""The dense layer computes what it says, and takes its activation only from where it may."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sentence_transformers.modules.dense import Dense, activation_named


def test_the_layer_and_its_activation_replace_the_embedding():
    dense, vectors = Dense(4, 2), torch.randn(3, 4)
    result = dense({"sentence_embedding": vectors})["sentence_embedding"]
    torch.testing.assert_close(result, torch.tanh(vectors @ dense.linear.weight.T + dense.linear.bias))
    assert dense.get_sentence_embedding_dimension() == dense.get_embedding_dimension() == 2


def test_weights_can_be_given_and_the_activation_left_out():
    weight, bias = torch.arange(8.0).reshape(2, 4), torch.tensor([1.0, -1.0])
    dense = Dense(4, 2, activation_function=None, init_weight=weight, init_bias=bias)
    vectors = torch.ones(1, 4)
    assert dense({"sentence_embedding": vectors})["sentence_embedding"].tolist() == [[7.0, 21.0]]


def test_any_entry_can_be_read_and_written():
    dense = Dense(4, 2, bias=False, module_input_name="token_embeddings", module_output_name="small")
    features = dense({"token_embeddings": torch.ones(1, 3, 4)})
    assert features["token_embeddings"].shape == (1, 3, 4)
    assert features["small"].shape == (1, 3, 2)


@pytest.mark.parametrize("width", [4, 2])
def test_a_residual_adds_the_input(width):
    dense, vectors = Dense(4, width, use_residual=True), torch.randn(3, 4, dtype=torch.float64)
    kept = vectors.float() if width == 4 else vectors.float() @ dense.residual.weight.T
    result = dense({"sentence_embedding": vectors})["sentence_embedding"]
    torch.testing.assert_close(result, torch.tanh(dense.linear(vectors.float())) + kept)


def test_vectors_of_another_type_are_converted_to_the_layer_s():
    assert (
        Dense(4, 2).half()({"sentence_embedding": torch.ones(1, 4)})["sentence_embedding"].dtype
        == torch.float16
    )


def test_files_and_keys_are_those_of_every_release(tmp_path):
    dense = Dense(4, 2)
    dense.save(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "in_features": 4,
        "out_features": 2,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    state = load_file(tmp_path / "model.safetensors")
    assert state.keys() == {"linear.weight", "linear.bias"}
    assert state["linear.weight"].equal(dense.linear.weight)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bias": False, "activation_function": nn.Identity()},
        {"activation_function": nn.GELU(), "module_input_name": "token_embeddings"},
        {"module_output_name": "other", "use_residual": True},
    ],
    ids=str,
)
def test_a_saved_layer_is_the_same_again(tmp_path, safe, settings):
    dense = Dense(4, 2, **settings)
    dense.save(str(tmp_path), safe_serialization=safe)
    assert (tmp_path / ("model.safetensors" if safe else "pytorch_model.bin")).is_file()
    loaded = Dense.load(str(tmp_path))
    assert loaded.get_config_dict() == dense.get_config_dict()
    assert loaded.state_dict().keys() == dense.state_dict().keys()
    assert all(loaded.state_dict()[name].equal(tensor) for name, tensor in dense.state_dict().items())


def test_the_newer_form_of_the_settings_is_read(tmp_path):
    Dense(4, 2).save(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    config.update(module_input_name="token_embeddings", module_output_name="token_embeddings", unknown=1)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Dense.load(str(tmp_path)).module_input_name == "token_embeddings"


def test_a_plain_function_cannot_be_saved_by_name(tmp_path):
    # 3.4.1 writes "function", which nobody can load; 6.2.0 loads it as Tanh without a word.
    with pytest.raises(ValueError, match=r"cannot be saved by name.*torch\.nn\.Tanh"):
        Dense(4, 2, activation_function=torch.relu).save(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.print",
        "torch.hub.load",
        "torch.nn.functional.relu",
        "torch.nn.modules.activation.Missing",
        "torch.nn.missing.Tanh",
        "torch.nn.modules.linear.Linear",
        "Tanh",
    ],
)
def test_activations_from_elsewhere_are_refused_and_not_run(name, tmp_path):
    Dense(4, 2).save(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "activation_function": name}))
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        Dense.load(str(tmp_path))


def test_activations_of_torch_and_transformers_need_no_trust():
    assert isinstance(activation_named("torch.nn.modules.activation.GELU"), nn.GELU)
    assert isinstance(activation_named("torch.nn.Tanh"), nn.Tanh)
    assert activation_named("transformers.activations.QuickGELUActivation")(torch.zeros(1)).tolist() == [0]


def test_a_file_of_the_caller_s_choice_is_used_once_trusted(tmp_path, monkeypatch):
    (tmp_path / "own_activation.py").write_text(
        "import torch\nclass Twice(torch.nn.Module):\n    def forward(self, x):\n        return 2 * x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        activation_named("own_activation.Twice")
    assert activation_named("own_activation.Twice", trust_remote_code=True)(torch.ones(1)).tolist() == [2]


def test_weights_that_do_not_fit_are_reported_with_the_folder(tmp_path):
    Dense(4, 2).save(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "in_features": 5}))
    with pytest.raises(ValueError, match=f"{tmp_path} do not fit this Dense"):
        Dense.load(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no weights in"):
        Dense.load(str(tmp_path))
