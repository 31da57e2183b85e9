"""Compute, train, evaluate and search embeddings of text and images, and rerank.

The shop window: what is most used, resolved on first use, so that importing the package costs nothing.
The names and their homes stand in `compat/moved.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentence_transformers.compat import moved

if TYPE_CHECKING:  # For editors and type checkers, which do not run `__getattr__`.
    from sentence_transformers.cross_encoder.model import CrossEncoder as CrossEncoder
    from sentence_transformers.model_card.cross_encoder import (
        CrossEncoderModelCardData as CrossEncoderModelCardData,
    )
    from sentence_transformers.model_card.sentence_transformer import (
        SentenceTransformerModelCardData as SentenceTransformerModelCardData,
    )
    from sentence_transformers.sentence_transformer.model import SentenceTransformer as SentenceTransformer
    from sentence_transformers.storage.progress_logging import LoggingHandler as LoggingHandler
    from sentence_transformers.tensors.precision import quantize_embeddings as quantize_embeddings
    from sentence_transformers.tensors.similarity import SimilarityFunction as SimilarityFunction

__version__ = "6.2.0+engine.1"

__all__ = ["__version__", "models", "util", *moved.names_at(__name__)]

moved.install()


def __getattr__(name: str) -> Any:
    return moved.find(__name__, name)


def __dir__() -> list[str]:
    return __all__
