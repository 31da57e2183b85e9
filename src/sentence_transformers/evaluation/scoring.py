"""Embed what an evaluator holds, and compare embeddings, whatever the kind of the model.

The only place in this folder that calls a model's `encode`. Models are known by their methods alone, so
other people's serve as well: `encode` must be there; `encode_query`, `encode_document`, `similarity`,
`similarity_pairwise` and `similarity_fn_name` are used if they are. Which numbers come of the scores
stands in the evaluators.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sentence_transformers.evaluation.base import MeasuringEvaluator
from sentence_transformers.tensors.blocks import ranges, some_rows
from sentence_transformers.tensors.similarity import Similarity, SimilarityFunction, similarity_named
from sentence_transformers.tensors.vectors import as_coo, as_tensor, is_sparse, truncate_embeddings

Role = Literal["query", "document"]
Embeddings = Any  # A tensor (N, D), dense or sparse; or a list of N tensors (T, D)

DISTANCES = ("euclidean", "manhattan")
"""Similarities that are negated distances."""


class EmbeddingScorer:
    """Embeds inputs with a model, and compares embeddings.

    Args:
        model: The model.
        similarities: Names of the similarities to compare with; or functions by name, each one of two collections
            (n, …), (m, …) -> (n, m); None for the similarity that the model is configured with.
        batch_size: Inputs of a batch at most.
        show_progress_bar: Whether to show progress.
        truncate_dim: Keep this many leading dimensions, in these calls only; None for the model's own setting.
        options: Further arguments of the model's `encode`.
        embed: Stands in for `embed_inputs`; called as `embed(model, inputs, **kwargs)`, with the keyword
            `encode_fn_name` if there is a role, and `prompt` and `prompt_name` if they are given.

    Raises:
        ValueError: If there is no similarity of a given name.
    """

    def __init__(
        self,
        model: Any,
        similarities: Sequence[str | SimilarityFunction] | Mapping[str, Similarity] | None = None,
        *,
        batch_size: int = 32,
        show_progress_bar: bool | None = False,
        truncate_dim: int | None = None,
        options: Mapping[str, Any] | None = None,
        embed: Callable[..., Any] | None = None,
    ) -> None:
        self.model = model
        self.similarities = similarity_functions(model, similarities)
        self.embed = embed or functools.partial(
            embed_inputs,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            truncate_dim=truncate_dim,
            **(options or {}),
        )

    @property
    def names(self) -> list[str]:
        """Names of the similarities, in the order they were given."""
        return list(self.similarities)

    def encode(
        self,
        inputs: Sequence[Any],
        role: Role | None = None,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        **options: Any,
    ) -> Embeddings:
        """Embed inputs.

        Args:
            inputs: The inputs.
            role: What they are to the model: "query", "document", or neither.
            prompt: Put in front of each text; None for the model's own.
            prompt_name: Name of a prompt of the model.
            **options: Further arguments of the model's `encode`.

        Returns:
            A tensor (N, D), dense or sparse; or a list of N tensors (T, D) from a model with token vectors.
        """
        given = {"encode_fn_name": role, "prompt": prompt, "prompt_name": prompt_name}
        given = {key: value for key, value in given.items() if value is not None}
        return as_embeddings(self.embed(self.model, inputs, **given, **options))

    def encode_together(self, *columns: Sequence[Any], **options: Any) -> list[Embeddings]:
        """Embed several lists of inputs in one go, so that equal inputs are computed once.

        Args:
            *columns: The lists.
            **options: Further arguments of `encode`.

        Returns:
            Embeddings of each list.
        """
        together = self.encode([item for column in columns for item in column], **options)
        ends = list(itertools.accumulate(map(len, columns)))
        starts = [0, *ends]
        return [some_rows(together, range(start, end)) for start, end in zip(starts, ends)]

    def pairs(self, a: Embeddings, b: Embeddings, similarity: str | None = None) -> Tensor:
        """Score row i of one input against row i of another, (N,); higher is more alike.

        Args:
            a: Embeddings, from `encode`.
            b: As many.
            similarity: One of `names`; None for the first.
        """
        return self.similarities[similarity or self.names[0]][1](a, b)

    def matrix(self, queries: Embeddings, documents: Embeddings, similarity: str | None = None) -> Tensor:
        """Score every query against every document, (Q, N); arguments as in `pairs`."""
        return self.similarities[similarity or self.names[0]][0](queries, documents)


class EmbeddingEvaluator(MeasuringEvaluator):
    """An evaluator of models that embed: its settings of encoding, and the scorer made from them.

    Subclasses for other kinds of models change `embed_inputs`.

    Args:
        name: Put in front of the metrics' names, and part of the file's.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        csv_file: Name of that file.
        batch_size: Inputs of a batch at most.
        show_progress_bar: Whether to show progress.
        truncate_dim: Keep this many leading dimensions; None for the model's own setting.
    """

    def __init__(
        self,
        *,
        name: str,
        write_csv: bool,
        csv_file: str,
        batch_size: int,
        show_progress_bar: bool | None = False,
        truncate_dim: int | None = None,
    ) -> None:
        super().__init__(name=name, write_csv=write_csv, csv_file=csv_file)
        self.batch_size = batch_size
        self.show_progress_bar = show_progress_bar
        self.truncate_dim = truncate_dim

    def embed_inputs(
        self, model: Any, sentences: Sequence[Any], encode_fn_name: Role | None = None, **kwargs: Any
    ) -> Any:
        """Embed inputs with this evaluator's settings; for subclasses to change what `encode` is asked for.

        Args:
            model: The model.
            sentences: The inputs.
            encode_fn_name: "query" or "document" for `encode_query` or `encode_document`.
            **kwargs: Further arguments of the model's `encode`.
        """
        settings = {
            "batch_size": self.batch_size,
            "show_progress_bar": self.show_progress_bar,
            "truncate_dim": self.truncate_dim,
        }
        return embed_inputs(model, sentences, encode_fn_name, **{**settings, **kwargs})

    def scorer(
        self,
        model: Any,
        similarities: Sequence[str | SimilarityFunction] | Mapping[str, Similarity] | None = None,
    ) -> EmbeddingScorer:
        """A scorer of this model that embeds through `embed_inputs`."""
        return EmbeddingScorer(model, similarities, embed=self.embed_inputs)

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        return {} if self.truncate_dim is None else {"truncate_dim": self.truncate_dim}


def embed_inputs(
    model: Any,
    sentences: Sequence[Any],
    encode_fn_name: Role | None = None,
    *,
    batch_size: int = 32,
    show_progress_bar: bool | None = False,
    truncate_dim: int | None = None,
    **kwargs: Any,
) -> Any:
    """Call the method of a model that embeds.

    Args:
        model: The model.
        sentences: The inputs.
        encode_fn_name: "query" or "document" for `encode_query` or `encode_document`, where the model has them.
        batch_size: Inputs of a batch at most.
        show_progress_bar: Whether to show progress.
        truncate_dim: Keep this many leading dimensions; None for the model's own setting. A model that takes no
            such argument has its embeddings shortened here.
        **kwargs: Further arguments of the model's method.

    Returns:
        A tensor (N, D), dense or sparse; or a list of N tensors (T, D).
    """
    encode = getattr(model, f"encode_{encode_fn_name}", None) if encode_fn_name else None
    encode = encode or model.encode
    offered = {"batch_size": batch_size, "show_progress_bar": show_progress_bar, "convert_to_tensor": True}
    if truncate_dim is not None:
        offered["truncate_dim"] = truncate_dim
    accepted = {key: value for key, value in offered.items() if key in accepted_names(encode, tuple(offered))}
    embeddings = as_embeddings(encode(sentences, **{**accepted, **kwargs}))
    return embeddings if "truncate_dim" in accepted else truncate_embeddings(embeddings, truncate_dim)


def accepted_names(encode: Callable[..., Any], offered: Sequence[str]) -> set[str]:
    """Which keyword arguments a model's method takes.

    A method that names no batch size but takes keyword arguments is a wrapper, which hands all of them on.
    Others take keyword arguments for their modules, which must not see what they do not know.
    """
    parameters = inspect.signature(encode).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return set(offered) if takes_any and "batch_size" not in parameters else set(offered) & set(parameters)


def as_embeddings(values: Any) -> Embeddings:
    """What a model returned, as one tensor; a list of token matrices stays a list (of tensors)."""
    if isinstance(values, (list, tuple)) and len(values) and np.ndim(values[0]) == 2:
        return [as_tensor(value) for value in values]
    embeddings = as_tensor(values)
    return as_coo(embeddings) if is_sparse(embeddings) else embeddings


def similarity_functions(
    model: Any, similarities: Sequence[str | SimilarityFunction] | Mapping[str, Similarity] | None
) -> dict[str, tuple[Similarity, Similarity]]:
    """The matrix and the pairwise form of each similarity, by name.

    For the model's own similarity these are the model's own functions: it may have them changed.
    """
    if isinstance(similarities, Mapping):
        return {name: (matrix, row_by_row(matrix)) for name, matrix in similarities.items()}
    own = own_similarity(model)
    names = [own] if not similarities else [similarity_named(name).value for name in similarities]
    functions = {}
    for name in names:
        matrix = SimilarityFunction.to_similarity_fn(name)
        pairwise = SimilarityFunction.to_similarity_pairwise_fn(name)
        if name == own:
            matrix = getattr(model, "similarity", None) or matrix
            pairwise = getattr(model, "similarity_pairwise", None) or pairwise
        functions[name] = (matrix, pairwise)
    return functions


def checked_similarities(
    names: Sequence[str | SimilarityFunction] | None, main: SimilarityFunction | None = None
) -> list[str] | None:
    """The similarities to evaluate, with the main one; None for the model's own.

    Raises:
        ValueError: If there is no similarity of a given name.
    """
    asked = [*(names or ()), *([] if main is None else [main])]
    return list(dict.fromkeys(similarity_named(name).value for name in asked)) or None


def own_similarity(model: Any) -> str:
    """Name of the similarity a model is configured with; cosine for one that does not say."""
    name = getattr(model, "similarity_fn_name", None) or SimilarityFunction.COSINE
    return similarity_named(name).value


def row_by_row(matrix: Similarity) -> Similarity:
    """The pairwise form of a function that compares all of one collection with all of another."""

    def pairwise(a: Embeddings, b: Embeddings) -> Tensor:
        rows = ranges(len(a), 1)
        return torch.cat([matrix(some_rows(a, row), some_rows(b, row)).reshape(1) for row in rows])

    return pairwise
