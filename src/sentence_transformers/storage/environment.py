"""What this machine and this installation offer: devices, packages and their versions.

Nothing heavy is imported to find out, and nothing is installed or changed.
"""

from __future__ import annotations

import importlib.util
import logging
import platform
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import Any, Literal

logger = logging.getLogger(__name__)

DISTRIBUTION_BY_ALIAS = {"pytorch": "torch", "sklearn": "scikit-learn", "PIL": "Pillow", "faiss": "faiss-cpu"}
"""Other names of packages, and the names they are installed by."""

EXTRA_BY_PACKAGE = {
    "accelerate": "train",
    "datasets": "train",
    "peft": "train",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "openvino": "openvino",
    "PIL": "image",
    "Pillow": "image",
    "faiss": "search",
    "usearch": "search",
    "fastapi": "serve",
    "uvicorn": "serve",
    "ray": "ray",
    "nltk": "words",
}
"""The extra of this package that brings an optional package."""

OTHER_OPTIONAL_PACKAGES = (
    "librosa",
    "optimum",
    "scipy",
    "soundfile",
    "torchaudio",
    "torchcodec",
    "torchvision",
)
"""Optional packages without an extra, by the names they are installed by."""


def get_device_name() -> Literal["mps", "cuda", "npu", "hpu", "cpu"]:
    """The device that models run on by default: the first of cuda, mps, npu, hpu that works, else cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    if works("torch_npu", "torch_npu.npu"):
        return "npu"
    if works("habana_frameworks", "habana_frameworks.torch.hpu"):
        return "hpu"
    return "cpu"


def works(package: str, device_module: str) -> bool:
    """Whether a package that adds a device to torch is installed and finds such a device."""
    return importlib.util.find_spec(package) is not None and bool(import_module(device_module).is_available())


def check_package_availability(package_name: str, owner: str) -> bool:
    """Whether a package is installed and comes from the given owner.

    Args:
        package_name: What is imported and installed, such as `datasets`.
        owner: Owner of the source repository, such as `huggingface`. A folder or another package of the same
            name does not count.
    """
    if importlib.util.find_spec(package_name) is None:
        return False
    try:
        described = metadata.metadata(package_name)
    except metadata.PackageNotFoundError:
        return False
    addresses = [*(described.get_all("Home-page") or []), *(described.get_all("Project-URL") or [])]
    return any(f"{owner}/{package_name}" in address for address in addresses)


def is_accelerate_available() -> bool:
    """Whether `accelerate` is installed."""
    return check_package_availability("accelerate", "huggingface")


def is_datasets_available() -> bool:
    """Whether `datasets` is installed."""
    return check_package_availability("datasets", "huggingface")


def is_training_available() -> bool:
    """Whether the packages that training needs are installed: `accelerate` and `datasets`."""
    return is_accelerate_available() and is_datasets_available()


def get_installed_version(package_name: str) -> str | None:
    """The installed version of a package (or of `python`), None if it is not installed."""
    if package_name == "python":
        return platform.python_version()
    if package_name.replace("_", "-") == "sentence-transformers":
        from sentence_transformers import __version__

        return __version__
    try:
        return metadata.version(DISTRIBUTION_BY_ALIAS.get(package_name, package_name))
    except metadata.PackageNotFoundError:
        return None


def check_version_requirements(requirements: dict[str, Any] | None, source: str | None = None) -> None:
    """Check that the packages a model asks for are installed in the right versions.

    Args:
        requirements: Version specifier by package name, such as `{"transformers": ">=5.1"}`. Pre-releases
            count. None, or what cannot be understood, is passed over, the latter with a warning.
        source: Name of the model that asks, for the message.

    Raises:
        ImportError: If a requirement is not met; the message lists all of them and the command to mend it.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if requirements is None:
        return
    if not isinstance(requirements, dict):
        logger.warning(
            "The requirements of %s are ignored: they are no dictionary of version specifiers.", source
        )
        return
    problems: list[str] = []
    to_install: list[str] = []
    for name, specifier in requirements.items():
        try:
            wanted = SpecifierSet(specifier)
        except (InvalidSpecifier, TypeError, AttributeError) as error:  # the last two: it is no text
            logger.warning("The requirement %r of %s is ignored: %s", f"{name} {specifier}", source, error)
            continue
        package = DISTRIBUTION_BY_ALIAS.get(name, name)
        installed = get_installed_version(package)
        if installed is not None and wanted.contains(installed, prereleases=True):
            continue
        state = f"{package}=={installed} is installed" if installed else "it is not installed"
        problems.append(f"- {package}{specifier}, but {state}.")
        if package != "python":
            to_install.append(f'"{package}{specifier}"')
    if not problems:
        return
    who = f"The model {source!r}" if source else "This model"
    lines = [f"{who} requires:", *problems]
    if to_install:
        lines += ["Install what fits with:", f"    pip install -U {' '.join(to_install)}"]
    raise ImportError("\n".join(lines))


@contextmanager
def suggest_extra_on_exception() -> Generator[None, None, None]:
    """Within the block, let an ImportError about an optional package say how to install that package.

    The error itself stays, with its type and its traceback; other errors pass unchanged.
    """
    try:
        yield
    except ImportError as error:
        target = install_target(error)
        if target is not None:
            message = f"{error}\n\nThe missing package can be installed with:\n    pip install -U {target}"
            error.msg = message
            error.args = (message,)
        raise


def install_target(error: ImportError) -> str | None:
    """What to `pip install` after an ImportError; None if it names no optional package."""
    words = [(error.name or "").partition(".")[0], *re.findall(r"[A-Za-z0-9_]+", str(error))]
    for word in words:
        if word in EXTRA_BY_PACKAGE:
            return f'"sentence-transformers[{EXTRA_BY_PACKAGE[word]}]"'
        if word in OTHER_OPTIONAL_PACKAGES:
            return word
    return None


@contextmanager
def disable_datasets_caching() -> Iterator[None]:
    """Within the block, `datasets` keeps no results of its transformations on disk."""
    from datasets import disable_caching, enable_caching, is_caching_enabled

    was_enabled = is_caching_enabled()
    disable_caching()
    try:
        yield
    finally:
        if was_enabled:
            enable_caching()
