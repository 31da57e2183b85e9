"""The server under load: what it cannot hold is refused, what fails inside stays inside, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import httpx

from sentence_transformers.serve import Settings, create_app
from serve_cases import Held, tiny_embedder
from tiny import sample_texts

TEXTS = sample_texts()


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return tiny_embedder(tmp_path_factory.mktemp("embedder"))


@pytest.fixture
def held(embedder):
    model = Held(embedder)
    yield model
    model.open.set()


def connected(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=60)


async def embed(client, texts):
    return await client.post("/v1/embeddings", json={"input": texts})


async def until(is_true):
    for _ in range(3000):
        if is_true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


def test_many_callers_at_once_each_get_their_own(embedder):
    async def run():
        async with connected(create_app({"tiny": embedder}, Settings(api_key=None))) as client:
            return await asyncio.gather(*(embed(client, text) for text in TEXTS * 3))

    expected = embedder.encode(TEXTS)
    for number, answer in enumerate(asyncio.run(run())):
        assert answer.status_code == 200
        found = answer.json()["data"][0]["embedding"]
        np.testing.assert_allclose(found, expected[number % len(TEXTS)], atol=5e-6)


def test_a_full_queue_says_when_to_come_again_and_recovers(held):
    async def run():
        app = create_app({"tiny": held}, Settings(api_key=None, queue_limit=4))
        async with connected(app) as client:
            first = asyncio.create_task(embed(client, "first"))
            await until(held.begun.is_set)
            waiting = [asyncio.create_task(embed(client, "text")) for _ in range(4)]
            while 'queue_inputs{model="tiny"} 4' not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)
            refused = await asyncio.gather(*(embed(client, "too many") for _ in range(20)))
            assert (await client.get("/health")).status_code == 200
            held.open.set()
            accepted = await asyncio.gather(first, *waiting)
            later = await embed(client, "later")
        return refused, accepted, later

    refused, accepted, later = asyncio.run(run())
    for answer in refused:
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.json()["error"]["code"] == "overloaded"
    assert [answer.status_code for answer in [*accepted, later]] == [200] * 6


def test_what_fails_inside_is_not_told_and_harms_no_other(held, caplog):
    async def run():
        async with connected(create_app({"tiny": held}, Settings(api_key=None))) as client:
            first = asyncio.create_task(embed(client, "first"))
            await until(held.begun.is_set)
            together = [asyncio.create_task(embed(client, text)) for text in ("good", "fail", "good")]
            await asyncio.sleep(0.05)
            held.open.set()
            return await asyncio.gather(first, *together)

    with caplog.at_level(logging.ERROR):
        answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert "hunter2" not in answers[2].text
    assert answers[2].json()["error"]["type"] == "server_error"
    assert "hunter2" in caplog.text


def test_a_request_that_takes_too_long_is_given_up_and_leaves_the_queue(held):
    async def run():
        app = create_app({"tiny": held}, Settings(api_key=None, timeout=0.2))
        async with connected(app) as client:
            answers = await asyncio.gather(embed(client, "first"), embed(client, "second"))
            metrics = (await client.get("/metrics")).text
            held.open.set()
        return answers, metrics

    answers, metrics = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [504, 504]
    assert answers[0].json()["error"]["code"] == "timeout"
    assert 'queue_inputs{model="tiny"} 0' in metrics


def test_a_caller_who_leaves_takes_the_request_back(held, monkeypatch):
    monkeypatch.setattr("sentence_transformers.serve.app.PATIENCE", 0.01)
    app = create_app({"tiny": held}, Settings(api_key=None))

    async def run():
        leaves = asyncio.Event()
        sent = []

        async def receive():
            if not sent:
                sent.append(True)
                return {"type": "http.request", "body": b'{"input": "second"}', "more_body": False}
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/v1/embeddings", "raw_path": b"/v1/embeddings", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json")], "client": ("test", 1), "server": ("test", 80),
        }  # fmt: skip
        async with connected(app) as client:
            first = asyncio.create_task(embed(client, "first"))
            await until(held.begun.is_set)
            second = asyncio.create_task(app(scope, receive, send))
            while 'queue_inputs{model="tiny"} 1' not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)
            leaves.set()
            await asyncio.wait_for(second, 30)
            metrics = (await client.get("/metrics")).text
            held.open.set()
            await first
        return metrics

    metrics = asyncio.run(run())
    assert 'queue_inputs{model="tiny"} 0' in metrics
    assert 'status="499"} 1' in metrics
    assert "second" not in held.seen


def test_more_bytes_than_the_server_holds_are_refused(embedder):
    async def body(going_on):
        yield b'{"input": "'
        yield b"a" * 1000
        await going_on.wait()
        yield b'"}'

    async def run():
        settings = Settings(api_key=None, max_held_bytes=1500)
        async with connected(create_app({"tiny": embedder}, settings)) as client:
            going_on = asyncio.Event()
            slow = asyncio.create_task(client.post("/v1/embeddings", content=body(going_on)))
            await asyncio.sleep(0.1)
            refused = await embed(client, "b" * 600)
            going_on.set()
            return await slow, refused, await embed(client, "b" * 600)

    slow, refused, later = asyncio.run(run())
    assert [slow.status_code, refused.status_code, later.status_code] == [200, 429, 200]
    assert refused.headers["retry-after"] == "1"
