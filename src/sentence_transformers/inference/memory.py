"""How many tokens fit into one batch, and what to do when they did not.

A budget starts at what is fast on a device, and is halved whenever memory runs out. Nothing here knows
what is computed.
"""

from __future__ import annotations

import gc

import torch

TOKENS_PER_BATCH = {"cpu": 2048, "mps": 8192}
"""Where a device is at its fastest: on a CPU the states of a batch should stay in the cache."""

ACCELERATOR_TOKENS = 32768

SMALLEST_BUDGET = 64

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "status_alloc_failed")
"""How devices and their libraries (the last is cuBLAS and cuDNN) say that memory ran out."""


class TokenBudget:
    """Tokens a batch may hold on a device; remembers what proved too many."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.tokens = TOKENS_PER_BATCH.get(self.device.type, ACCELERATOR_TOKENS)

    def lower(self, failed: int) -> None:
        """Take note that a batch of `failed` tokens did not fit."""
        self.tokens = max(SMALLEST_BUDGET, min(self.tokens, failed // 2))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)


def release_memory(device: torch.device) -> None:
    """Give back what is cached, so that a smaller batch may fit."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
