"""Saved folders are those of every release, complete or untouched; publishing hands the hub what was asked for."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer.module import Transformer
from tiny import WIDTH, tiny_checkpoint, tiny_model

TEXTS = ["What causes asthma?", "a"]
MODELS = "sentence_transformers.models"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert")))


def build(checkpoint, **settings):
    torch.manual_seed(0)
    modules = [Transformer(checkpoint, max_seq_length=32), Pooling(WIDTH), Dense(WIDTH, 8), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu", **settings)


@pytest.fixture
def model(checkpoint):
    return build(checkpoint)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_layout_is_that_of_3_4_key_by_key(model, tmp_path):
    model.save(str(tmp_path))
    # What 3.4.1 writes for this model; later transformers leave out special_tokens_map.json and vocab.txt.
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "1_Pooling",
        "1_Pooling/config.json",
        "2_Dense",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "3_Normalize",
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert read(tmp_path / "modules.json") == [
        {"idx": 0, "name": "0", "path": "", "type": f"{MODELS}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{MODELS}.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Dense", "type": f"{MODELS}.Dense"},
        {"idx": 3, "name": "3", "path": "3_Normalize", "type": f"{MODELS}.Normalize"},
    ]
    assert read(tmp_path / "sentence_bert_config.json") == {"max_seq_length": 32, "do_lower_case": False}
    config = read(tmp_path / "config_sentence_transformers.json")
    versions = config.pop("__version__")
    assert versions.keys() == {"sentence_transformers", "transformers", "pytorch"}
    assert versions["pytorch"] == torch.__version__
    # The first key is of 5.x; older releases leave it alone.
    assert config == {
        "model_type": "SentenceTransformer",
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }


@pytest.mark.parametrize("safe", [True, False])
def test_a_saved_model_is_bitwise_the_same_again(checkpoint, safe, tmp_path):
    settings = {
        "prompts": {"query": "ask: "},
        "default_prompt_name": "query",
        "similarity_fn_name": "dot",
        "truncate_dim": 6,
    }
    model = build(checkpoint, **settings)
    model.save_pretrained(str(tmp_path), safe_serialization=safe)
    weights = {path.name for path in tmp_path.rglob("*") if path.suffix in (".safetensors", ".bin")}
    assert weights == {"model.safetensors" if safe else "pytorch_model.bin"}
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    state, other = model.state_dict(), loaded.state_dict()
    assert state.keys() == other.keys()
    assert all(state[name].equal(other[name]) for name in state)
    assert loaded.prompts == {"query": "ask: ", "document": ""}
    assert (loaded.default_prompt_name, loaded.similarity_fn_name, loaded.truncate_dim) == ("query", "dot", 6)
    assert loaded.max_seq_length == 32
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))
    loaded.save(str(tmp_path / "again"), safe_serialization=safe, create_model_card=False)
    again, first = tree(tmp_path / "again"), tree(tmp_path)
    assert all(content == first[name] for name, content in again.items() if name != "config.json")


def test_arguments_of_the_caller_win_over_saved_settings(checkpoint, tmp_path):
    build(checkpoint, prompts={"query": "ask: ", "a": "b"}, similarity_fn_name="dot", truncate_dim=6).save(
        str(tmp_path)
    )
    loaded = SentenceTransformer(
        str(tmp_path), device="cpu", prompts={"query": "other: "}, similarity_fn_name="cosine", truncate_dim=4
    )
    assert loaded.prompts == {"query": "other: ", "document": "", "a": "b"}
    assert (loaded.similarity_fn_name, loaded.truncate_dim) == ("cosine", 4)


def test_the_card_can_be_left_out_and_named(model, tmp_path):
    model.save(str(tmp_path / "without"), create_model_card=False)
    assert not (tmp_path / "without" / "README.md").exists()
    model.save(str(tmp_path / "with"), "someone/tiny-model", train_datasets=["sentence-transformers/stsb"])
    card = (tmp_path / "with" / "README.md").read_text(encoding="utf-8")
    assert "someone/tiny-model" in card
    assert "sentence-transformers/stsb" in card


@pytest.mark.parametrize("safe", [True, False])
def test_older_weights_in_the_same_folder_do_not_win(model, safe, tmp_path):
    model.save(str(tmp_path), safe_serialization=not safe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    model.save(str(tmp_path), safe_serialization=safe)
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert all(loaded.state_dict()[name].equal(tensor) for name, tensor in model.state_dict().items())


def test_another_model_s_parts_in_the_same_folder_are_not_mixed_in(checkpoint, tmp_path):
    older = SentenceTransformer(
        modules=[
            Transformer(checkpoint, max_seq_length=9),
            Normalize("token_embeddings"),
            Pooling(WIDTH, ["mean", "cls"]),
        ]
    )
    older.save(str(tmp_path))
    (tmp_path / "sentence_bert_config.json").rename(tmp_path / "sentence_roberta_config.json")
    (tmp_path / "notes.txt").write_text("mine")
    newer = SentenceTransformer(
        modules=[Transformer(checkpoint), Normalize(), Pooling(WIDTH, "cls")], device="cpu"
    )
    with pytest.raises(KeyError):
        newer.encode("a")  # nothing to normalise yet
    newer[1].module_input_name = newer[1].module_output_name = "sentence_embedding"
    newer.save(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert loaded[1].module_input_name == "sentence_embedding"
    assert loaded[2].pooling_mode == "cls"
    assert loaded.max_seq_length == 128
    assert (tmp_path / "notes.txt").read_text() == "mine"


class Failing(nn.Module):
    def forward(self, features):
        return features

    def save(self, output_path):
        (output_path + "/half").encode()
        raise OSError("the disk is full")


class WithoutSave(nn.Module):
    def forward(self, features):
        return features


@pytest.mark.parametrize(
    ("part", "error", "why"),
    [
        (Failing(), OSError, "disk is full"),
        (WithoutSave(), ValueError, r"Part 4 \(WithoutSave\) cannot be saved"),
    ],
)
def test_a_save_that_fails_leaves_the_folder_as_it_was(model, part, error, why, tmp_path):
    model.save(str(tmp_path / "model"))
    before = tree(tmp_path)
    broken = SentenceTransformer(modules=[*model, part], device="cpu")
    with torch.no_grad():
        broken[2].linear.weight.zero_()
    with pytest.raises(error, match=why):
        broken.save(str(tmp_path / "model"))
    assert tree(tmp_path) == before
    with pytest.raises(error, match=why):
        broken.save(str(tmp_path / "other"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_model_can_be_saved_over_the_folder_it_came_from(model, tmp_path):
    model.save(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    expected = loaded.encode(TEXTS)
    loaded.save(str(tmp_path), safe_serialization=False)
    np.testing.assert_array_equal(loaded.encode(TEXTS), expected)
    np.testing.assert_array_equal(SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS), expected)


def test_a_model_outlives_the_folder_it_came_from(model, tmp_path):
    model.save(str(tmp_path / "gone"))
    loaded = SentenceTransformer(str(tmp_path / "gone"), device="cpu")
    expected = model.encode(TEXTS)
    shutil.rmtree(tmp_path / "gone")
    np.testing.assert_array_equal(loaded.encode(TEXTS), expected)
    loaded.save(str(tmp_path / "again"))
    np.testing.assert_array_equal(
        SentenceTransformer(str(tmp_path / "again"), device="cpu").encode(TEXTS), expected
    )


def test_a_path_is_needed(model):
    with pytest.raises(ValueError, match="path=None"):
        model.save(None)


def test_parts_keep_their_names_and_arguments(checkpoint, tmp_path):
    parts = {"first": Transformer(checkpoint), "pool": Pooling(WIDTH)}
    model = SentenceTransformer(modules=parts, device="cpu")
    model.module_kwargs = {"pool": ["temperature"]}
    model.save(str(tmp_path))
    listing = read(tmp_path / "modules.json")
    assert [(entry["name"], entry["path"], entry.get("kwargs")) for entry in listing] == [
        ("first", "", None),
        ("pool", "1_Pooling", ["temperature"]),
    ]
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert list(loaded._modules) == ["first", "pool"]
    assert loaded.get_model_kwargs() == ["temperature"]


# -- publishing --------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """Stands in for the hub's interface, and notes what it is asked for and given."""
    calls = []

    class Hub:
        card_exists = False

        def __init__(self, token=None):
            calls.append(("open", {"token": token}))

        def create_repo(self, **kwargs):
            calls.append(("create_repo", kwargs))
            name = kwargs["repo_id"]
            return SimpleNamespace(repo_id=name if "/" in name else f"me/{name}")

        def create_branch(self, **kwargs):
            calls.append(("create_branch", kwargs))

        def file_exists(self, repo_id, name, *, revision=None):
            return Hub.card_exists

        def upload_folder(self, *, folder_path, **kwargs):
            from pathlib import Path

            files = sorted(
                str(path.relative_to(folder_path)) for path in Path(folder_path).rglob("*") if path.is_file()
            )
            calls.append(("upload_folder", {**kwargs, "files": files}))
            return SimpleNamespace(commit_url="https://hub/commit", pr_url="https://hub/pull")

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    return SimpleNamespace(
        calls=calls, kind=Hub, made=lambda name: [kwargs for called, kwargs in calls if called == name]
    )


