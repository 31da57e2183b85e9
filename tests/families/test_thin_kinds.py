"""The joints of training hold for models that make no dense vector: a thin sparse and a thin multi-vector model.

Both stand on a tiny random BERT. They go through losses, cached gradients, wrappers and the trainer as the dense
kind does, without a line of code of their own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import nn

from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from sentence_transformers.models import Transformer
from sentence_transformers.util import dot_score, maxsim
from tiny import WIDTH, sample_texts, tiny_checkpoint


class SpladeMax(nn.Module):
    """One weight for each word of the vocabulary: the largest that any token gives it (Formal et al. 2021)."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        self.words = [words]  # the transformer's own, not a part of this module

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        scores = features["token_embeddings"] @ self.words[0].weight.T  # (B, T, V)
        weights = scores.relu().log1p() * features["attention_mask"][..., None]
        features["sentence_embedding"] = weights.amax(dim=1)
        return features


def sparse_model(folder: str) -> SentenceTransformer:
    transformer = Transformer(folder)
    words = transformer.auto_model.get_input_embeddings()
    return SentenceTransformer(modules=[transformer, SpladeMax(words)], device="cpu")


def multi_vector_model(folder: str) -> SentenceTransformer:
    return SentenceTransformer(modules=[Transformer(folder)], device="cpu")


KINDS = {"sparse": (sparse_model, dot_score), "multi-vector": (multi_vector_model, maxsim)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint("bert", tmp_path_factory.mktemp("thin")))


def measured(model: SentenceTransformer, loss: nn.Module) -> tuple[float, dict[str, torch.Tensor]]:
    """A loss on a few pairs, and its gradients."""
    texts = sample_texts()[:6]
    columns = [model.preprocess(texts), model.preprocess([text[: len(text) // 2 + 3] for text in texts])]
    model.zero_grad()
    model.eval()
    value = loss(columns, None)
    value.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return float(value.detach()), gradients


@pytest.mark.parametrize("kind", KINDS)
def test_cached_gradients_are_those_of_the_plain_loss(kind, checkpoint):
    build, similarity = KINDS[kind]
    model = build(checkpoint)
    settings = {"scale": 0.1, "similarity_fct": similarity}
    value, gradients = measured(model, losses.MultipleNegativesRankingLoss(model, **settings))
    cached = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2, **settings)
    cached_value, cached_gradients = measured(model, cached)
    assert value == pytest.approx(cached_value, rel=1e-5)
    assert gradients.keys() == cached_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(cached_gradients[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_padding_out_changes_nothing(kind, checkpoint):
    build, similarity = KINDS[kind]
    model = build(checkpoint)
    loss = losses.MultipleNegativesRankingLoss(model, scale=0.1, similarity_fct=similarity)
    value, _ = measured(model, loss)
    model[0].unpad_inputs = False
    assert measured(model, loss)[0] == pytest.approx(value, rel=1e-5)


def test_token_embeddings_are_shortened_inside_a_cached_loss(checkpoint):
    model = multi_vector_model(checkpoint)
    inner = losses.CachedMultipleNegativesRankingLoss(
        model, scale=0.1, similarity_fct=maxsim, mini_batch_size=2
    )
    value, gradients = measured(model, losses.MatryoshkaLoss(model, inner, [WIDTH, WIDTH // 2]))
    assert value > 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_trainer_lowers_the_loss(kind, checkpoint, tmp_path):
    build, similarity = KINDS[kind]
    torch.manual_seed(0)
    model = build(checkpoint)
    texts = sample_texts()[:8]
    pairs = Dataset.from_dict({"anchor": texts, "positive": [text.upper() + " again" for text in texts]})
    loss = losses.MultipleNegativesRankingLoss(model, scale=1.0, similarity_fct=similarity)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path),
        max_steps=8,
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(model, arguments, pairs, loss=loss)
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged[-1] < logged[0]
