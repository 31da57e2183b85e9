"""A tiny model of each kind of embedding, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.tensors.late_interaction import maxsim, maxsim_pairwise
from sentence_transformers.tensors.similarity import dot_score, pairwise_dot_score
from tiny import tiny_checkpoint


class SparseModel:
    """One sparse vector per text: the positive half of a dense model's dimensions."""

    similarity_fn_name = "dot"
    similarity = staticmethod(dot_score)
    similarity_pairwise = staticmethod(pairwise_dot_score)

    def __init__(self, dense: SentenceTransformer) -> None:
        self.dense = dense

    def encode(
        self,
        inputs: list[str],
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        max_active_dims: int | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        if kwargs:
            raise ValueError(f"unknown arguments {sorted(kwargs)}")
        vectors = self.dense.encode(inputs, batch_size=batch_size, convert_to_tensor=True).relu()
        if max_active_dims is not None:
            vectors = vectors.where(vectors >= vectors.topk(max_active_dims).values[:, -1:], 0)
        return vectors.to_sparse()


class TokenModel:
    """One vector for each token of a text."""

    similarity_fn_name = "maxsim"
    similarity = staticmethod(maxsim)
    similarity_pairwise = staticmethod(maxsim_pairwise)

    def __init__(self, dense: SentenceTransformer) -> None:
        self.dense = dense

    def encode(
        self,
        inputs: list[str],
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = False,
        **kwargs: Any,
    ) -> list[torch.Tensor]:
        if kwargs:
            raise ValueError(f"unknown arguments {sorted(kwargs)}")
        tokens = self.dense.encode(inputs, batch_size=batch_size, output_value="token_embeddings")
        return [torch.nn.functional.normalize(vectors, dim=-1) for vectors in tokens]


@pytest.fixture(scope="session")
def dense(tmp_path_factory):
    prompts = {"query": "what is ", "document": "about "}
    folder = tiny_checkpoint("bert", tmp_path_factory.mktemp("dense"))
    return SentenceTransformer(str(folder), device="cpu", prompts=prompts)


@pytest.fixture(scope="session")
def sparse(dense):
    return SparseModel(dense)


@pytest.fixture(scope="session")
def tokens(dense):
    return TokenModel(dense)
