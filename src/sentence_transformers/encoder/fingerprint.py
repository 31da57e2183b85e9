"""What tells one model from another: parts, settings, and samples of the weights.

Nothing here knows what a fingerprint is compared for.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

SAMPLES = 1024
"""Values of each tensor that are looked at, spread evenly: training changes nearly all of them."""


def model_fingerprint(model: Any) -> str:
    """A short text that differs between models whose embeddings would differ.

    It covers the parts with their settings, the longest input, the type of the weights and a sample of each
    tensor, and neither the device nor the place the model was loaded from.
    """
    parts = [
        (name, type(part).__name__, settings_of(part), getattr(part, "max_seq_length", None))
        for name, part in model.named_children()
    ]
    found = hashlib.blake2b(json.dumps(parts, default=str, sort_keys=True).encode(), digest_size=16)
    # What would be saved: other buffers only hold what a module works out when it is made.
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        if isinstance(value, Tensor):
            found.update(f"{value.dtype} {tuple(value.shape)}".encode())
            found.update(sample_of(value))
    return found.hexdigest()


def settings_of(part: Any) -> dict[str, Any]:
    """What a part would save as its configuration; nothing for a part that saves none."""
    return dict(part.get_config_dict()) if hasattr(part, "get_config_dict") else {}


def sample_of(tensor: Tensor) -> bytes:
    """Values of a tensor, spread over it."""
    if tensor.is_meta or tensor.layout != torch.strided:
        return b""
    values = tensor.detach().reshape(-1)
    values = values[:: max(1, values.numel() // SAMPLES)]
    return values.cpu().to(torch.float64).numpy().tobytes()