def test_a_model_is_saved_and_uploaded(model, hub):
    assert model.push_to_hub("tiny") == "https://hub/commit"
    assert hub.made("open") == [{"token": None}]
    assert hub.made("create_repo") == [
        {"repo_id": "tiny", "private": None, "repo_type": None, "exist_ok": False}
    ]
    assert hub.made("create_branch") == []
    (upload,) = hub.made("upload_folder")
    assert {"modules.json", "README.md", "model.safetensors", "2_Dense/model.safetensors"} <= set(
        upload.pop("files")
    )
    assert upload == {
        "repo_id": "me/tiny",
        "commit_message": "Add new SentenceTransformer model",
        "revision": None,
        "create_pr": False,
    }


def test_settings_reach_the_hub(model, hub):
    model.push_to_hub(
        "someone/tiny",
        token="secret",
        private=True,
        safe_serialization=False,
        commit_message="First",
        exist_ok=True,
    )
    assert hub.made("open") == [{"token": "secret"}]
    expected = {"repo_id": "someone/tiny", "private": True, "repo_type": None, "exist_ok": True}
    assert hub.made("create_repo") == [expected]
    (upload,) = hub.made("upload_folder")
    assert (upload["repo_id"], upload["commit_message"]) == ("someone/tiny", "First")
    assert "pytorch_model.bin" in upload["files"]
    assert "model.safetensors" not in upload["files"]


