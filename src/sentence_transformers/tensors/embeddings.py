"""What a model made of a batch, as one named value.

Models of every kind leave their result in a features dictionary under different keys. `Embeddings.read`
is the only place that knows those keys; everything above it (losses, scorers, the engine) works with the
value. Nothing here knows about models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a batch, whatever the kind of model.

    `values` is (B, D) where every row has one vector, or (B, T, D) where every token has one.
    `mask` is (B, T), true where a token counts; None with one vector per row.
    """

    values: Tensor
    mask: Tensor | None = None

    @classmethod
    def read(cls, outputs: Mapping[str, Any]) -> Embeddings:
        """Take the embeddings out of a model's output.

        Args:
            outputs: The features dictionary a model returned. `sentence_embedding` is preferred; without it
                `token_embeddings` is taken together with `attention_mask`.

        Raises:
            KeyError: If neither is there, naming the keys that are.
        """
        if "sentence_embedding" in outputs:
            return cls(outputs["sentence_embedding"])
        if "token_embeddings" in outputs:
            return cls(outputs["token_embeddings"], outputs.get("attention_mask"))
        raise KeyError(
            "The model's output has neither 'sentence_embedding' nor 'token_embeddings', only "
            f"{sorted(outputs)}. Does the model end with a pooling module?"
        )

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def width(self) -> int:
        """Size D of each vector."""
        return self.values.shape[-1]

    def truncate(self, width: int | None) -> Embeddings:
        """Keep the leading `width` dimensions of each vector; None keeps all."""
        if width is None or width >= self.width:
            return self
        return Embeddings(self.values[..., :width], self.mask)
