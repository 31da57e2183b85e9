"""The routes of the server: right answers, and for everything else an error that says what was wrong."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers import CrossEncoder
from sentence_transformers.serve import Settings, create_app
from sentence_transformers.serve.guard import Outermost
from serve_cases import tiny_embedder, tiny_reranker
from tiny import sample_texts, tiny_checkpoint

TEXTS = sample_texts()
SETTINGS = Settings(
    workers=1,  # so that it is known how many batches there are
    api_key=None,
    max_inputs=60,
    max_characters=5000,
    max_tokens=4000,
    max_scores=500,
    max_body_bytes=20_000,
)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return tiny_embedder(tmp_path_factory.mktemp("embedder"))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    return tiny_reranker(tmp_path_factory.mktemp("reranker"))


@pytest.fixture(scope="module")
def app(embedder, reranker):
    return create_app({"tiny": embedder, "ranker": reranker}, SETTINGS)


@pytest.fixture(scope="module")
def client(app):
    with TestClient(app) as client:
        yield client


def embedded(client, **request):
    answer = client.post("/v1/embeddings", json=request)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer, status, param=None):
    """An error in OpenAI's form; gives its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    if param is not None:
        assert error["param"] == param
    return error["message"]


# -- embeddings -------------------------------------------------------------------------------------------


def test_embeddings_are_those_of_encode_in_the_order_of_the_inputs(client, embedder):
    answer = embedded(client, input=TEXTS, model="tiny", user="somebody", what_is_not_known=1)
    assert answer["object"] == "list"
    assert answer["model"] == "tiny"
    assert [entry["index"] for entry in answer["data"]] == list(range(len(TEXTS)))
    found = np.array([entry["embedding"] for entry in answer["data"]])
    np.testing.assert_allclose(found, embedder.encode(TEXTS), atol=5e-6)


def test_usage_counts_the_tokens_that_are_read(client, embedder):
    tokens = sum(min(len(ids), 128) for ids in embedder.tokenizer(TEXTS)["input_ids"])
    assert embedded(client, input=TEXTS)["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_the_short_way_answers_as_the_long_one_does(app, client):
    short = TestClient(Outermost(app))
    for text in (TEXTS[0], 5):
        ways = [way.post("/v1/embeddings", json={"input": text}) for way in (client, short)]
        assert ways[0].status_code == ways[1].status_code
        assert ways[0].headers == ways[1].headers
        np.testing.assert_equal(ways[0].json(), ways[1].json())
    assert short.get("/health").json() == {"status": "ok"}
    assert short.get("/v1/embeddings").status_code == 405


def test_the_short_way_passes_by_what_stands_before_the_guard(embedder):
    app = create_app({"tiny": embedder}, SETTINGS)
    passed = []

    @app.middleware("http")
    async def note(request, call_next):
        passed.append(request.url.path)
        return await call_next(request)

    for way in (app, Outermost(app)):
        answer = TestClient(way).post("/v1/embeddings", json={"input": "text"})
        assert answer.status_code == 200
    assert passed == ["/v1/embeddings"]


def test_one_text_gives_one_embedding(client, embedder):
    data = embedded(client, input="hello")["data"]
    assert len(data) == 1
    np.testing.assert_allclose(data[0]["embedding"], embedder.encode("hello"), atol=5e-6)


def test_base64_holds_little_endian_float32(client):
    as_numbers = embedded(client, input=TEXTS[:3])["data"]
    as_text = embedded(client, input=TEXTS[:3], encoding_format="base64")["data"]
    for numbers, text in zip(as_numbers, as_text):
        found = np.frombuffer(base64.b64decode(text["embedding"], validate=True), dtype="<f4")
        np.testing.assert_allclose(found, numbers["embedding"], atol=5e-6)


def test_dimensions_cut_vectors_and_keep_their_length_at_one(client, embedder):
    found = np.array(embedded(client, input="hello", dimensions=5)["data"][0]["embedding"])
    expected = embedder.encode("hello")[:5]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=5e-6)


