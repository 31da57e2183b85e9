"""Bring embeddings close to those of a teacher, which were computed beforehand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.distances import cosine_distance, euclidean_distance
from sentence_transformers.losses.matryoshka import width_of
from sentence_transformers.losses.papers import bibtex, proceedings
from sentence_transformers.tensors.embeddings import Embeddings

DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda student, teacher: (student - teacher).square().mean(dim=-1),
    "l2": euclidean_distance,
    "cosine": cosine_distance,
}
"""Distance of each row of a matrix (B, D) to the same row of another, (B,)."""


class EmbedDistillLoss(EmbeddingLoss):
    """Distance of embeddings to those of a teacher.

    After Kim et al. 2023, "EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval"
    (https://arxiv.org/abs/2301.12005). The label of a row is the teacher's vector, for all text columns
    alike, or one vector for each column, (B, columns, D). The loss is the mean over rows and columns.

    Args:
        model: The student.
        distance_metric: "mse", the mean squared difference; "l2", the length of the difference; or "cosine",
            1 - cosine similarity.
        projection_dim: Width of the teacher's vectors where it is not the student's: a linear layer is
            learned that projects to it, and is not a part of the model. None for no projection.

    Raises:
        ValueError: If `distance_metric` is unknown, or if the width of the model is not known where a
            projection needs it.
    """

    labels: ClassVar[str] = "target"

    def __init__(
        self, model: Any, distance_metric: str = "cosine", projection_dim: int | None = None
    ) -> None:
        super().__init__(model)
        if distance_metric not in DISTANCES:
            raise ValueError(
                f"distance_metric={distance_metric!r} is unknown. Pass one of: "
                f"{', '.join(map(repr, DISTANCES))}."
            )
        self.distance_metric = distance_metric
        self.projection_dim = projection_dim
        self.projection: nn.Linear | None = None
        self.width = width_of(model)
        if projection_dim is not None:
            if self.width is None:
                raise ValueError(
                    f"projection_dim={projection_dim} needs the width of the model's embeddings, and no part of "
                    "it says what it is. Give the last part a method get_embedding_dimension."
                )
            self.projection = nn.Linear(self.width, projection_dim, device=next(model.parameters()).device)

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        assert labels is not None
        students = [column.values for column in embeddings]
        width = students[0].shape[-1]
        if self.projection is not None:
            if width != self.width:
                raise ValueError(
                    f"The projection goes from {self.width} dimensions and was given embeddings of {width}. "
                    "It cannot be combined with MatryoshkaLoss, which shortens them."
                )
            students = [self.projection(student) for student in students]
        elif labels.shape[-1] == self.width:
            # Where a wrapper has shortened the student's vectors, the teacher's are shortened as well.
            labels = labels[..., :width]
        teachers = teachers_of(labels, len(students), students[0].shape[-1], type(self).__name__)
        distance = DISTANCES[self.distance_metric]
        distances = [distance(student, teacher.to(student)) for student, teacher in zip(students, teachers)]
        yield LossPart("loss", torch.cat(distances).mean())

    def save_projection(self, path: str | os.PathLike[str]) -> None:
        """Write the projection into a safetensors file.

        Raises:
            ValueError: If there is none.
        """
        from safetensors.torch import save_file

        projection = self._known_projection("save")
        state = {name: tensor.detach().contiguous() for name, tensor in projection.state_dict().items()}
        save_file(state, os.fspath(path))

    def load_projection(self, path: str | os.PathLike[str]) -> None:
        """Read the projection from a file that `save_projection` wrote.

        Raises:
            ValueError: If there is none, or if that in the file has another shape.
        """
        from safetensors.torch import load_file

        projection = self._known_projection("load")
        state = load_file(os.fspath(path))
        saved = tuple(state["weight"].shape)
        if saved != tuple(projection.weight.shape):
            raise ValueError(
                f"The projection in {os.fspath(path)} goes from {saved[1]} to {saved[0]} dimensions, and this loss "
                f"needs one from {projection.in_features} to {projection.out_features}."
            )
        projection.load_state_dict(state)

    def _known_projection(self, verb: str) -> nn.Linear:
        if self.projection is None:
            raise ValueError(
                f"There is no projection to {verb}: {type(self).__name__} was made without projection_dim."
            )
        return self.projection

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"distance_metric": self.distance_metric, "projection_dim": self.projection_dim}

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "article",
            "kim2023embeddistill",
            title="EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval",
            author=[
                "Kim, Seungyeon",
                "Rawat, Ankit Singh",
                "Zaheer, Manzil",
                "Jayasumana, Sadeep",
                "Sadhanala, Veeranjaneyulu",
                "Jitkrittum, Wittawat",
                "Menon, Aditya Krishna",
                "Fergus, Rob",
                "Kumar, Sanjiv",
            ],
            year=2023,
            arxiv="2301.12005 cs.IR",
        )


class MSELoss(EmbedDistillLoss):
    """Mean squared difference of embeddings to those of a teacher.

    After Reimers and Gurevych 2020, "Making Monolingual Sentence Embeddings Multilingual using Knowledge
    Distillation" (https://arxiv.org/abs/2004.09813): a text and its translations, each a column, get the
    vector that the teacher gives the text.

    Args:
        model: The student.
        projection_dim: As in `EmbedDistillLoss`.
    """

    def __init__(self, model: Any, projection_dim: int | None = None) -> None:
        super().__init__(model, distance_metric="mse", projection_dim=projection_dim)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"projection_dim": self.projection_dim}

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "reimers-2020-multilingual-sentence-bert",
            title="Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation",
            author=["Reimers, Nils", "Gurevych, Iryna"],
            year=2020,
            booktitle=proceedings("Conference on Empirical Methods in Natural Language Processing", 2020),
            month=11,
            publisher="Association for Computational Linguistics",
            url="https://arxiv.org/abs/2004.09813",
        )


def teachers_of(labels: Tensor, columns: int, width: int, loss_name: str) -> list[Tensor]:
    """The teacher's vectors (B, D) for each column.

    Args:
        labels: (B, D) for all columns, or (B, columns, D).
        columns: How many text columns there are.
        width: Width D that the vectors should have.
        loss_name: Which loss asks, for the message.

    Raises:
        ValueError: If the labels have another shape.
    """
    shape = tuple(labels.shape)
    if labels.dim() not in (2, 3) or (labels.dim() == 3 and shape[1] != columns):
        raise ValueError(
            f"{loss_name} needs a vector of the teacher for each row, (B, {width}), or one for each of the "
            f"{columns} text columns, (B, {columns}, {width}), and was given labels of shape {shape}."
        )
    if shape[-1] != width:
        raise ValueError(
            f"{loss_name}: the teacher's vectors have {shape[-1]} dimensions and are compared with {width}. Where "
            f"teacher and student differ, pass projection_dim={shape[-1]}."
        )
    return list(labels.unbind(dim=1)) if labels.dim() == 3 else [labels] * columns
