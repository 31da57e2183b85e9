"""What stands before every route: the key, the limits on bytes and time, the counting, and errors without detail.

Plain ASGI, because it runs for each request and has to see the bytes as they come.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from sentence_transformers.serve.errors import ApiError, too_large, too_many
from sentence_transformers.serve.metrics import Metrics
from sentence_transformers.serve.settings import Settings

logger = logging.getLogger(__name__)

OPEN_TO_ALL = frozenset(("/health", "/ready"))
"""Paths that need no key: a load balancer has none."""

GONE = 499
"""Status under which a request is counted whose caller went away."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Endpoint = Callable[[Any], Awaitable[Any]]
"""What answers a request of Starlette's with a response of its."""


@dataclass
class Load:
    """What a server holds at the moment: requests, and the bytes of their bodies."""

    requests: int = 0
    bytes: int = 0


class Guard:
    """Lets requests through to an application, or answers them itself.

    Args:
        app: The application.
        settings: What is allowed.
        metrics: Where requests are counted.
        load: Is kept up to date.
        routes: Paths to count by name; all others count as "other", so that nobody can invent names.
        direct: What answers a POST to a path without the application between, whose own way to it costs as much
            as computing a short text takes one core.
    """

    def __init__(
        self,
        app: Any,
        settings: Settings,
        metrics: Metrics,
        load: Load,
        routes: frozenset[str],
        direct: Mapping[str, Endpoint],
    ) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.load = load
        self.routes = routes
        self.direct = direct

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        call = Call(self, receive, send)
        self.load.requests += 1
        try:
            await call.answer(scope)
        finally:
            self.load.requests -= 1
            self.load.bytes -= call.bytes
            route = scope["path"] if scope["path"] in self.routes else "other"
            self.metrics.requests.add(1, route, str(call.status or GONE))
            self.metrics.seconds.observe(time.perf_counter() - began, route)

    def check(self, scope: Message) -> None:
        """Raise `ApiError` if a request is not let through, by what its head says."""
        headers = dict(scope["headers"])
        key = self.settings.api_key
        if (
            key is not None
            and scope["path"] not in OPEN_TO_ALL
            # In a time that does not tell how much of it is right.
            and not hmac.compare_digest(headers.get(b"authorization", b""), f"Bearer {key}".encode("ascii"))
        ):
            raise ApiError(
                401,
                "Missing or wrong API key. Send it as 'Authorization: Bearer KEY'.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self.settings.max_body_bytes:
            raise self.body_too_large()

    def body_too_large(self) -> ApiError:
        return too_large(
            f"The request's body is larger than the {self.settings.max_body_bytes} bytes that this server takes."
        )


class Outermost:
    """Stands before an application whose middleware is known, and leads past it to what its guard answers directly.

    Args:
        app: What `create_app` made, with no middleware added to it.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.guard: Guard = app.state.guard

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        is_direct = (
            scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self.guard.direct
        )
        await (self.guard if is_direct else self.app)(scope, receive, send)


class Call:
    """One request and its answer: `bytes` of the body so far, and the `status` once it was sent."""

    def __init__(self, guard: Guard, receive: Receive, send: Send) -> None:
        self.guard = guard
        self.wrapped_receive = receive
        self.wrapped_send = send
        self.bytes = 0
        self.status: int | None = None
        self.is_late = False

    async def answer(self, scope: Message) -> None:
        """Pass the request on; what fails is answered here."""
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(self.guard.settings.timeout, self.expire, task)
        try:
            self.guard.check(scope)
            endpoint = self.guard.direct.get(scope["path"]) if scope["method"] == "POST" else None
            if endpoint is None:
                await self.guard.app(scope, self.receive, self.send)
            else:
                from starlette.requests import Request

                response = await endpoint(Request(scope, self.receive))
                await self.send(
                    {
                        "type": "http.response.start",
                        "status": response.status_code,
                        "headers": response.raw_headers,
                    }
                )
                await self.send({"type": "http.response.body", "body": response.body})
        except ApiError as error:
            await self.refuse(error)
        except asyncio.CancelledError:
            if not self.is_late:
                raise
            if hasattr(task, "uncancel"):  # from Python 3.11 on
                task.uncancel()
            await self.refuse(
                ApiError(504, f"Not done within {self.guard.settings.timeout:g} seconds.", code="timeout")
            )
        except Exception:
            logger.exception("A request to %s failed.", scope["path"])
            await self.refuse(ApiError(500, "Something went wrong in the server.", code="internal_error"))
        finally:
            timer.cancel()

    def expire(self, task: asyncio.Task[Any]) -> None:
        self.is_late = True
        task.cancel()

    async def receive(self) -> Message:
        message = await self.wrapped_receive()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.bytes += size
            self.guard.load.bytes += size
            if self.bytes > self.guard.settings.max_body_bytes:
                raise self.guard.body_too_large()
            if self.guard.load.bytes > self.guard.settings.max_held_bytes:
                raise too_many("Too much is being sent to this server at the moment.", seconds=1)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self.wrapped_send(message)

    async def refuse(self, error: ApiError) -> None:
        """Answer with an error, unless an answer has begun."""
        if self.status is not None:
            return
        body = json.dumps(error.body()).encode("utf-8")
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **{name.lower(): value for name, value in error.headers.items()},
        }
        await self.send(
            {
                "type": "http.response.start",
                "status": error.status,
                "headers": [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()],
            }
        )
        await self.send({"type": "http.response.body", "body": body})
