"""The routes: what each reads, asks of a model, and answers.

The event loop only passes things on: models compute in their batcher's thread, and large bodies are read and
written in others.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request, Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from sentence_transformers.backend.openmp import release_helpers
from sentence_transformers.serve import messages
from sentence_transformers.serve.errors import ApiError, too_large
from sentence_transformers.serve.guard import GONE, Endpoint, Guard, Load
from sentence_transformers.serve.metrics import CONTENT_TYPE, Metrics
from sentence_transformers.serve.served import Served
from sentence_transformers.serve.settings import Settings

LARGE_BODY = 64 * 1024
"""Bytes of a body from which on it is read in a thread."""

LARGE_ANSWER = 16 * 1024
"""Numbers of an answer from which on it is written in a thread."""

PATIENCE = 1.0
"""Seconds after which it is looked whether the caller is still there."""

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": messages.ErrorAnswer, "description": meaning}
    for status, meaning in {
        400: "The request makes no sense.",
        401: "The API key is missing or wrong.",
        404: "There is no such model.",
        413: "The request is too large.",
        415: "The body is no JSON.",
        429: "The server is busy; Retry-After says when to come again.",
        500: "The server failed.",
        503: "The server is being stopped.",
        504: "It took too long.",
    }.items()
}

Kind = TypeVar("Kind", bound=messages.Wanted)
Result = TypeVar("Result")


def create_app(models: Any, settings: Settings | None = None) -> FastAPI:
    """An application that serves models.

    `POST /v1/embeddings` speaks OpenAI's protocol; `/rerank` (also `/v1/rerank`), `/similarity`, `/v1/models`,
    `/health`, `/ready` and `/metrics` stand beside it, and `/openapi.json` describes them all.

    Args:
        models: A `SentenceTransformer` or `CrossEncoder`, a list of them, or a dictionary with names. Requests
            that name none get the first of the kind they need.
        settings: Limits and batching; None for the usual ones.

    Returns:
        The FastAPI application. Its lifespan computes something with each model at the start, and finishes what
        was accepted at the end.

    Raises:
        ValueError: If there is no model, two have one name, or a cross-encoder gives several scores.
    """
    settings = settings or Settings()
    release_helpers()  # of who loaded the models
    served = named(models, settings)
    server = Server(served, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for one in served.values():
            await asyncio.to_thread(one.warm_up)
        server.is_ready = True
        yield
        server.is_ready = False
        for one in served.values():
            await asyncio.to_thread(one.close)

    from sentence_transformers import __version__

    app = FastAPI(
        title="Sentence Transformers",
        version=__version__,
        lifespan=lifespan,
        # Those pages draw scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    server.add_routes(app)
    guarding: dict[str, Any] = {
        "settings": settings,
        "metrics": server.metrics,
        "load": server.load,
        "routes": frozenset(getattr(route, "path", "") for route in app.routes),
        "direct": server.direct,
    }
    app.add_middleware(Guard, **guarding)
    app.state.guard = Guard(app, **guarding)
    app.add_exception_handler(ApiError, answer_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    return app


class Server:
    """The routes, and what they share."""

    def __init__(self, served: dict[str, Served], settings: Settings) -> None:
        self.served = served
        self.settings = settings
        self.began = int(time.time())
        self.is_ready = False
        self.load = Load()
        self.direct: dict[str, Endpoint] = {}
        self.metrics = Metrics(
            waiting=lambda: {name: one.waiting for name, one in served.items()},
            in_flight=lambda: self.load.requests,
        )
        for one in served.values():
            one.metrics = self.metrics

    def add_routes(self, app: FastAPI) -> None:
        """Give an application those routes for which there is a model."""
        kinds = {one.is_reranker for one in self.served.values()}
        posts: list[tuple[str, Callable[..., Any], type[messages.Wanted], type[Any]]] = []
        if False in kinds:
            posts += [
                ("/v1/embeddings", self.embeddings, messages.EmbeddingsRequest, messages.EmbeddingsAnswer),
                ("/similarity", self.similarity, messages.SimilarityRequest, messages.SimilarityAnswer),
            ]
        if True in kinds:
            posts += [
                (path, self.rerank, messages.RerankRequest, messages.RerankAnswer)
                for path in ("/rerank", "/v1/rerank")
            ]
        for path, endpoint, request, answer in posts:
            self.direct[path] = endpoint
            schema = {
                "content": {"application/json": {"schema": request.model_json_schema()}},
                "required": True,
            }
            app.add_api_route(
                path,
                endpoint,
                methods=["POST"],
                responses={200: {"model": answer}, **ERRORS},
                openapi_extra={"requestBody": schema},
                operation_id=path.strip("/").replace("/", "_"),
            )
        app.add_api_route("/v1/models", self.models, responses={200: {"model": messages.ModelList}})
        app.add_api_route("/health", self.health)
        app.add_api_route("/ready", self.ready, responses={503: {"description": "Not yet, or not any more."}})
        app.add_api_route(
            "/metrics",
            self.metrics_text,
            responses={200: {"content": {"text/plain": {}}}},
            response_class=Response,
        )

    # -- routes ------------------------------------------------------------------------------------------

    async def embeddings(self, request: Request) -> Response:
        """Vectors of texts, in OpenAI's protocol."""
        wanted = await parsed(messages.EmbeddingsRequest, request)
        model = self.chosen(wanted.model, is_reranker=False)
        inputs = messages.read_input(wanted.input, self.settings)
        found = await unless_gone(request, model.embed(inputs, wanted))
        as_text = wanted.encoding_format == "base64"

        def written() -> bytes:
            data = [
                {
                    "object": "embedding",
                    "index": number,
                    "embedding": in_base64(vector) if as_text else vector.tolist(),
                }
                for number, (vector, _) in enumerate(found)
            ]
            tokens = sum(count for _, count in found)
            return to_json({"object": "list", "data": data, "model": model.name, "usage": usage(tokens)})

        return await answered(written, numbers=len(found) * len(found[0][0]) // (8 if as_text else 1))

    async def rerank(self, request: Request) -> Response:
        """Order documents by how well they answer a query."""
        wanted = await parsed(messages.RerankRequest, request)
        model = self.chosen(wanted.model, is_reranker=True)
        messages.check_length([wanted.query], "query", self.settings)
        documents = messages.read_documents(wanted.documents, self.settings)
        found = await unless_gone(request, model.score(wanted.query, documents))
        scores = [float(score) for score, _ in found]
        # Sorting keeps the order of documents with equal scores.
        order = sorted(range(len(scores)), key=lambda number: -scores[number])[: wanted.top_n]
        results = [
            {
                "index": number,
                "relevance_score": scores[number],
                **({"document": {"text": documents[number]}} if wanted.return_documents else {}),
            }
            for number in order
        ]
        tokens = sum(count for _, count in found)
        return await answered(
            lambda: to_json({"model": model.name, "results": results, "usage": usage(tokens)}),
            numbers=len(results),
        )

    async def similarity(self, request: Request) -> Response:
        """Compare all of one list of texts with all of another."""
        wanted = await parsed(messages.SimilarityRequest, request)
        model = self.chosen(wanted.model, is_reranker=False)
        first = messages.read_texts(wanted.sentences1, "sentences1", self.settings)
        second = (
            []
            if wanted.sentences2 is None
            else messages.read_texts(wanted.sentences2, "sentences2", self.settings)
        )
        messages.check_number([*first, *second], "sentences1 and sentences2", self.settings)
        numbers = len(first) * (len(second) or len(first))
        if numbers > self.settings.max_scores:
            raise too_large(
                f"These are {numbers} scores, more than the {self.settings.max_scores} of one answer."
            )
        found = await unless_gone(request, model.embed([*first, *second], wanted))

        def written() -> bytes:
            vectors = np.stack([vector for vector, _ in found])
            rows = vectors[: len(first)]
            answer = {
                "object": "similarity",
                "model": model.name,
                "similarity_fn_name": model.model.similarity_fn_name,
                "scores": model.compare(rows, vectors[len(first) :] if second else rows),
                "usage": usage(sum(count for _, count in found)),
            }
            return to_json(answer)

        # In a thread always: comparing computes.
        return await answered(written, numbers=LARGE_ANSWER)

    async def models(self) -> Response:
        """The models that are served."""
        data = [
            {"id": name, "object": "model", "created": self.began, "owned_by": "sentence-transformers"}
            for name in self.served
        ]
        return json_response(to_json({"object": "list", "data": data}))

    async def health(self) -> Response:
        """The process is alive."""
        return json_response(b'{"status":"ok"}')

    async def ready(self) -> Response:
        """The models are loaded, and requests are taken."""
        if self.is_ready:
            return json_response(b'{"status":"ready"}')
        return Response(b'{"status":"not ready"}', status_code=503, media_type="application/json")

    async def metrics_text(self) -> Response:
        """Counts in the format of Prometheus."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    def chosen(self, name: str | None, *, is_reranker: bool) -> Served:
        """The model of that name, or the first of its kind."""
        fitting = {key: one for key, one in self.served.items() if one.is_reranker == is_reranker}
        if name is None:
            return next(iter(fitting.values()))
        if name not in fitting:
            raise ApiError(
                404,
                f"No model of this name does that here. There is: {', '.join(fitting)}.",
                param="model",
                code="model_not_found",
            )
        return fitting[name]


# -- reading ----------------------------------------------------------------------------------------------


def named(models: Any, settings: Settings) -> dict[str, Served]:
    """Models by the names under which they are served."""
    if isinstance(models, Mapping):
        pairs = list(models.items())
    else:
        several: Sequence[Any] = models if isinstance(models, (list, tuple)) else [models]
        pairs = [(usual_name(model), model) for model in several]
    names = [name for name, _ in pairs]
    if not pairs or len(set(names)) < len(names):
        raise ValueError(f"There have to be models with names of their own to serve, not {names!r}.")
    return {name: Served(name, model, settings) for name, model in pairs}


def usual_name(model: Any) -> str:
    """What a model is called: what its card says, else its kind."""
    card = getattr(model, "model_card_data", None)
    return getattr(card, "model_id", None) or getattr(card, "base_model", None) or type(model).__name__


async def parsed(kind: type[Kind], request: Request) -> Kind:
    """The request in a body of JSON."""
    content = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content != "application/json" and not content.endswith("+json"):
        raise ApiError(415, "Send JSON, with the header 'Content-Type: application/json'.", code="no_json")
    body = await request.body()
    if len(body) < LARGE_BODY:
        return messages.read(kind, body)
    return await asyncio.to_thread(messages.read, kind, body)


async def unless_gone(request: Request, future: asyncio.Future[Result]) -> Result:
    """Await a result; given up when the caller goes away, so that nobody computes for nobody."""
    watcher: asyncio.Task[None] | None = None
    is_gone = False

    def leave(watcher: asyncio.Task[None]) -> None:
        nonlocal is_gone
        if not watcher.cancelled():
            watcher.exception()  # has been seen
            is_gone = True
            future.cancel()

    def watch() -> None:
        nonlocal watcher
        watcher = asyncio.ensure_future(gone(request))
        watcher.add_done_callback(leave)

    timer = asyncio.get_running_loop().call_later(PATIENCE, watch)
    try:
        return await future
    except asyncio.CancelledError:
        if is_gone:
            raise ApiError(GONE, "The caller went away.") from None
        raise
    finally:
        timer.cancel()
        future.cancel()
        if watcher is not None:
            watcher.cancel()


async def gone(request: Request) -> None:
    """Returns when the caller has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


# -- answering --------------------------------------------------------------------------------------------


async def answered(written: Callable[[], bytes], *, numbers: int) -> Response:
    """The answer that a function writes: here, or in a thread if there is much of it."""
    content = written() if numbers < LARGE_ANSWER else await asyncio.to_thread(written)
    return json_response(content)


def json_response(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def in_base64(vector: np.ndarray) -> str:
    """A vector's float32 numbers, little-endian, in base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}


async def answer_error(request: Request, error: Exception) -> Response:
    """An error that a caller is to see."""
    assert isinstance(error, ApiError)
    return Response(to_json(error.body()), error.status, error.headers, "application/json")


async def answer_http_error(request: Request, error: Exception) -> Response:
    """No such route, or no such method of it."""
    assert isinstance(error, HTTPException)
    told = ApiError(error.status_code, error.detail, headers=dict(error.headers or {}))
    return await answer_error(request, told)
