"""In-batch negatives without those that a guide model takes for positives, plain and cached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.cached import CachedLossMixin, put_together
from sentence_transformers.losses.features import Features, cut, run
from sentence_transformers.losses.functional import info_nce
from sentence_transformers.losses.papers import bibtex
from sentence_transformers.losses.retokenize import on_device, reads_the_same, retokenized
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import cos_sim

GUIDE_ROWS = 64
"""Rows that the guide embeds at once, where nothing else is said; it keeps no graph."""

MARGINS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "absolute": lambda own, margin: own - margin,
    # A share of the size, so that a positive margin is strict for negative similarities too.
    "relative": lambda own, margin: own - own.abs() * margin,
}
"""How alike the guide may find an anchor and a negative, given how alike it finds anchor and positive."""


class GISTEmbedLoss(EmbeddingLoss):
    """Ranks each anchor's own positive above the others, except those the guide finds as good or better.

    After Solatorio 2024, "GISTEmbed: Guided In-sample Selection of Training Negatives for Text Embedding
    Fine-tuning" (https://arxiv.org/abs/2402.16829). Columns: anchors, positives, then any number of columns
    of negatives. Each anchor is compared by cosine similarity with all positives and negatives, with the
    other anchors, and its positive with the other positives. A comparison is left out if the guide scores it
    above its own similarity of anchor and positive, less the margin; a row's own positive never is, and a
    row is never its own negative.

    Args:
        model: The model that is trained.
        guide: The model that tells false negatives. It is not trained, and always run in evaluation mode.
            If it does not read the model's tokens, texts are spelled out and tokenised for it.
        temperature: What the similarities are divided by.
        margin_strategy: "absolute": the margin is subtracted from the guide's similarity of anchor and
            positive; "relative": that share of it is.
        margin: Larger ones leave out more; 0 what is above the positive.
        contrast_anchors: Whether other anchors are negatives.
        contrast_positives: Whether other positives are negatives of a positive.
        gather_across_devices: Whether the rows of all processes are negatives.

    Raises:
        ValueError: If `margin_strategy` is unknown, or if one of the models has no tokenizer.
    """

    min_columns: ClassVar[int] = 2
    splits_rows = True

    def __init__(
        self,
        model: Any,
        guide: Any,
        temperature: float = 0.01,
        margin_strategy: str = "absolute",
        margin: float = 0.0,
        contrast_anchors: bool = True,
        contrast_positives: bool = True,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model)
        if margin_strategy not in MARGINS:
            raise ValueError(
                f"margin_strategy={margin_strategy!r} is unknown. Pass one of: {', '.join(map(repr, MARGINS))}."
            )
        for role, which in (("model", model), ("guide", guide)):
            if not hasattr(which, "tokenizer"):
                raise ValueError(
                    f"The {role}, a {type(which).__name__}, has no tokenizer. Pass a SentenceTransformer."
                )
        # No child: nobody should train, save or synchronise it together with the loss.
        object.__setattr__(self, "guide", guide)
        self.temperature = temperature
        self.margin_strategy = margin_strategy
        self.margin = margin
        self.contrast_anchors = contrast_anchors
        self.contrast_positives = contrast_positives
        self.gather_across_devices = gather_across_devices
        self.must_retokenize = not reads_the_same(model, guide)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GISTEmbedLoss:
        if self.guide is not self.model:
            self.guide._apply(fn)
        return super()._apply(fn, recurse)

    def context(self, columns: Sequence[Features]) -> Any:
        """The guide's embeddings of each column."""
        for_guide = [
            retokenized(self.model, self.guide, column)
            if self.must_retokenize
            else on_device(column, self.guide.device)
            for column in columns
        ]
        rows = self.mini_batch_size or GUIDE_ROWS
        embedded = embed_without_training(self.guide, for_guide, rows, self.mini_batch_num_tokens)
        with torch.no_grad():
            return self.gathered(embedded)[0]

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        anchors, positives, *negatives = (column.values for column in embeddings)
        device = anchors.device
        guided = [column.values.to(device) for column in context]
        chosen = torch.arange(len(anchors), device=device)[rows or slice(None)]
        # Anchors × positives first: that is where a row's own positive has its number.
        pairs = [(anchors, positives, guided[0], guided[1])]
        if self.contrast_anchors:
            pairs.append((anchors, anchors, guided[0], guided[0]))
        if self.contrast_positives:
            pairs.append((positives, positives, guided[1], guided[1]))
        pairs.extend((anchors, column, guided[0], known) for column, known in zip(negatives, guided[2:]))

        scores = [cos_sim(a[chosen], b) for a, b, _, _ in pairs]
        known = [cos_sim(a[chosen], b) for _, _, a, b in pairs]
        own = known[0].gather(1, chosen[:, None])  # (R, 1)
        threshold = MARGINS[self.margin_strategy](own, self.margin)
        is_own = torch.arange(len(anchors), device=device) == chosen[:, None]  # (R, B)
        left_out = [similarity > threshold for similarity in known]
        left_out[0] &= ~is_own
        for number in range(1, len(pairs) - len(negatives)):
            left_out[number] |= is_own
        logits = torch.cat(scores, dim=1).masked_fill(torch.cat(left_out, dim=1), -torch.inf)
        yield LossPart("loss", info_nce(logits / self.temperature, chosen))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "guide": str(self.guide),
            "temperature": self.temperature,
            "margin_strategy": self.margin_strategy,
            "margin": self.margin,
            "contrast_anchors": self.contrast_anchors,
            "contrast_positives": self.contrast_positives,
            "gather_across_devices": self.gather_across_devices,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "misc",
            "solatorio2024gistembed",
            title="GISTEmbed: Guided In-sample Selection of Training Negatives for Text Embedding Fine-tuning",
            author=["Aivin V. Solatorio"],
            year=2024,
            arxiv="2402.16829 cs.LG",
        )


