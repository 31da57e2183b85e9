"""What a model made of a batch, as one named value.

Models of every kind leave their result in a features dictionary under different keys. `Embeddings.read`
is the only place that knows those keys; everything above it (losses, scorers, the engine) works with the
value. Nothing here knows about models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sentence_transformers.tensors.distributed import all_gather, all_gather_padded
from sentence_transformers.tensors.padding import cat_padded_token_embeddings


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a batch, whatever the kind of model.

    `values` is (B, D) where every row has one vector, or (B, T, D) where every token has one.
    `mask` is (B, T), true where a token counts; None with one vector per row. `layers` are what earlier
    layers of the model would have given, shaped like `values`; empty unless a loss asked for them.
    """

    values: Tensor
    mask: Tensor | None = None
    layers: tuple[Tensor, ...] = ()

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
        return self.with_tensors([tensor[..., :width] for tensor in self.tensors])

    @property
    def tensors(self) -> list[Tensor]:
        """All that gradients flow through: the values, then the earlier layers."""
        return [self.values, *self.layers]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Embeddings:
        """The same rows with other numbers, in the order of `tensors`."""
        return Embeddings(tensors[0], self.mask, tuple(tensors[1:]))

    def __getitem__(self, rows: slice | Tensor | list[int]) -> Embeddings:
        """Some of the rows."""
        mask = None if self.mask is None else self.mask[rows]
        return Embeddings(self.values[rows], mask, tuple(layer[rows] for layer in self.layers))

    @classmethod
    def cat(cls, parts: Sequence[Embeddings]) -> Embeddings:
        """Rows of several batches, one after another; token rows are padded to the longest."""
        if len(parts) == 1:
            return parts[0]
        masks = [part.mask for part in parts if part.mask is not None]
        depth = len(parts[0].layers)
        if not masks:
            stacks = [torch.cat(tensors) for tensors in zip(*(part.tensors for part in parts))]
            return cls(stacks[0], None, tuple(stacks[1:]))
        joined = [
            cat_padded_token_embeddings([part.tensors[number] for part in parts], masks)
            for number in range(depth + 1)
        ]
        return cls(joined[0][0], joined[0][1], tuple(tokens for tokens, _ in joined[1:]))

    def gathered(self) -> Embeddings:
        """The rows of all processes, in the order of their ranks; gradients flow back to each of them."""
        if self.mask is None:
            return self.with_tensors([all_gather(tensor, with_grad=True) for tensor in self.tensors])
        both = [all_gather_padded(tensor, self.mask, with_grad=True) for tensor in self.tensors]
        return Embeddings(both[0][0], both[0][1], tuple(tokens for tokens, _ in both[1:]))