def test_token_ids_give_what_their_text_gives(client, embedder):
    ids = embedder.tokenizer(TEXTS[:3])["input_ids"]
    expected = embedder.encode(TEXTS[:3])
    several = embedded(client, input=ids)
    np.testing.assert_allclose([entry["embedding"] for entry in several["data"]], expected, atol=5e-6)
    one = embedded(client, input=ids[0])
    np.testing.assert_allclose([entry["embedding"] for entry in one["data"]], expected[:1], atol=5e-6)
    assert one["usage"]["prompt_tokens"] == len(ids[0])


def test_a_task_has_its_prompt(client, embedder):
    expected = embedder.encode("hello", prompt="find: ")
    for request in ({"task": "query"}, {"prompt_name": "query"}):
        found = embedded(client, input="hello", **request)["data"][0]["embedding"]
        np.testing.assert_allclose(found, expected, atol=5e-6)


def test_a_large_answer_is_as_right_as_a_small_one(client, embedder, monkeypatch):
    monkeypatch.setattr("sentence_transformers.serve.app.LARGE_ANSWER", 1)
    monkeypatch.setattr("sentence_transformers.serve.app.LARGE_BODY", 1)
    found = [entry["embedding"] for entry in embedded(client, input=TEXTS[:9])["data"]]
    np.testing.assert_allclose(found, embedder.encode(TEXTS[:9]), atol=5e-6)


# -- reranking and similarity -----------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["/rerank", "/v1/rerank"])
def test_documents_come_back_the_best_first(client, reranker, route):
    answer = client.post(route, json={"query": TEXTS[0], "documents": TEXTS[1:20], "model": "ranker"}).json()
    expected = reranker.rank(TEXTS[0], TEXTS[1:20])
    assert [entry["index"] for entry in answer["results"]] == [hit["corpus_id"] for hit in expected]
    np.testing.assert_allclose(
        [entry["relevance_score"] for entry in answer["results"]],
        [hit["score"] for hit in expected],
        atol=5e-6,
    )
    assert "document" not in answer["results"][0]
    assert answer["usage"]["total_tokens"] > 0


def test_as_many_documents_as_wanted_come_with_their_texts(client):
    documents = [{"text": text} if number % 2 else text for number, text in enumerate(TEXTS[:8])]
    request = {"query": "a", "documents": documents, "top_n": 3, "return_documents": True}
    results = client.post("/rerank", json=request).json()["results"]
    assert len(results) == 3
    for entry in results:
        assert entry["document"] == {"text": TEXTS[entry["index"]]}


def test_similarity_compares_all_with_all(client, embedder):
    request = {"sentences1": TEXTS[:4], "sentences2": TEXTS[4:10]}
    answer = client.post("/similarity", json=request).json()
    expected = embedder.similarity(embedder.encode(TEXTS[:4]), embedder.encode(TEXTS[4:10]))
    np.testing.assert_allclose(answer["scores"], expected, atol=1e-5)
    assert answer["similarity_fn_name"] == "cosine"
    among_themselves = client.post("/similarity", json={"sentences1": TEXTS[:4]}).json()["scores"]
    np.testing.assert_allclose(np.diag(among_themselves), 1, atol=1e-5)


# -- the rest ---------------------------------------------------------------------------------------------


def test_models_are_listed(client):
    answer = client.get("/v1/models").json()
    assert answer["object"] == "list"
    assert [entry["id"] for entry in answer["data"]] == ["tiny", "ranker"]


def test_the_server_is_ready_within_its_lifespan_only(embedder):
    app = create_app(embedder, SETTINGS)
    outside = TestClient(app)
    assert outside.get("/ready").status_code == 503
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/ready").json() == {"status": "ready"}
            assert client.get("/health").json() == {"status": "ok"}
            assert embedded(client, input="a")
    assert outside.get("/ready").status_code == 503


def test_a_single_model_needs_no_name_and_has_only_its_routes(embedder, reranker):
    with TestClient(create_app(embedder, SETTINGS)) as client:
        assert embedded(client, input="a")
        refused(client.post("/rerank", json={}), 404)
    with TestClient(create_app([reranker], SETTINGS)) as client:
        assert client.post("/rerank", json={"query": "a", "documents": ["b"]}).status_code == 200
        refused(client.post("/v1/embeddings", json={}), 404)


