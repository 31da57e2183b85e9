"""How many tokens fit into one batch, and what to do when they did not.

A budget starts at what is fast on a device, is halved whenever memory runs out, and comes back once many batches
have fitted: who took the memory may have given it back. Nothing here knows what is computed.
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


FITTING_BEFORE_MORE = 16
"""Large batches that must fit before twice as much is tried; twice as many after each failure."""

MOST_FITTING_BEFORE_MORE = 1024


class TokenBudget:
    """Tokens a batch may hold on a device; remembers what proved too many, for a while."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.tokens = TOKENS_PER_BATCH.get(self.device.type, ACCELERATOR_TOKENS)
        self._before = 0  # tokens before they were first lowered
        self._fitted = 0
        self._patience = FITTING_BEFORE_MORE // 2

    def lower(self, failed: int) -> None:
        """Take note that a batch of `failed` tokens did not fit."""
        self._before = max(self._before, self.tokens)
        self.tokens = max(SMALLEST_BUDGET, min(self.tokens, failed // 2))
        self._fitted = 0
        self._patience = min(2 * self._patience, MOST_FITTING_BEFORE_MORE)

    def fitted(self, tokens: int) -> None:
        """Take note that a batch of so many tokens fitted."""
        if self.tokens >= self._before or 2 * tokens < self.tokens:
            return
        self._fitted += 1
        if self._fitted >= self._patience:
            self.tokens = min(2 * self.tokens, self._before)
            self._fitted = 0


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
