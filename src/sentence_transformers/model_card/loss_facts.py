"""What a loss says about itself: the losses inside it, its settings, the paper it comes from.

Losses are only looked at; this file imports none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def get_losses(loss: nn.Module | Mapping[str, nn.Module]) -> list[nn.Module]:
    """A loss and the losses it wraps, outermost first.

    Args:
        loss: A loss, or losses by dataset name. A wrapper holds its inner loss as `loss`.
    """
    pending = list(loss.values()) if isinstance(loss, Mapping) else [loss]
    found: list[nn.Module] = []
    while pending:
        current = pending.pop(0)
        if isinstance(current, nn.Module) and all(current is not seen for seen in found):
            found.append(current)
            pending.insert(0, getattr(current, "loss", None))
    return found


def loss_settings(loss: nn.Module) -> dict[str, Any]:
    """What `get_config_dict` of the loss gives; empty for a loss without one."""
    describe = getattr(loss, "get_config_dict", None)
    return dict(describe()) if callable(describe) else {}


def loss_citation(loss: nn.Module) -> str | None:
    """BibTeX of the loss's paper; None when it names none."""
    citation = getattr(loss, "citation", None)
    return citation.strip() if isinstance(citation, str) and citation.strip() else None
