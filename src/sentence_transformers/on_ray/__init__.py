"""Encoding on more than one machine, with Ray: data sets of Ray Data, and lists of inputs.

pip install 'sentence-transformers[ray]'

Actors load a model once each, and compute what Ray sends them. Nothing here computes vectors, or starts clusters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers.on_ray.collections import encode, predict
    from sentence_transformers.on_ray.datasets import encode_dataset, predict_dataset

__all__ = ["encode", "encode_dataset", "predict", "predict_dataset"]

HOMES = {
    "encode": "collections",
    "encode_dataset": "datasets",
    "predict": "collections",
    "predict_dataset": "datasets",
}


def __getattr__(name: str) -> Any:
    # The models are imported when one of these is wanted, not before.
    if name in HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