def test_metrics_count_what_was_done(embedder):
    with TestClient(create_app({"tiny": embedder}, SETTINGS)) as client:
        for _ in range(3):
            embedded(client, input=TEXTS[:5])
        client.post("/v1/embeddings", json={"input": []})
        client.get("/no/such/route")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = {
        name: float(value)
        for name, _, value in (
            line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#")
        )
    }
    start = "sentence_transformers_"
    assert values[start + 'requests_total{route="/v1/embeddings",status="200"}'] == 3
    assert values[start + 'requests_total{route="/v1/embeddings",status="400"}'] == 1
    assert values[start + 'requests_total{route="other",status="404"}'] == 1
    assert values[start + 'request_seconds_bucket{route="/v1/embeddings",le="+Inf"}'] == 4
    assert values[start + 'inputs_total{model="tiny"}'] == 3 * 5 + 1  # and one at the start
    assert values[start + 'batch_inputs_count{model="tiny"}'] == 4
    assert values[start + 'queue_inputs{model="tiny"}'] == 0
    assert values[start + "requests_in_flight"] == 1
    assert values[start + 'tokens_total{model="tiny"}'] > 15


# -- errors -----------------------------------------------------------------------------------------------

WRONG_INPUTS = [
    None,
    5,
    True,
    [],
    {},
    {"text": "a"},
    ["a", 1],
    ["a", None],
    [["a"]],
    [[]],
    [1, "a"],
    [[1], "a"],
    [True],
    [1.5],
    [-1],
    [400],
    [10**40],
    [[1, 2], [-3]],
    [1] * 200,
]


