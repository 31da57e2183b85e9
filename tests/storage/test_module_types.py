"""Every type name of every release is understood, and nothing else is imported because a file says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import ModuleType

import pytest
from torch import nn

from sentence_transformers.cross_encoder.logit_score import LogitScore
from sentence_transformers.modules.classic.tokenizers import WhitespaceTokenizer
from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.router import Asym, Router
from sentence_transformers.modules.transformer.module import Transformer
from sentence_transformers.storage.module_types import HOMES, NEWER, SPELLINGS, class_of, saved_type

NEW_PATHS = {
    "base.modules": ["transformer.Transformer", "dense.Dense", "normalize.Normalize", "router.Router"],
    "sentence_transformer.modules": [
        "pooling.Pooling",
        "static_embedding.StaticEmbedding",
        "word_embeddings.WordEmbeddings",
        "word_weights.WordWeights",
        "bow.BoW",
        "cnn.CNN",
        "lstm.LSTM",
        "layer_norm.LayerNorm",
        "dropout.Dropout",
        "weighted_layer_pooling.WeightedLayerPooling",
        "clip_model.CLIPModel",
        "tokenizer.whitespace.WhitespaceTokenizer",
    ],
    "cross_encoder.modules": ["logit_score.LogitScore", "LogitScore"],
}
"""As in the files 6.2.0 writes."""


@pytest.mark.parametrize(
    "path", [f"sentence_transformers.{room}.{name}" for room, names in NEW_PATHS.items() for name in names]
)
def test_the_names_of_6_2_are_understood(path):
    kind = class_of(path)
    assert kind.__name__ == path.rpartition(".")[2]
    assert issubclass(kind, nn.Module) or kind is WhitespaceTokenizer


@pytest.mark.parametrize("name", [name for name in HOMES if "Tokenizer" not in name and name not in NEWER])
def test_the_names_of_older_releases_are_understood(name):
    short, long = f"sentence_transformers.models.{name}", f"sentence_transformers.models.{name}.{name}"
    kind = class_of(short)
    assert class_of(long) is kind
    assert kind.__name__ == ("Router" if name == "Asym" else name)
    assert class_of(f"{kind.__module__}.{kind.__name__}") is kind


def test_every_name_leads_to_its_class():
    for path, (home, name) in SPELLINGS.items():
        assert class_of(path).__module__ == home, path
        assert getattr(sys.modules[home], name) is class_of(path)


def test_what_is_saved_is_what_every_release_reads():
    assert saved_type(Pooling(4)) == "sentence_transformers.models.Pooling"
    assert saved_type(Dense(4, 2)) == "sentence_transformers.models.Dense"
    assert saved_type(Transformer.__new__(Transformer)) == "sentence_transformers.models.Transformer"
    assert saved_type(LogitScore(1)) == "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
    assert saved_type(Asym({"a": [Dense(4, 2)]})) == "sentence_transformers.models.Asym"
    assert (
        saved_type(Router({"a": [Dense(4, 2)]}, default_route="a")) == "sentence_transformers.models.Router"
    )


class Own(nn.Module):
    @staticmethod
    def load(input_path):
        return Own()


class WithoutLoad(nn.Module):
    pass


@pytest.fixture
def own_module(monkeypatch):
    """A module of the caller's, imported by the caller."""
    module = ModuleType("callers_own_module")
    for kind in (Own, WithoutLoad):
        monkeypatch.setattr(kind, "__module__", module.__name__)
        setattr(module, kind.__name__, kind)
    module.system = os.system
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_class_the_caller_has_imported_is_used_without_trust(own_module):
    assert saved_type(Own()) == "callers_own_module.Own"
    assert class_of("callers_own_module.Own") is Own
    for name in ("WithoutLoad", "system", "missing"):
        with pytest.raises(ValueError, match=f"'callers_own_module.{name}'.*trust_remote_code=True"):
            class_of(f"callers_own_module.{name}")


@pytest.mark.parametrize(
    "name",
    ["os.system", "subprocess.Popen", "builtins.eval", "torch.nn.Linear", "torch.nn.modules.linear.Linear", "torch.jit.load",
     "transformers.AutoModel", "not_imported_anywhere.Thing", "Pooling", "", ".", "sentence_transformers.models.Missing"],
)  # fmt: skip
def test_other_types_are_refused_without_trust(name):
    with pytest.raises(ValueError, match="not one of this library's"):
        class_of(name)


@pytest.mark.parametrize("name", [None, 5, ["a.B"], {"a": 1}], ids=repr)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match="no name of a class"):
        class_of(name)


CODE = """
from pathlib import Path
from torch import nn
Path({marker!r}).touch()
class Scale(nn.Module):
    @staticmethod
    def load(input_path):
        return Scale()
"""


@pytest.fixture
def with_code(tmp_path, monkeypatch):
    """A model folder that brings a file of code, which leaves a mark when it is run."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "a_model"
    folder.mkdir()
    (folder / "brought_along.py").write_text(CODE.format(marker=str(tmp_path / "was_run")))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("transformers_modules"):
            del sys.modules[name]


def test_a_file_of_the_model_is_run_only_once_trusted(with_code, tmp_path):
    with pytest.raises(ValueError, match=r"'brought_along.Scale'.*trust_remote_code=True"):
        class_of("brought_along.Scale", folder=with_code)
    assert not (tmp_path / "was_run").exists()
    kind = class_of("brought_along.Scale", folder=with_code, trust_remote_code=True)
    assert (tmp_path / "was_run").exists()
    # Trust in one model is no trust in the next that names the same module.
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        class_of(f"{kind.__module__}.Scale", folder=tmp_path)
    assert saved_type(kind()) == "brought_along.Scale"


def test_a_trusted_type_that_does_not_exist_is_reported(tmp_path):
    for name in ("not_installed_anywhere.Thing", "json.Missing", "nodot"):
        with pytest.raises(ValueError, match=f"'{name}', which cannot be imported"):
            class_of(name, folder=tmp_path, trust_remote_code=True)


def test_an_installed_class_is_used_once_trusted(tmp_path):
    assert class_of("json.JSONDecoder", folder=tmp_path, trust_remote_code=True) is json.JSONDecoder


def test_the_table_is_read_without_torch():
    code = "import sys; import sentence_transformers.storage.module_types; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
