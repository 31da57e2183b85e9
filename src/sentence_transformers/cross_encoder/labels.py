"""How many labels a cross-encoder is to have: what the caller asks for beside what the checkpoint has.

Reads a checkpoint's configuration only; nothing here opens weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentence_transformers.backend.lean import label_count
from sentence_transformers.storage.folder import read_json


def with_labels(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Loading options that say how many labels a new head has, checked against the one there may be.

    Raises:
        ValueError: If the checkpoint has a head with another number of labels than was asked for.
    """
    given = options.get("config_kwargs") or {}
    wanted = given.get("num_labels")
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        return options
    if scores_by_logits(folder, options):
        return options
    trained = labels_of_head(folder, options)
    if trained is None:
        if wanted is None and "id2label" not in given:
            return {**options, "config_kwargs": {**given, "num_labels": 1}}
        return options
    if wanted == trained:
        # Asks for nothing that is not there, so the checkpoint can be opened as any other.
        unchanged = {name: value for name, value in given.items() if name != "num_labels"}
        return {**options, "config_kwargs": unchanged}
    replaces = (options.get("model_kwargs") or {}).get("ignore_mismatched_sizes", False)
    if wanted is not None and not replaces:
        raise ValueError(
            f"num_labels={wanted}, but the checkpoint in {folder} was trained with {trained}. Leave "
            "num_labels out to use its head, or pass model_kwargs={'ignore_mismatched_sizes': True} to train a new one."
        )
    return options


def scores_by_logits(folder: Path, options: dict[str, Any]) -> bool:
    """Whether a checkpoint is a causal language model of which no more than one score is wanted."""
    wanted = (options.get("config_kwargs") or {}).get("num_labels")
    architectures, _ = architectures_and_labels(folder, options)
    return wanted in (None, 1) and any(name.endswith("ForCausalLM") for name in architectures)


def labels_of_head(folder: Path, options: dict[str, Any]) -> int | None:
    """How many labels the head of a checkpoint has; None if there is no head for sequence classification."""
    architectures, labels = architectures_and_labels(folder, options)
    return labels if any("ForSequenceClassification" in name for name in architectures) else None


def architectures_and_labels(folder: Path, options: dict[str, Any]) -> tuple[list[str], int]:
    """The classes that a checkpoint names as its own, and how many labels it is set to."""
    path = folder / "config.json"
    settings = read_json(path) if path.is_file() else None
    if settings is None or settings.get("auto_map"):  # left to an adapter's base model, or to code of its own
        from sentence_transformers.modules.transformer.checkpoint import load_config

        config = load_config(str(folder), {"trust_remote_code": options.get("trust_remote_code", False)})
        return list(config.architectures or ()), int(config.num_labels)
    return list(settings.get("architectures") or ()), label_count(settings)
