"""The distribution of which document is best, learnt from the labels of a list."""

from __future__ import annotations

from torch import Tensor

from sentence_transformers.cross_encoder.losses.base import ListwiseLoss
from sentence_transformers.cross_encoder.losses.functional import list_net_loss
from sentence_transformers.losses.papers import bibtex, proceedings


class ListNetLoss(ListwiseLoss):
    """Cross entropy of softmax(scores) against softmax(labels) over the documents of a query, the mean over queries.

    After Cao et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach". Columns: queries, and
    lists of documents. Label: a list of numbers for each query, higher for more relevant documents; lists may
    differ in length.

    Args:
        model: The model, with one score.
        activation_fn: Applied to the scores; None for nothing.
        mini_batch_size: Pairs that are scored at once while gradients are cached, which bounds the memory needed and
            computes each score twice; None, or a number below 1, for all pairs of a batch.

    Raises:
        ValueError: If the model gives several scores.
    """

    def of_lists(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return list_net_loss(scores, labels, mask)

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "cao2007learning",
            title="Learning to Rank: From Pairwise Approach to Listwise Approach",
            author=["Zhe Cao", "Tao Qin", "Tie-Yan Liu", "Ming-Feng Tsai", "Hang Li"],
            year=2007,
            booktitle=proceedings("International Conference on Machine Learning", "24th"),
            pages="129--136",
        )
