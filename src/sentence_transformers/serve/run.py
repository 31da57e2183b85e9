"""Running a server until it is told to stop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from sentence_transformers.serve.memory import flat_memory, nothing_to_collect
from sentence_transformers.serve.settings import Settings

SWITCH_INTERVAL = 0.0005
"""Seconds for which one thread keeps the others from running Python. Python's usual 5 ms are longer than a step of a
model: its thread would wait for the event loop after each."""

BACKLOG = 2048


def serve(
    models: Any,
    settings: Settings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    shutdown_timeout: int = 30,
    log_level: str = "info",
) -> None:
    """Serve models until SIGINT or SIGTERM; requests that were accepted by then are answered.

    Args:
        models: As for `create_app`.
        settings: As for `create_app`.
        host: Where to listen; "0.0.0.0" for all the machine's addresses.
        port: Where to listen; 0 for any that is free.
        shutdown_timeout: Seconds that requests have to be answered after the signal.
        log_level: Of uvicorn: "critical", "error", "warning", "info", "debug".

    Raises:
        ImportError: If FastAPI or uvicorn are missing.
        OSError: If the address is taken or not this machine's.
    """
    check_installed()
    import uvicorn

    from sentence_transformers.serve.app import create_app
    from sentence_transformers.serve.guard import Outermost

    config = uvicorn.Config(
        Outermost(create_app(models, settings)),
        host=host,
        port=port,
        http=http_protocol(),
        log_level=log_level,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=shutdown_timeout,
    )
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        with quiet_signals(), flat_memory(), nothing_to_collect():
            uvicorn.Server(config).run()
    finally:
        sys.setswitchinterval(interval)


def http_protocol() -> Any:
    """What speaks HTTP: the faster of two where it is installed."""
    if find_spec("httptools") is None:
        return "h11"
    from sentence_transformers.serve.protocol import LimitedHeads

    return LimitedHeads


@contextmanager
def quiet_signals() -> Iterator[None]:
    """Within the block, and in the main thread, signals to stop end nothing by themselves.

    uvicorn stops in good order at them, and then raises them again for those who were there before it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, frame: None) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before):
            signal.signal(kind, handler)


def check_installed() -> None:
    """Raise `ImportError` with what to install, if something is missing."""
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Serving needs {' and '.join(missing)}: pip install 'sentence-transformers[serve]'"
        )
