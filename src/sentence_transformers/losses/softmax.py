"""Classify pairs of texts by their embeddings, as for natural language inference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.features import Features
from sentence_transformers.losses.papers import bibtex, proceedings
from sentence_transformers.tensors.embeddings import Embeddings

CROSS_ENTROPY = nn.CrossEntropyLoss()


class SoftmaxLoss(EmbeddingLoss):
    """Cross entropy of a linear classifier, `classifier`, on what two embeddings are and how they differ.

    Takes two text columns and a label, the number of a class. After Reimers and Gurevych 2019, "Sentence-BERT:
    Sentence Embeddings using Siamese BERT-Networks" (https://arxiv.org/abs/1908.10084).

    Args:
        model: The model.
        embedding_dimension: Width of its embeddings. Older name: `sentence_embedding_dimension`.
        num_labels: How many classes there are.
        concatenation_sent_rep: Whether the classifier sees the two embeddings.
        concatenation_sent_difference: Whether it sees the size of their difference, |a - b|.
        concatenation_sent_multiplication: Whether it sees their product, a · b in each dimension.
        loss_fct: Compares the logits, (B, classes), with the labels, and gives a scalar. Labels may be rows of
            numbers if it takes them; the cross entropy takes probabilities of the classes, (B, classes).

    Raises:
        ValueError: If the classifier would see nothing.
    """

    min_columns: ClassVar[int] = 2
    max_columns: ClassVar[int | None] = 2
    labels: ClassVar[str] = "class"

    @accepts_older_names(sentence_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        model: Any,
        embedding_dimension: int,
        num_labels: int,
        concatenation_sent_rep: bool = True,
        concatenation_sent_difference: bool = True,
        concatenation_sent_multiplication: bool = False,
        loss_fct: Callable[[Tensor, Tensor], Tensor] = CROSS_ENTROPY,
    ) -> None:
        super().__init__(model)
        self.num_labels = num_labels
        self.concatenation_sent_rep = concatenation_sent_rep
        self.concatenation_sent_difference = concatenation_sent_difference
        self.concatenation_sent_multiplication = concatenation_sent_multiplication
        self.loss_fct = loss_fct
        vectors = (
            2 * concatenation_sent_rep + concatenation_sent_difference + concatenation_sent_multiplication
        )
        if vectors == 0:
            raise ValueError(
                "SoftmaxLoss has nothing to classify by: set one of concatenation_sent_rep, "
                "concatenation_sent_difference and concatenation_sent_multiplication to True."
            )
        self.classifier = nn.Linear(
            vectors * embedding_dimension, num_labels, device=getattr(model, "device", None)
        )

    def forward(
        self, sentence_features: Iterable[Features], labels: Tensor | None = None
    ) -> Tensor | dict[str, Tensor] | tuple[list[Tensor], Tensor]:
        """Compute the loss of a batch, or, without labels, what the classifier says.

        Returns:
            The loss, a scalar. Without labels a pair: the embeddings of both columns, (B, D) each, and the
            logits, (B, classes).
        """
        if labels is not None:
            return super().forward(sentence_features, labels)
        columns = list(sentence_features)
        self.check_columns(len(columns))
        embeddings = self.embed(columns)
        return [column.values for column in embeddings], self.logits(embeddings)

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        assert labels is not None, "checked before"
        if labels.numel() == len(labels):
            labels = labels.flatten()
        yield LossPart("loss", self.loss_fct(self.logits(embeddings), labels))

    def logits(self, embeddings: Sequence[Embeddings]) -> Tensor:
        """What the classifier says, (B, classes)."""
        a, b = (column.values.to(self.classifier.weight.dtype) for column in embeddings)
        vectors = [a, b] if self.concatenation_sent_rep else []
        if self.concatenation_sent_difference:
            vectors.append((a - b).abs())
        if self.concatenation_sent_multiplication:
            vectors.append(a * b)
        return self.classifier(torch.cat(vectors, dim=1))

    def check_labels(self, labels: Any) -> None:
        """Stop if there are no labels, or others than class numbers where only those will do."""
        takes_classes_only = isinstance(self.loss_fct, nn.CrossEntropyLoss) and not (
            isinstance(labels, Tensor) and labels.dim() == 2 and labels.shape[1] == self.num_labels
        )
        if labels is None or takes_classes_only:
            super().check_labels(labels)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "num_labels": self.num_labels,
            "concatenation_sent_rep": self.concatenation_sent_rep,
            "concatenation_sent_difference": self.concatenation_sent_difference,
            "concatenation_sent_multiplication": self.concatenation_sent_multiplication,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "reimers-2019-sentence-bert",
            title="Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks",
            author=["Reimers, Nils", "Gurevych, Iryna"],
            year=2019,
            booktitle=proceedings("Conference on Empirical Methods in Natural Language Processing", 2019),
            month=11,
            publisher="Association for Computational Linguistics",
            url="https://arxiv.org/abs/1908.10084",
        )
