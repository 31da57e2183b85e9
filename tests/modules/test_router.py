"""Routes are chosen by task, kind of input and key, and are saved in both layouts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.router import Asym, Router
from sentence_transformers.modules.transformer.module import Transformer
from tiny import WIDTH, tiny_checkpoint

TEXTS = ["What causes asthma?", "a", "What are the treatments for allergies and for other such things?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def transformer(folder):
    return Transformer(folder)


def dense(width=WIDTH):
    return Dense(width, 8, activation_function=nn.Identity())


def same_weights(one, other):
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)


# -- choosing ----------------------------------------------------------------------------------------------


def test_a_task_is_a_route_s_name_or_mapped_to_one():
    router = Router(
        {"a": [Normalize()], "b": [Normalize()], "c": [Normalize()]},
        route_mappings={
            ("query", None): "a",
            ("document", "text"): "b",
            (None, ("image", "text")): "c",
            ("document", "image"): "c",
        },
    )
    assert router.route_for("query") == router.route_for("query", "image") == "a"
    assert router.route_for("document", "text") == "b"
    assert router.route_for("document", "image") == "c"
    assert router.route_for(None, ("image", "text")) == router.route_for(None, ["image", "text"]) == "c"
    assert router.route_for("c") == "c"
    assert router.route_for(None) is None
    with pytest.raises(ValueError, match=r"'foo'.*task='a'.*task='document', modality='image'"):
        router.route_for("foo")


def test_without_a_task_the_default_route_is_taken_or_the_input_refused():
    modules = {"a": [Normalize()], "b": [Normalize()]}
    assert Router(modules, default_route="b").route_for(None) == "b"
    assert Router(modules, allow_empty_key=True).route_for(None) is None
    with pytest.raises(ValueError, match=r"Could not determine route.*task='…'"):
        Router(modules, allow_empty_key=False).route_for(None)
    assert Asym(modules, False).allow_empty_key is False  # Asym's second argument


def test_routes_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="at least one route"):
        Router({})
    with pytest.raises(ValueError, match=r"default_route: there is no route 'z'.*a"):
        Router({"a": [Normalize()]}, default_route="z")
    with pytest.raises(ValueError, match="no route 'z'"):
        Router({"a": [Normalize()]}, route_mappings={("query", None): "z"})


def test_queries_and_documents_have_a_constructor_of_their_own():
    router = Router.for_query_document(query_modules=[Normalize()], document_modules=[Normalize()])
    assert (list(router.sub_modules), router.default_route) == (["query", "document"], "document")


# -- in a model --------------------------------------------------------------------------------------------


@pytest.fixture
def parts(transformer):
    torch.manual_seed(0)
    return {"query": dense(), "document": dense()}


def expected(transformer, head):
    return SentenceTransformer(modules=[transformer, Pooling(WIDTH), head], device="cpu").encode(TEXTS)


def test_a_router_behind_the_pooling_routes_by_key_and_by_task(transformer, parts):
    model = SentenceTransformer(modules=[transformer, Pooling(WIDTH), Asym(parts)], device="cpu")
    for task, head in parts.items():
        by_key = model.encode([{task: text} for text in TEXTS])
        np.testing.assert_allclose(by_key, expected(transformer, head), atol=1e-6)
        prompted = model.encode([{task: text} for text in TEXTS], prompt="ask: ")
        by_hand = model.encode([{task: "ask: " + text} for text in TEXTS])
        np.testing.assert_allclose(prompted, by_hand, atol=1e-6)
        np.testing.assert_allclose(model.encode(TEXTS, task=task), expected(transformer, head), atol=1e-6)
    np.testing.assert_allclose(model.encode_query(TEXTS), expected(transformer, parts["query"]), atol=1e-6)
    np.testing.assert_allclose(
        model.encode_document(TEXTS), expected(transformer, parts["document"]), atol=1e-6
    )
    with pytest.raises(ValueError, match="'foo'"):
        model.encode([{"foo": "a"}])
    with pytest.raises(ValueError, match="keys"):
        model.encode([{"query": "a"}, {"document": "b"}])
    # Nothing asked for: the Router lets the vectors pass.
    np.testing.assert_allclose(model.encode(TEXTS), expected(transformer, nn.Identity()), atol=1e-6)
    assert model.get_sentence_embedding_dimension() == 8


def test_a_router_that_comes_first_prepares_and_packs_inputs(transformer, parts):
    router = Router.for_query_document(
        [transformer, Pooling(WIDTH), parts["query"]], [transformer, Pooling(WIDTH), parts["document"]]
    )
    model = SentenceTransformer(modules=[router, Normalize()], device="cpu")
    for task, head in parts.items():
        vectors = expected(transformer, head)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(model.encode(TEXTS, task=task), vectors, atol=1e-6)
        np.testing.assert_allclose(model.encode([{task: text} for text in TEXTS]), vectors, atol=1e-6)
        features = model.preprocess([{task: text} for text in TEXTS])
        with torch.inference_mode():
            np.testing.assert_allclose(model(features)["sentence_embedding"].numpy(), vectors, atol=1e-6)
    np.testing.assert_allclose(model.encode(TEXTS), model.encode_document(TEXTS), atol=1e-6)
    assert model.tokenizer is transformer.tokenizer
    assert model.max_seq_length == 128
    model.max_seq_length = 5
    assert transformer.max_seq_length == 5
    transformer.max_seq_length = 128


# -- files -------------------------------------------------------------------------------------------------


def test_a_plain_router_is_saved_as_every_release_reads_it(transformer, parts, tmp_path):
    model = SentenceTransformer(
        modules=[transformer, Pooling(WIDTH), Asym(parts, allow_empty_key=False)], device="cpu"
    )
    model.save(str(tmp_path))
    listing = json.loads((tmp_path / "modules.json").read_text())
    assert listing[2] == {
        "idx": 2,
        "name": "2",
        "path": "2_Asym",
        "type": "sentence_transformers.models.Asym",
    }
    assert json.loads((tmp_path / "2_Asym" / "config.json").read_text()) == {
        "types": {
            "query_0_Dense": "sentence_transformers.models.Dense",
            "document_0_Dense": "sentence_transformers.models.Dense",
        },
        "structure": {"query": ["query_0_Dense"], "document": ["document_0_Dense"]},
        "parameters": {"allow_empty_key": False},
    }
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert same_weights(loaded, model)
    np.testing.assert_array_equal(loaded.encode(TEXTS, task="query"), model.encode(TEXTS, task="query"))


def test_a_router_with_newer_settings_is_saved_into_the_root(transformer, parts, tmp_path):
    mappings = {("query", None): "query", ("doc", ("image", "text")): "document"}
    router = Router(
        {"query": [transformer, Pooling(WIDTH), parts["query"]], "document": [transformer, Pooling(WIDTH)]},
        default_route="document",
        route_mappings=mappings,
    )
    model = SentenceTransformer(modules=[router], device="cpu")
    model.save(str(tmp_path))
    listing = json.loads((tmp_path / "modules.json").read_text())
    assert listing == [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}]
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert loaded[0].route_mappings == mappings
    assert (loaded[0].default_route, loaded[0].allow_empty_key) == ("document", True)
    assert same_weights(loaded, model)
    for task in ("query", "document"):
        np.testing.assert_array_equal(loaded.encode(TEXTS, task=task), model.encode(TEXTS, task=task))


def test_modules_that_routes_share_are_saved_and_loaded_once(transformer, parts, tmp_path):
    router = Router.for_query_document([transformer, parts["query"]], [transformer, parts["document"]])
    router.save(str(tmp_path))
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["document_1_Dense", "query_0_Transformer", "query_1_Dense"]
    loaded = Router.load(str(tmp_path))
    assert loaded.sub_modules["query"][0] is loaded.sub_modules["document"][0]


def test_settings_changed_afterwards_are_saved(tmp_path):
    router = Router({"a": [Normalize()], "b": [Normalize()]})
    assert (router.saved_class_name, router.save_in_root) == ("Asym", False)
    router.default_route = "b"
    assert (router.saved_class_name, router.save_in_root) == ("Router", True)
    router.save(str(tmp_path))
    assert Router.load(str(tmp_path)).default_route == "b"


@pytest.mark.parametrize(
    ("transformer_type", "pooling_type"),
    [
        ("sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"),
        (
            "sentence_transformers.models.Transformer.Transformer",
            "sentence_transformers.models.Pooling.Pooling",
        ),
        (
            "sentence_transformers.base.modules.transformer.Transformer",
            "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        ),
    ],
)
def test_the_layouts_of_all_releases_are_read(transformer, tmp_path, transformer_type, pooling_type):
    # 5.x wrote the longer type names inside, 6.2.0 the newest; the folders are named <route>_<n>_<Class>.
    for route in ("query", "document"):
        (tmp_path / f"{route}_0_Transformer").mkdir()
        transformer.save(str(tmp_path / f"{route}_0_Transformer"))
        (tmp_path / f"{route}_1_Pooling").mkdir()
        mode = "mean" if route == "query" else "cls"
        config = {"embedding_dimension": WIDTH, "pooling_mode": mode, "include_prompt": True}
        (tmp_path / f"{route}_1_Pooling" / "config.json").write_text(json.dumps(config))
    names = {route: [f"{route}_0_Transformer", f"{route}_1_Pooling"] for route in ("query", "document")}
    types = {
        name: kind for pair in names.values() for name, kind in zip(pair, (transformer_type, pooling_type))
    }
    parameters = {"default_route": "document", "allow_empty_key": True, "route_mappings": {}}
    config = {"types": types, "structure": names, "parameters": parameters}
    (tmp_path / "router_config.json").write_text(json.dumps(config))
    kind = "sentence_transformers.base.modules.router.Router"
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}]))
    model = SentenceTransformer(str(tmp_path), device="cpu")
    by_hand = SentenceTransformer(modules=[transformer, Pooling(WIDTH, "cls")], device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), by_hand.encode(TEXTS), atol=1e-6)


def test_what_the_caller_passes_reaches_the_modules_of_a_route(transformer, tmp_path):
    router = Router.for_query_document([transformer, Pooling(WIDTH)], [transformer, Pooling(WIDTH)])
    SentenceTransformer(modules=[router], device="cpu").save(str(tmp_path))
    model = SentenceTransformer(
        str(tmp_path),
        device="cpu",
        model_kwargs={"dtype": torch.float16},
        tokenizer_kwargs={"padding_side": "left"},
    )
    assert model.dtype == torch.float16
    assert model.tokenizer.padding_side == "left"


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ([], "does not say which modules"),
        ({"types": {}}, "does not say which modules"),
        ({"types": {}, "structure": {"a": ["a_0_Dense"]}}, "a_0_Dense"),
        ({"types": {"x": "os.system"}, "structure": {"a": ["x"]}}, "'os.system'"),
        (
            {"types": {"../x": "sentence_transformers.models.Dense"}, "structure": {"a": ["../x"]}},
            "outside of",
        ),
        (
            {"types": {"/tmp": "sentence_transformers.models.Dense"}, "structure": {"a": ["/tmp"]}},
            "outside of",
        ),
    ],
    ids=str,
)
def test_a_damaged_or_hostile_configuration_is_refused(config, why, tmp_path):
    (tmp_path / "router_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=why):
        Router.load(str(tmp_path))


def test_a_router_without_configuration_says_so(tmp_path):
    with pytest.raises(
        ValueError, match=f"{tmp_path}: the Router in the root has no configuration|no configuration"
    ):
        Router.load(str(tmp_path))
