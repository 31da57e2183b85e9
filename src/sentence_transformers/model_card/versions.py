"""Versions of the packages a model was made with. Asks the installed metadata and imports nothing."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("sentence_transformers", "transformers", "torch", "accelerate", "datasets", "tokenizers")


def get_versions() -> dict[str, str]:
    """Versions of Python and of those of `PACKAGES` that are installed, by name."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package.replace("_", "-"))
        except PackageNotFoundError:
            continue
    return versions
