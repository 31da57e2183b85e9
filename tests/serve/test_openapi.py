"""Requests made from the server's own description, good and bad: none makes it fail, and all answers are as described."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")

import schemathesis
from hypothesis import HealthCheck, given, settings

from sentence_transformers.serve import Settings, create_app
from serve_cases import tiny_embedder, tiny_reranker

ROUTES = [
    ("/v1/embeddings", "POST"),
    ("/rerank", "POST"),
    ("/v1/rerank", "POST"),
    ("/similarity", "POST"),
    ("/v1/models", "GET"),
    ("/health", "GET"),
    ("/metrics", "GET"),
]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return create_app(
        {
            "tiny": tiny_embedder(tmp_path_factory.mktemp("embedder")),
            "ranker": tiny_reranker(tmp_path_factory.mktemp("reranker")),
        },
        Settings(api_key=None),
    )


def test_the_description_names_every_route(app):
    described = app.openapi()["paths"]
    assert set(described) == {route for route, _ in ROUTES} | {"/ready"}
    body = described["/v1/embeddings"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"input", "model", "dimensions", "encoding_format", "user"} <= set(body["properties"])
    assert "$ref" not in json.dumps(body)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("route", "method"), ROUTES, ids=lambda value: value)
def test_no_request_makes_the_server_fail(app, route, method, mode):
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operation = schema[route][method]
    if method == "GET" and mode is schemathesis.GenerationMode.NEGATIVE:
        return  # they take nothing that could be wrong
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_schema_conformance,
    ]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    def answers_as_described(case):
        case.validate_response(case.call(), checks=checks)

    answers_as_described()
