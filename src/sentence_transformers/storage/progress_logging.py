"""Log lines and progress bars that do not garble each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm


class LoggingHandler(logging.Handler):
    """A handler that prints log lines above progress bars instead of through them.

    For `logging.basicConfig(handlers=[LoggingHandler()])`.
    """

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        try:
            tqdm.write(self.format(record))
            self.flush()
        except RecursionError:
            raise
        except (
            Exception
        ):  # As every handler does: a log line that cannot be printed must not stop the program.
            self.handleError(record)


def install_logger(
    given_logger: logging.Logger,
    level: int | str = logging.WARNING,
    fmt: str = "%(levelname)s:%(name)s:%(message)s",
) -> None:
    """Let a logger print through a `LoggingHandler`.

    Args:
        given_logger: The logger. A handler that an earlier call gave it is replaced.
        level: The least level to print.
        fmt: Format of the lines.
    """
    for handler in [handler for handler in given_logger.handlers if isinstance(handler, LoggingHandler)]:
        given_logger.removeHandler(handler)
    handler = LoggingHandler()
    handler.setFormatter(logging.Formatter(fmt))
    given_logger.addHandler(handler)
    given_logger.setLevel(level)


@contextmanager
def disable_logging(highest_level: int = logging.CRITICAL) -> Iterator[None]:
    """Within the block, no logger logs anything up to `highest_level`."""
    before = logging.root.manager.disable
    logging.disable(highest_level)
    try:
        yield
    finally:
        logging.disable(before)


class disabled_tqdm(tqdm):
    """A progress bar that never shows, for functions that take the class of their progress bar."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["disable"] = True
        super().__init__(*args, **kwargs)
