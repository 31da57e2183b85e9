"""`sentence-transformers serve`: models behind HTTP.

Only reads arguments; the work is `sentence_transformers.serve`.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from sentence_transformers.cli.console import plain_errors


class LogLevel(str, Enum):
    """How much the server says."""

    critical = "critical"
    error = "error"
    warning = "warning"
    info = "info"
    debug = "debug"


def serve(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A folder, or the name of a model for embeddings.")
    ] = None,
    reranker: Annotated[
        str | None, typer.Option(help="A folder, or the name of a cross-encoder, for /rerank.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 for every address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where to listen.", min=0, max=65535)] = 8000,
    name: Annotated[
        str | None, typer.Option(help="Under which callers know the model.", show_default="as given here")
    ] = None,
    reranker_name: Annotated[
        str | None, typer.Option(help="Under which callers know the reranker.", show_default="as given here")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="SENTENCE_TRANSFORMERS_API_KEY",
            help="What callers send as 'Authorization: Bearer KEY'. Others can see it in a list of processes; they "
            "cannot in the environment variable.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Such as cpu or cuda:0.", show_default="the best")
    ] = None,
    backend: Annotated[str, typer.Option(help="What runs the transformers.")] = "torch",
    dtype: Annotated[str | None, typer.Option(help="Of the weights, such as float16.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Cores to compute with.", min=1, show_default="all")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Batches to compute at once, with a share of the cores each.",
            min=1,
            show_default="up to 4 on a CPU",
        ),
    ] = None,
    max_body_mib: Annotated[int, typer.Option(help="MiB of a request.", min=1)] = 8,
    max_inputs: Annotated[int, typer.Option(help="Texts of a request.", min=1)] = 2048,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a request, about.", min=1)] = 1_000_000,
    max_characters: Annotated[int, typer.Option(help="Characters of a text.", min=1)] = 1_000_000,
    queue_limit: Annotated[
        int, typer.Option(help="Texts that may wait; beyond it callers are told to come again.", min=1)
    ] = 4096,
    max_delay_ms: Annotated[
        float,
        typer.Option(help="Milliseconds to wait for more requests to compute together.", min=0, max=1000),
    ] = 5.0,
    timeout: Annotated[float, typer.Option(help="Seconds until a request is given up.", min=0.001)] = 60.0,
    shutdown_timeout: Annotated[
        int, typer.Option(help="Seconds to finish requests when told to stop.", min=0)
    ] = 30,
    log_level: Annotated[LogLevel, typer.Option(help="How much to say.")] = LogLevel.info,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the model.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the models.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Serve embeddings in OpenAI's protocol (/v1/embeddings), /rerank and /similarity.

    SIGTERM and Ctrl-C stop it when the requests that it has are answered.

    Exit codes: 0 stopped, 1 error, 2 wrong arguments.
    """
    if model is None and reranker is None:
        raise typer.BadParameter("Name a model, or a --reranker.")
    with plain_errors(debug=debug):
        # Said before models are loaded, which may take long.
        from sentence_transformers.serve.run import check_installed

        check_installed()
        import torch

        from sentence_transformers.serve import Settings
        from sentence_transformers.serve import serve as run

        if threads is not None:
            torch.set_num_threads(threads)
        settings = Settings(
            api_key=api_key,
            max_body_bytes=max_body_mib * 2**20,
            max_held_bytes=max(256, 4 * max_body_mib) * 2**20,
            max_inputs=max_inputs,
            max_tokens=max_tokens,
            max_characters=max_characters,
            queue_limit=queue_limit,
            max_delay=max_delay_ms / 1000,
            timeout=timeout,
            workers=workers,
        )
        common: dict[str, Any] = {
            "device": device,
            "backend": backend,
            "trust_remote_code": trust_remote_code,
            "model_kwargs": None if dtype is None else {"dtype": dtype},
        }
        models: dict[str, Any] = {}
        if model is not None:
            from sentence_transformers.sentence_transformer.model import SentenceTransformer

            models[name or usual_name(model)] = SentenceTransformer(model, revision=revision, **common)
        if reranker is not None:
            from sentence_transformers.cross_encoder.model import CrossEncoder

            called = reranker_name or usual_name(reranker)
            if called in models:
                raise ValueError(
                    f"The model and the reranker are both called {called!r}. Pass --reranker-name."
                )
            models[called] = CrossEncoder(reranker, **common)
        run(
            models,
            settings,
            host=host,
            port=port,
            shutdown_timeout=shutdown_timeout,
            log_level=log_level.value,
        )


def usual_name(model: str) -> str:
    """The name of a model as it was given; of a folder the last part, which tells no place of this machine."""
    return Path(model).resolve().name if os.path.isdir(model) else model
