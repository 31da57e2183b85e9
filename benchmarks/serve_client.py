"""Many clients of a server in one process: what `serve.py` measures with.

Reads one line of JSON, `{"host", "port", "seconds", "clients", "texts": [[…], …]}`: the bodies that the clients
send in turn. Writes one line: the time of each request in seconds, how many failed, and the processor's time that the
clients took. They are plain sockets without an event loop, so that they take little of the cores that the server
computes on.
"""

from __future__ import annotations

import itertools
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

LONGEST_SILENCE = 120.0
"""Seconds without any answer after which what is missing counts as failed."""

Requests = Iterator[tuple[bytes, int]]


class Client:
    """One connection, which sends a request as soon as the one before it was answered."""

    def __init__(self, work: dict[str, Any], requests: Requests, told: dict[str, Any]) -> None:
        self.requests = requests
        self.told = told
        self.socket = socket.create_connection((work["host"], work["port"]))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        request, self.texts = next(self.requests)
        self.received = b""
        self.expected: int | None = None
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what has come; whether the answer is complete now."""
        part = self.socket.recv(1 << 20)
        if not part:
            raise ConnectionError("The server closed the connection.")
        self.received += part
        if self.expected is None:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = self.received[:end].lower()
            self.expected = end + 4 + int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(self.received) < self.expected:
            return False
        self.told["seconds"].append(time.perf_counter() - self.began)
        if self.received.startswith(b"HTTP/1.1 200 "):
            self.told["texts"] += self.texts
        else:
            note_error(self.told, self.received[9:12].decode())
        return True


def as_request(texts: list[str], encoding_format: str) -> tuple[bytes, int]:
    """The bytes of a request, and how many texts are in it."""
    body = json.dumps({"input": texts, "encoding_format": encoding_format}).encode("utf-8")
    head = (
        "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body, len(texts)


def note_error(told: dict[str, Any], name: str) -> None:
    told["errors"][name] = told["errors"].get(name, 0) + 1


def measured(work: dict[str, Any]) -> dict[str, Any]:
    """Run all clients for the time that was asked for."""
    requests = itertools.cycle([as_request(texts, work["encoding_format"]) for texts in work["texts"]])
    told: dict[str, Any] = {"seconds": [], "texts": 0, "errors": {}}
    began, cpu_began = time.perf_counter(), time.process_time()
    until = began + work["seconds"]
    with selectors.DefaultSelector() as waiting:
        for _ in range(work["clients"]):
            client = Client(work, requests, told)
            waiting.register(client.socket, selectors.EVENT_READ, client)
            client.send()
        while waiting.get_map():
            ready = waiting.select(LONGEST_SILENCE)
            if not ready:
                told["errors"]["no answer"] = len(waiting.get_map())
                break
            for key, _ in ready:
                client = key.data
                try:
                    if not client.receive():
                        continue
                    if time.perf_counter() < until:
                        client.send()
                        continue
                except OSError as error:
                    note_error(told, "connection")
                    told.setdefault("first_error", repr(error))
                waiting.unregister(client.socket)
                client.socket.close()
    told["wall"] = time.perf_counter() - began
    told["cpu"] = time.process_time() - cpu_began
    return told


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(measured(json.loads(line))), flush=True)
