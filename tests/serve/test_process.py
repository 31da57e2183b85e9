"""A real server in a process of its own, started by the command, and spoken to over a socket."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")
pytest.importorskip("typer")

import httpx

from sentence_transformers import SentenceTransformer
from tiny import sample_texts, tiny_checkpoint

TEXTS = sample_texts()
KEY = {"Authorization": "Bearer secret"}


class Running:
    """The command in a process, once it listens."""

    def __init__(self, folder, *arguments, env=()):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sentence_transformers", "serve", folder, "--port", "0", "--device", "cpu", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SENTENCE_TRANSFORMERS_API_KEY": "secret", "OMP_NUM_THREADS": "1", **dict(env)},
        )  # fmt: skip
        self.said: list[str] = []
        self.listens = threading.Event()
        self.port = 0
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        assert self.listens.wait(90), self.said

    def read(self):
        for line in self.process.stderr:
            self.said.append(line)
            found = re.search(r"running on http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                self.listens.set()
        self.listens.set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self, kind=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(kind)
        code = self.process.wait(60)
        self.reader.join(10)
        self.process.stderr.close()
        return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_checkpoint("bert", tmp_path_factory.mktemp("models") / "tiny-bert"))


WITHOUT_HTTPTOOLS = "import sys; sys.modules.update(httptools=None, uvloop=None)"


@pytest.fixture(scope="module", params=["httptools", "h11"])
def running(request, folder, tmp_path_factory):
    """A server that speaks HTTP by one of two libraries: the faster, or the one that is always there."""
    env = {}
    if request.param == "httptools":
        pytest.importorskip("httptools")
    else:
        place = tmp_path_factory.mktemp("without")
        (place / "sitecustomize.py").write_text(WITHOUT_HTTPTOOLS)
        env["PYTHONPATH"] = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
    server = Running(folder, env=env)
    yield server
    server.stop()


def embed(client, texts):
    return client.post("/v1/embeddings", json={"input": texts, "model": "tiny-bert"})


def test_concurrent_clients_each_get_their_own(running, folder):
    expected = SentenceTransformer(folder, device="cpu").encode(TEXTS)

    def one_client(number):
        with httpx.Client(base_url=running.url, headers=KEY, timeout=60) as client:
            for place in range(number, number + 12):
                answer = embed(client, TEXTS[place % len(TEXTS)])
                assert answer.status_code == 200
                found = answer.json()["data"][0]["embedding"]
                np.testing.assert_allclose(found, expected[place % len(TEXTS)], atol=5e-6)

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(one_client, range(16)))
    metrics = httpx.get(f"{running.url}/metrics", headers=KEY).text
    served = re.search(r'requests_total\{route="/v1/embeddings",status="200"\} (\d+)', metrics)
    assert served is not None
    assert int(served.group(1)) >= 16 * 12


def test_the_key_comes_from_the_environment(running):
    assert httpx.post(f"{running.url}/v1/embeddings", json={"input": "a"}).status_code == 401
    assert httpx.get(f"{running.url}/health").json() == {"status": "ok"}
    assert "secret" not in "".join(running.said)


def raw(running, *pieces):
    """What the server answers to bytes, as far as it does within some seconds."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            return connection.recv(65536)
        except (TimeoutError, ConnectionError):
            return b""


HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200],
        [b"GET / HTTP/9.9\r\n\r\n"],
        [b"nonsense\r\n\r\n"],
        [HEAD + b"Content-Length: -5\r\n\r\n"],
        [HEAD + b"Content-Length: 99999999999999\r\n\r\n{}"],
        [HEAD + b"X: " + b"a" * 200_000 + b"\r\n\r\n"],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"],
        [HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        [HEAD, *[b"X: " + b"a" * 65536] * 200],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b"a" * 65536 + b"\r\n"] * 200],
    ],
    ids=lambda pieces: repr(pieces[0][-20:]),
)
def test_hostile_bytes_get_at_most_a_refusal_and_others_are_served(running, pieces):
    answer = raw(running, *pieces)
    assert answer == b"" or re.match(rb"HTTP/1\.1 4\d\d ", answer), answer[:200]
    with httpx.Client(base_url=running.url, headers=KEY, timeout=60) as client:
        assert embed(client, "still there?").status_code == 200


def test_a_caller_who_vanishes_within_a_request_harms_nobody(running):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"input"')
    with httpx.Client(base_url=running.url, headers=KEY, timeout=60) as client:
        assert embed(client, "still there?").status_code == 200


def test_a_body_of_unknown_length_is_refused_once_it_is_too_large(running):
    def body():
        for _ in range(200):
            yield b"a" * 65536

    try:
        answer = httpx.post(f"{running.url}/v1/embeddings", content=body(), headers=KEY, timeout=60)
    except httpx.HTTPError:
        return  # the connection was closed while we were sending
    assert answer.status_code == 413


def test_the_command_stops_when_it_has_answered_what_it_accepted(folder):
    server = Running(folder, "--log-level", "info")
    try:
        answers = []

        def ask():
            with httpx.Client(base_url=server.url, headers=KEY, timeout=60) as client:
                answers.append(embed(client, TEXTS * 20))

        callers = [threading.Thread(target=ask) for _ in range(4)]
        for caller in callers:
            caller.start()
        queued = re.compile(r"requests_in_flight (\d+)")
        with httpx.Client(base_url=server.url, headers=KEY, timeout=60) as client:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                found = queued.search(client.get("/metrics").text)
                if answers or (found is not None and int(found.group(1)) == 5):
                    break
        assert server.stop() == 0
        for caller in callers:
            caller.join(60)
        assert [answer.status_code for answer in answers] == [200] * 4
        assert all(len(answer.json()["data"]) == 20 * len(TEXTS) for answer in answers)
        assert "Traceback" not in "".join(server.said)
    finally:
        server.stop(signal.SIGKILL)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "Name a model"),
        (["no/such/folder/anywhere"], 1, "Error"),
        (["--reranker", "x", "--port", "99999"], 2, "port"),
    ],
)
def test_wrong_arguments_end_with_a_sentence(arguments, code, told):
    done = subprocess.run(
        [sys.executable, "-m", "sentence_transformers", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_answer_is_plain_json(running):
    answer = httpx.post(f"{running.url}/v1/embeddings", json={"input": "a"}, headers=KEY)
    assert answer.headers["content-type"] == "application/json"
    assert "server" not in answer.headers
    json.loads(answer.content)
