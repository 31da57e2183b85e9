"""Files are written whole or not at all, and nothing of an older save is taken for the new one."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors import safe_open
from torch import nn

from sentence_transformers.storage.folder import (
    read_json,
    read_weights,
    replacing,
    staged,
    write_json,
    write_text,
    write_weights,
)


class Stop(Exception):
    pass


def tree(folder):
    """Content of every file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_json_is_written_indented_in_utf_8_and_read_back(tmp_path):
    value = {"b": ["é", 1, None], "a": {"x": True}}
    write_json(tmp_path / "new" / "x.json", value)
    text = (tmp_path / "new" / "x.json").read_text(encoding="utf-8")
    assert text == '{\n  "b": [\n    "é",\n    1,\n    null\n  ],\n  "a": {\n    "x": true\n  }\n}\n'
    assert read_json(tmp_path / "new" / "x.json") == value
    write_json(tmp_path / "x.json", value, sort_keys=True)
    assert list(read_json(tmp_path / "x.json")) == ["a", "b"]


@pytest.mark.parametrize("content", ["", "{", '{"a": 1', "nonsense", '{"a": 1} trailing'])
def test_json_that_is_none_is_reported_with_the_file(content, tmp_path):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(ValueError, match=rf"{tmp_path}/bad\.json is not valid JSON .*damaged\?"):
        read_json(tmp_path / "bad.json")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    write_text(tmp_path / "x", "old")
    with pytest.raises(TypeError):
        write_json(tmp_path / "x", {"a": object()})
    with pytest.raises(Stop), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        assert (tmp_path / "x").read_text() == "old"
        raise Stop
    assert tree(tmp_path) == {"x": b"old"}
    write_text(tmp_path / "x", "new")
    assert tree(tmp_path) == {"x": b"new"}


# -- staging -----------------------------------------------------------------------------------------------


def test_a_save_appears_at_once_with_empty_folders_too(tmp_path):
    target = tmp_path / "deep" / "model"
    with staged(target) as root:
        write_text(root / "a" / "x.json", "1")
        write_text(root / "y.txt", "2")
        (root / "3_Normalize").mkdir()
        assert not target.exists()
    assert tree(target) == {"a/x.json": b"1", "y.txt": b"2"}
    assert (target / "3_Normalize").is_dir()
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    with staged(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


def test_a_save_that_fails_leaves_the_folder_as_it_was(tmp_path):
    target = tmp_path / "model"
    write_text(target / "config.json", "old")
    before = tree(tmp_path)
    with pytest.raises(Stop), staged(target) as root:
        write_text(root / "config.json", "new")
        write_text(root / "1_Pooling" / "config.json", "new")
        raise Stop
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(Stop), staged(tmp_path / "other"):
        raise Stop
    assert not (tmp_path / "other").exists()


def test_the_folder_has_the_usual_rights(tmp_path):
    os.umask(before := os.umask(0o22))
    with staged(tmp_path / "model") as root:
        write_text(root / "a" / "x.json", "1")
    expected = 0o777 & ~before
    assert (tmp_path / "model").stat().st_mode & 0o777 == expected
    assert (tmp_path / "model" / "a").stat().st_mode & 0o777 == expected
    assert (tmp_path / "model" / "a" / "x.json").stat().st_mode & 0o777 == 0o666 & ~before


def test_what_a_reader_could_mix_with_the_new_model_goes_and_the_rest_stays(tmp_path):
    target = tmp_path / "model"
    stale = [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "adapter_config.json",
        "adapter_model.safetensors",
        "router_config.json",
        "sentence_roberta_config.json",
        "1_Dense/model.safetensors",
        "2_Normalize/config.json",
    ]
    kept = [
        "notes.txt",
        "optimizer.pt",
        "onnx/model.onnx",
        "checkpoint-5/model.safetensors",
        "1_Dense/notes.txt",
        "tokenizer.json",
    ]
    for name in stale + kept:
        write_text(target / name, "old")
    with staged(target) as root:
        write_text(root / "pytorch_model.bin", "new")
        write_text(root / "sentence_bert_config.json", "new")
        write_text(root / "1_Dense" / "pytorch_model.bin", "new")
        (root / "2_Normalize").mkdir()
    new = ["pytorch_model.bin", "sentence_bert_config.json", "1_Dense/pytorch_model.bin"]
    assert tree(target) == {**dict.fromkeys(kept, b"old"), **dict.fromkeys(new, b"new")}
    assert (target / "2_Normalize").is_dir()


def test_a_file_in_the_folder_s_place_is_refused(tmp_path):
    write_text(tmp_path / "model", "a file")
    with pytest.raises(NotADirectoryError, match="it is a file"), staged(tmp_path / "model"):
        pass
    assert tree(tmp_path) == {"model": b"a file"}


# -- weights -----------------------------------------------------------------------------------------------


@pytest.fixture
def state():
    return {"a": torch.randn(3, 2), "b": torch.arange(4), "c": torch.randn(2, 5).T}


@pytest.mark.parametrize("safe", [True, False])
def test_weights_are_bitwise_the_same_again(state, safe, tmp_path):
    write_weights(state, tmp_path / "part", safe_serialization=safe)
    names = [path.name for path in (tmp_path / "part").iterdir()]
    assert names == ["model.safetensors" if safe else "pytorch_model.bin"]
    loaded = read_weights(tmp_path / "part")
    assert loaded.keys() == state.keys()
    assert all(loaded[name].equal(state[name]) for name in state)


@pytest.mark.parametrize("safe", [True, False])
def test_weights_of_the_other_format_go(state, safe, tmp_path):
    write_weights({"a": torch.zeros(1)}, tmp_path, safe_serialization=not safe)
    write_weights(state, tmp_path, safe_serialization=safe)
    assert read_weights(tmp_path)["a"].equal(state["a"])
    assert len(list(tmp_path.iterdir())) == 1


def test_safetensors_are_preferred(state, tmp_path):
    write_weights(state, tmp_path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    assert read_weights(str(tmp_path))["a"].equal(state["a"])


def test_tied_tensors_are_stored_once(tmp_path):
    module = nn.ModuleDict({"one": nn.Linear(3, 3, bias=False), "two": nn.Linear(3, 3, bias=False)})
    module["two"].weight = module["one"].weight
    write_weights(module.state_dict(), tmp_path, tensors_of=module)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert list(file.keys()) == ["one.weight"]
        assert file.metadata()["two.weight"] == "one.weight"


@pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "nonsense", "truncated"])
@pytest.mark.parametrize(
    ("safe", "name", "what"),
    [
        (True, "model.safetensors", "damaged or incomplete"),
        (False, "pytorch_model.bin", "cannot be read as plain tensors"),
    ],
)
def test_damaged_weights_are_reported_with_the_file(state, content, safe, name, what, tmp_path):
    write_weights(state, tmp_path, safe_serialization=safe)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-30] if content is None else content)
    with pytest.raises(ValueError, match=f"{path} {'is ' if safe else ''}{what}"):
        read_weights(tmp_path)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path):
    torch.save({"a": Payload(str(tmp_path / "was_run"))}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be read as plain tensors"):
        read_weights(tmp_path)
    assert not (tmp_path / "was_run").exists()


def test_missing_weights_are_reported_with_both_names(tmp_path):
    with pytest.raises(
        ValueError, match=rf"no weights in {tmp_path}: neither model\.safetensors nor pytorch_model\.bin"
    ):
        read_weights(tmp_path)
    write_text(tmp_path / "config.json", json.dumps({}))
    with pytest.raises(ValueError, match="no weights"):
        read_weights(tmp_path)