def test_a_pull_request_gives_its_own_address_and_an_existing_repository_will_do(model, hub):
    assert model.push_to_hub("tiny", create_pr=True) == "https://hub/pull"
    assert hub.made("create_repo")[0]["exist_ok"] is True
    assert hub.made("upload_folder")[0]["create_pr"] is True


def test_a_revision_is_a_branch_that_is_made(model, hub):
    model.push_to_hub("tiny", revision="draft")
    assert hub.made("create_branch") == [{"repo_id": "me/tiny", "branch": "draft", "exist_ok": True}]
    assert hub.made("upload_folder")[0]["revision"] == "draft"


def test_a_card_that_is_there_is_kept_unless_it_is_to_be_replaced(model, hub):
    hub.kind.card_exists = True
    model.push_to_hub("tiny", exist_ok=True)
    model.push_to_hub("tiny", exist_ok=True, replace_model_card=True)
    kept, replaced = (upload["files"] for upload in hub.made("upload_folder"))
    assert "README.md" not in kept
    assert "README.md" in replaced


def test_a_folder_is_uploaded_as_it_is(model, hub, tmp_path):
    (tmp_path / "only.txt").write_text("x")
    model.push_to_hub("tiny", local_model_path=str(tmp_path))
    assert hub.made("upload_folder")[0]["files"] == ["only.txt"]


def test_the_older_name_puts_the_organisation_in_front(model, hub):
    model.save_to_hub("tiny", "team")
    model.save_to_hub("team/tiny", organization="team", commit_message="Again")
    assert [call["repo_id"] for call in hub.made("create_repo")] == ["team/tiny", "team/tiny"]
    assert [call["commit_message"] for call in hub.made("upload_folder")] == ["Add new model.", "Again"]
    with pytest.raises(ValueError, match="contradicts"):
        model.save_to_hub("other/tiny", organization="team")


def test_weights_put_in_later_are_the_ones_saved(model, tmp_path):
    model._modules["0"].auto_model = tiny_model("bert", seed=9)
    model.save(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))
