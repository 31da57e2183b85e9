"""What a server allows, checked at the door. Nothing here serves."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

API_KEY_VARIABLE = "SENTENCE_TRANSFORMERS_API_KEY"
"""Environment variable with the key that callers have to send."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits of a server, and how it batches.

    Args:
        api_key: What callers send as `Authorization: Bearer KEY`; by default that of the environment variable
            `SENTENCE_TRANSFORMERS_API_KEY`, and without either everyone may call.
        max_body_bytes: Of one request.
        max_held_bytes: Of all requests that are being read or answered; beyond it, 429.
        max_inputs: Texts, or documents, of one request.
        max_characters: Of one text.
        max_tokens: Of all texts of one request together, four characters counted as one. A single text is cut to
            what its model reads, as `encode` does.
        max_scores: Numbers in one answer of `/similarity`.
        queue_limit: Inputs that may wait for each model; beyond it, 429 with Retry-After.
        timeout: Seconds until a request is given up with 504.
        max_delay: As for `Batcher`.
        batch_tokens: `max_tokens` of the `Batcher`.
        workers: `workers` of the `Batcher`; None for one on a GPU, and on a CPU for as many as PyTorch has threads,
            four at most.
    """

    api_key: str | None = field(default_factory=lambda: os.environ.get(API_KEY_VARIABLE), repr=False)
    max_body_bytes: int = 8 * 2**20
    max_held_bytes: int = 256 * 2**20
    max_inputs: int = 2048
    max_characters: int = 1_000_000
    max_tokens: int = 1_000_000
    max_scores: int = 1_000_000
    queue_limit: int = 4096
    timeout: float = 60.0
    max_delay: float = 0.005
    batch_tokens: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.strip() == self.api_key):
            raise ValueError("The API key cannot be sent: use ASCII characters, without spaces around them.")
        if self.api_key == "":
            raise ValueError(
                f"The API key is empty, which would let nobody in or everybody. Set {API_KEY_VARIABLE} to a secret, "
                "or unset it."
            )
        for name in ("max_body_bytes", "max_held_bytes", "max_inputs", "max_characters", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} lets nothing through. Pass 1 or more.")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers={self.workers} computes nothing. Pass 1 or more, or None.")
        if not self.timeout > 0:
            raise ValueError(f"timeout={self.timeout} gives no time. Pass a number of seconds above 0.")