@pytest.mark.parametrize("wrong", WRONG_INPUTS, ids=lambda value: str(value)[:20])
def test_an_input_that_makes_no_sense_is_refused(client, wrong):
    assert "input" in refused(client.post("/v1/embeddings", json={"input": wrong}), 400, "input").lower()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dimensions", 0),
        ("dimensions", -5),
        ("dimensions", 33),
        ("dimensions", 10**30),
        ("dimensions", "8"),
        ("dimensions", True),
        ("encoding_format", "hex"),
        ("normalize", "yes"),
        ("task", "poem"),
        ("prompt_name", "no such"),
        ("model", 3),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(client, field, value):
    refused(client.post("/v1/embeddings", json={"input": "a", field: value}), 400, field)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": "a"}, "documents"),
        ({"query": "a", "documents": []}, "documents"),
        ({"query": "a", "documents": "b"}, "documents"),
        ({"query": "a", "documents": [{"title": "b"}]}, "documents"),
        ({"query": "a", "documents": [7]}, "documents"),
        ({"query": ["a"], "documents": ["b"]}, "query"),
        ({"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
    ],
)
def test_a_reranking_that_makes_no_sense_is_refused(client, request_, param):
    refused(client.post("/rerank", json=request_), 400, param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"a"',
        b"\xff\xfe",
        b'{"input": "\\ud800"}',
        b'{"input": NaN}',
        b'{"input": "a"} x',
        b'{"input": ' + b"[" * 9000 + b"]" * 9000 + b"}",
        b'{"a": ' * 2000 + b"1" + b"}" * 2000,
        b'{"input": ' + b"1" * 9000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_request_is_refused(client, body):
    answer = client.post("/v1/embeddings", content=body, headers={"Content-Type": "application/json"})
    message = refused(answer, 400)
    assert len(message) < 300


def test_only_json_is_read(client):
    answer = client.post("/v1/embeddings", data={"input": "a"})
    refused(answer, 415)
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert client.post("/v1/embeddings", content=b'{"input": "a"}', headers=headers).status_code == 200


def test_odd_texts_are_embedded(client):
    texts = ["", " ", "\x00", "\u202e", "🦆" * 50, "a" * 4000, "\ufffd\ufffe", "<script>", "' OR 1=1 --"]
    answer = embedded(client, input=texts)
    assert np.isfinite([entry["embedding"] for entry in answer["data"]]).all()


def test_unknown_models_and_routes_are_not_found(client):
    message = refused(client.post("/v1/embeddings", json={"input": "a", "model": "gpt"}), 404, "model")
    assert "tiny" in message
    assert "ranker" not in message
    refused(client.post("/rerank", json={"query": "a", "documents": ["b"], "model": "tiny"}), 404, "model")
    refused(client.get("/nothing"), 404)
    refused(client.get("/v1/embeddings"), 405)


def test_what_is_larger_than_allowed_is_refused(client):
    refused(client.post("/v1/embeddings", json={"input": ["a"] * 61}), 413, "input")
    refused(client.post("/v1/embeddings", json={"input": [[1]] * 61}), 413, "input")
    refused(client.post("/v1/embeddings", json={"input": "a" * 5001}), 413, "input")
    refused(client.post("/v1/embeddings", json={"input": ["abcd" * 80] * 50}), 413)
    refused(client.post("/rerank", json={"query": "a", "documents": ["a"] * 61}), 413, "documents")
    refused(client.post("/rerank", json={"query": "a" * 5001, "documents": ["a"]}), 413, "query")
    refused(client.post("/similarity", json={"sentences1": ["a"] * 30, "sentences2": ["b"] * 30}), 413)
    refused(client.post("/similarity", json={"sentences1": ["a"] * 40, "sentences2": ["b"] * 30}), 413)


def test_a_large_body_is_refused_whether_its_length_is_told_or_not(client):
    body = json.dumps({"input": "a", "padding": "x" * 20_000}).encode()
    refused(client.post("/v1/embeddings", content=body), 413)
    refused(client.post("/v1/embeddings", content=iter([body[:9000], body[9000:]])), 413)
    assert embedded(client, input="a")


# -- the key ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "secret",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic secret",
        "Bearer secretsecret",
        "Bearer sécret",
    ],
)
def test_without_the_key_nobody_gets_in(embedder, header):
    headers = {} if header is None else {"Authorization": header.encode("utf-8")}
    with TestClient(create_app({"tiny": embedder}, Settings(api_key="secret"))) as client:
        for answer in (
            client.post("/v1/embeddings", json={"input": "a"}, headers=headers),
            client.get("/v1/models", headers=headers),
            client.get("/metrics", headers=headers),
            client.get("/openapi.json", headers=headers),
            client.get("/nothing", headers=headers),
        ):
            assert "secret" not in refused(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/health", headers=headers).status_code == 200
        assert client.get("/ready", headers=headers).status_code == 200


def test_with_the_key_one_gets_in(embedder, monkeypatch):
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_API_KEY", "from the environment")
    settings = Settings()
    assert "environment" not in repr(settings)
    with TestClient(create_app({"tiny": embedder}, settings)) as client:
        headers = {"Authorization": "Bearer from the environment"}
        assert client.post("/v1/embeddings", json={"input": "a"}, headers=headers).status_code == 200


# -- what cannot be served --------------------------------------------------------------------------------


def test_what_cannot_be_served_is_refused_at_the_start(embedder, tmp_path):
    with pytest.raises(ValueError, match="models with names"):
        create_app([])
    with pytest.raises(ValueError, match="names of their own"):
        create_app([embedder, embedder])
    several = CrossEncoder(str(tiny_checkpoint("bert", tmp_path)), num_labels=3, device="cpu")
    with pytest.raises(ValueError, match="3 scores"):
        create_app({"three": several})


@pytest.mark.parametrize(
    "wrong",
    [{"api_key": ""}, {"api_key": " a"}, {"api_key": "é"}, {"max_inputs": 0}, {"timeout": 0}, {"workers": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError):
        Settings(**wrong)


# -- anything at all --------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "input",
    "model",
    "dimensions",
    "encoding_format",
    "query",
    "documents",
    "top_n",
    "sentences1",
    "sentences2",
    "task",
]


@given(
    st.sampled_from(["/v1/embeddings", "/rerank", "/v1/rerank", "/similarity"]),
    st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), JSON, max_size=6) | JSON,
)
def test_no_request_makes_the_server_fail(client, route, request):
    answer = client.post(route, content=json.dumps(request), headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 404, 413), answer.text
    json.loads(answer.content)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_server_fail(client, body):
    answer = client.post("/v1/embeddings", content=body, headers={"Content-Type": "application/json"})
    refused(answer, 400)
