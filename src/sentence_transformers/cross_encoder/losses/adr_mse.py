"""The squared error of ranks, learnt from the order that a teacher gives."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sentence_transformers.cross_encoder.losses.base import AS_IT_IS, Activation, ListwiseLoss
from sentence_transformers.cross_encoder.losses.functional import adr_mse_loss
from sentence_transformers.losses.papers import bibtex


class ADRMSELoss(ListwiseLoss):
    """Squared error of each document's rank by score, discounted by its true rank; the mean over documents.

    Approx. discounted rank MSE, after Schlatt et al. 2025, "Rank-DistiLLM: Closing the Effectiveness Gap Between
    Cross-Encoders and LLMs for Passage Re-Ranking". Ranks by score are made smooth; see `adr_mse_loss` in
    `functional.py`. Columns: queries, and lists of documents. Label: a list of numbers for each query, higher for
    more relevant documents, of which only the order counts; equal ones share their mean rank.

    Args:
        model: The model, with one score.
        alpha: How steeply ranks change with the scores.
        activation_fn: Applied to the scores; None for nothing.
        mini_batch_size: Pairs that are scored at once while gradients are cached, which bounds the memory needed and
            computes each score twice; None, or a number below 1, for all pairs of a batch.

    Raises:
        ValueError: If the model gives several scores.
    """

    def __init__(
        self,
        model: Any,
        alpha: float = 1.0,
        activation_fn: Activation | None = AS_IT_IS,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(model, activation_fn, mini_batch_size)
        self.alpha = alpha

    def of_lists(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return adr_mse_loss(scores, labels, mask, alpha=self.alpha)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"alpha": self.alpha, **super().get_config_dict()}

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "schlatt2025rankdistillm",
            title="Rank-DistiLLM: Closing the Effectiveness Gap Between Cross-Encoders and LLMs for Passage Re-ranking",
            author=[
                "Ferdinand Schlatt",
                "Maik Fröbe",
                "Harrisen Scells",
                "Shengyao Zhuang",
                "Bevan Koopman",
                "Guido Zuccon",
                "Benno Stein",
                "Martin Potthast",
                "Matthias Hagen",
            ],
            year=2025,
            booktitle="Advances in Information Retrieval (ECIR 2025)",
            doi="10.1007/978-3-031-88714-7_31",
        )