class CachedGISTEmbedLoss(CachedLossMixin, GISTEmbedLoss):
    """`GISTEmbedLoss` with cached gradients: large batches in the memory of a small one.

    After Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
    (https://arxiv.org/abs/2101.06983).

    Args:
        model: As in `GISTEmbedLoss`.
        guide: As in `GISTEmbedLoss`.
        temperature: As in `GISTEmbedLoss`.
        mini_batch_size: Rows embedded at once.
        show_progress_bar: Whether to show how far embedding is.
        mini_batch_num_tokens: Tokens embedded at once, padding included; None for any number.
        margin_strategy: As in `GISTEmbedLoss`.
        margin: As in `GISTEmbedLoss`.
        contrast_anchors: As in `GISTEmbedLoss`.
        contrast_positives: As in `GISTEmbedLoss`.
        gather_across_devices: As in `GISTEmbedLoss`.

    Raises:
        ValueError: As in `GISTEmbedLoss`, or if nothing may be embedded at once.
    """

    def __init__(
        self,
        model: Any,
        guide: Any,
        temperature: float = 0.01,
        mini_batch_size: int = 32,
        show_progress_bar: bool = False,
        mini_batch_num_tokens: int | None = None,
        margin_strategy: str = "absolute",
        margin: float = 0.0,
        contrast_anchors: bool = True,
        contrast_positives: bool = True,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(
            model,
            guide,
            temperature,
            margin_strategy=margin_strategy,
            margin=margin,
            contrast_anchors=contrast_anchors,
            contrast_positives=contrast_positives,
            gather_across_devices=gather_across_devices,
        )
        self.cache_gradients(mini_batch_size, mini_batch_num_tokens, show_progress_bar)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        cached = {
            "mini_batch_size": self.mini_batch_size,
            "mini_batch_num_tokens": self.mini_batch_num_tokens,
        }
        return {**super().get_config_dict(), **cached}


@torch.no_grad()
def embed_without_training(
    model: nn.Module, columns: Sequence[Features], max_rows: int, max_tokens: int | None
) -> list[Embeddings]:
    """Embeddings of columns by a model in evaluation mode, a few rows at a time."""
    was_training = model.training
    model.eval()
    try:
        pieces = list(cut([model] * len(columns), columns, max_rows=max_rows, max_tokens=max_tokens))
        results = [run(piece.model, piece.features) for piece in pieces]
    finally:
        model.train(was_training)
    return put_together(pieces, results, len(columns))
