"""Tiny models for recipes to start from, to write queries and to label, saved into a folder once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import FAMILIES, VOCABULARY_SIZE, special_token_ids, tiny_checkpoint, tiny_tokenizer


def tiny_start(folder: Path, family: str = "bert") -> str:
    """A tiny checkpoint to start from."""
    path = folder / "start"
    if not path.is_dir():
        tiny_checkpoint(family, path)
    return str(path)


def other_start(folder: Path) -> str:
    """Another tiny checkpoint than `tiny_start`."""
    path = folder / "other-start"
    if not path.is_dir():
        tiny_checkpoint("bert", path, seed=1)
    return str(path)


def tiny_writer(folder: Path, family: str = "t5") -> str:
    """A tiny model that writes nonsense, the same in each run."""
    path = folder / f"writer-{family}"
    if not path.is_dir():
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

        kind = FAMILIES[family]
        config = AutoConfig.for_model(
            kind.model_type,
            **{"vocab_size": VOCABULARY_SIZE, **special_token_ids(family), **kind.settings},
        )
        whole: Any = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            whole.from_config(config).save_pretrained(path)
        tiny_tokenizer(family).save_pretrained(path)
    return str(path)


def tiny_labeller(folder: Path) -> str:
    """A tiny cross-encoder with one score for a pair."""
    path = folder / "labeller"
    if not path.is_dir():
        import torch

        from sentence_transformers import CrossEncoder

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            CrossEncoder(tiny_start(folder), num_labels=1, device="cpu").save_pretrained(str(path))
    return str(path)
