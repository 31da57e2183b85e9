"""Many clients of a server in one process: what `serve.py` measures with.

Reads one line of JSON, `{"host", "port", "seconds", "clients", "texts": [[…], …]}`: the bodies that the clients
send in turn. Writes one line: the time of each request in seconds, and how many failed. The clients are written
on plain sockets, so that they take little of the cores that the server computes on.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import Any


async def one_client(work: dict[str, Any], requests: Any, until: float, told: dict[str, Any]) -> None:
    """Send requests over one connection, each when the one before it is answered."""
    reader, writer = await asyncio.open_connection(work["host"], work["port"])
    while time.perf_counter() < until:
        request, texts = next(requests)
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(length)
        told["seconds"].append(time.perf_counter() - began)
        if head.startswith(b"HTTP/1.1 200 "):
            told["texts"] += texts
        else:
            status = head[9:12].decode()
            told["errors"][status] = told["errors"].get(status, 0) + 1
    writer.close()


def as_request(texts: list[str], encoding_format: str) -> tuple[bytes, int]:
    """The bytes of a request, and how many texts are in it."""
    body = json.dumps({"input": texts, "encoding_format": encoding_format}).encode("utf-8")
    head = (
        "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body, len(texts)


async def measured(work: dict[str, Any]) -> dict[str, Any]:
    """Run all clients for the time that was asked for."""
    requests = itertools.cycle([as_request(texts, work["encoding_format"]) for texts in work["texts"]])
    told: dict[str, Any] = {"seconds": [], "texts": 0, "errors": {}}
    began = time.perf_counter()
    until = began + work["seconds"]
    clients = [one_client(work, requests, until, told) for _ in range(work["clients"])]
    failed = [end for end in await asyncio.gather(*clients, return_exceptions=True) if end is not None]
    if failed:
        told["errors"]["connection"] = len(failed)
        told["first_error"] = repr(failed[0])
    told["wall"] = time.perf_counter() - began
    return told


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(asyncio.run(measured(json.loads(line)))), flush=True)
