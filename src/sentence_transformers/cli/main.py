"""The way in from a shell. Says what to install where the command line's own packages are missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

NEEDED = ("typer", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What stands behind the command's name; None for those of this process.

    Returns:
        0 when all went well, 1 after an error, 2 when the arguments make no sense, 130 after Ctrl-C.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"The command line needs {' and '.join(missing)}: pip install 'sentence-transformers[cli]'",
            file=sys.stderr,
        )
        return 1
    from sentence_transformers.cli.app import run

    return run(arguments)
