"""Optional packages that a recipe cannot do without, asked for before any work is done."""

from __future__ import annotations

import importlib.util


def need(package: str, *, to: str, extra: str) -> None:
    """Stop unless a package is installed.

    Args:
        package: Its name.
        to: What it is needed for, such as "train adapters".
        extra: Extra of this package that brings it.

    Raises:
        ImportError: If it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f"To {to} takes the package {package}, which is not installed: pip install 'sentence-transformers[{extra}]'"
        )
