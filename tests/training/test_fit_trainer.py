"""`fit` of a real, tiny model: step by step, with every kind of loader, and resumed."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sentence_transformers import InputExample, SentenceTransformer, losses
from sentence_transformers.datasets import (
    DenoisingAutoEncoderDataset,
    NoDuplicatesDataLoader,
    ParallelSentencesDataset,
    SentenceLabelDataset,
)
from sentence_transformers.losses import ContrastiveTensionDataLoader
from tiny import sample_texts

TEXTS = sample_texts()


def scored_pairs(count: int) -> list[InputExample]:
    return [InputExample(texts=TEXTS[row : row + 2], label=row % 5 / 4) for row in range(count)]


def pairs(count: int) -> list[InputExample]:
    return [InputExample(texts=[TEXTS[row], TEXTS[row + 25]]) for row in range(count)]


def fit(model, objectives, **arguments) -> None:
    usual = {"show_progress_bar": False, "warmup_steps": 0, "optimizer_params": {"lr": 1e-3}}
    model.fit(objectives, **{**usual, **arguments})


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def without_dropout(model: SentenceTransformer) -> SentenceTransformer:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def test_every_step_equals_that_of_the_loop_written_out(model):
    model = without_dropout(model)
    expected = copy.deepcopy(model)
    rows = scored_pairs(16)
    loss = losses.CosineSimilarityLoss(model)
    values: list[float] = []
    loss.register_forward_hook(lambda module, inputs, value: values.append(value.item()))
    seed_everything(5)
    fit(model, [(DataLoader(rows, batch_size=4, shuffle=True), loss)], epochs=2, warmup_steps=3)

    same_loss = losses.CosineSimilarityLoss(expected)
    groups = [
        {"params": [p for p in expected.parameters() if p.dim() >= 2], "weight_decay": 0.01},
        {"params": [p for p in expected.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    expected.train()
    seed_everything(5)
    loader = DataLoader(rows, batch_size=4, shuffle=True, collate_fn=expected.smart_batching_collate)
    step, expected_values = 0, []
    for _ in range(2):
        for columns, labels in loader:
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (step / 3 if step < 3 else (8 - step) / 5)
            value = same_loss(columns, labels)
            expected_values.append(value.item())
            value.backward()
            torch.nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    assert values == pytest.approx(expected_values, abs=1e-4)
    assert values[0] != pytest.approx(values[-1], abs=1e-2)
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def labelled(model):
    examples = [InputExample(texts=[text], label=row % 4) for row, text in enumerate(TEXTS[:16])]
    data = SentenceLabelDataset(examples, samples_per_label=2)
    return DataLoader(data, batch_size=8), losses.BatchAllTripletLoss(model)


def parallel(model):
    data = ParallelSentencesDataset(student_model=model, teacher_model=copy.deepcopy(model))
    data.add_dataset([TEXTS[row : row + 2] for row in range(0, 16, 2)])
    return DataLoader(data, batch_size=8, shuffle=True), losses.MSELoss(model)


def denoised(model):
    data = DenoisingAutoEncoderDataset(TEXTS[:16])
    return DataLoader(data, batch_size=8, shuffle=True), losses.MultipleNegativesRankingLoss(model)


def without_duplicates(model):
    return NoDuplicatesDataLoader(pairs(16), batch_size=8), losses.MultipleNegativesRankingLoss(model)


def in_contrast(model):
    return ContrastiveTensionDataLoader(
        TEXTS[:30], batch_size=8, pos_neg_ratio=4
    ), losses.ContrastiveTensionLoss(model)


@pytest.mark.parametrize("method", ["fit", "old_fit"])
@pytest.mark.parametrize("objective", [labelled, parallel, denoised, without_duplicates, in_contrast])
def test_every_older_data_class_trains(model, objective, method):
    before = copy.deepcopy(model.state_dict())
    seed_everything(0)
    loader, loss = objective(model)
    rows: list[int] = []
    loss.register_forward_hook(lambda module, inputs, value: rows.append(len(inputs[0][0]["input_ids"])))
    getattr(model, method)(
        [(loader, loss)], warmup_steps=0, show_progress_bar=False, optimizer_params={"lr": 1e-3}
    )
    assert rows == [8] * len(loader)
    changed = [not torch.equal(value, before[name]) for name, value in model.state_dict().items()]
    assert any(changed)


def test_the_card_tells_what_was_trained_on_and_how(model):
    fit(
        model,
        [(DataLoader(scored_pairs(16), batch_size=4), losses.CosineSimilarityLoss(model))],
        weight_decay=0.25,
        scheduler="WarmupCosine",
    )
    card = model.model_card_data
    assert card.train_datasets[0]["size"] == 16
    assert list(card.train_datasets[0]["stats"]) == ["sentence_0", "sentence_1", "label"]
    assert card.all_hyperparameters["per_device_train_batch_size"] == 4
    assert card.all_hyperparameters["learning_rate"] == 1e-3
    assert card.all_hyperparameters["weight_decay"] == 0.25
    assert card.all_hyperparameters["lr_scheduler_type"] == "cosine"


def objectives_of(model) -> list:
    return [
        (DataLoader(scored_pairs(16), batch_size=4, shuffle=True), losses.CosineSimilarityLoss(model)),
        (NoDuplicatesDataLoader(pairs(20), batch_size=4), losses.MultipleNegativesRankingLoss(model)),
    ]


@pytest.mark.parametrize("steps", [3, 8, 9], ids=["within an epoch", "at its end", "in the next one"])
def test_a_resumed_training_ends_with_the_same_weights(original, tmp_path, steps):
    whole, resumed = copy.deepcopy(original), copy.deepcopy(original)
    arguments = {"epochs": 2, "warmup_steps": 2, "checkpoint_save_steps": steps}
    seed_everything(1)
    fit(whole, objectives_of(whole), checkpoint_path=str(tmp_path), **arguments)

    seed_everything(2)
    checkpoint = tmp_path / f"checkpoint-{steps}"
    fit(resumed, objectives_of(resumed), resume_from_checkpoint=str(checkpoint), **arguments)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


class Given:
    """An evaluator whose scores are known beforehand."""

    def __init__(self, *scores: float) -> None:
        self.scores = iter(scores)

    def __call__(self, model, output_path=None, epoch=-1, steps=-1) -> float:
        return next(self.scores)


def test_resuming_from_the_last_checkpoint_trains_further_epochs_and_remembers_the_best_score(
    original, tmp_path
):
    arguments = {
        "checkpoint_path": str(tmp_path / "checkpoints"),
        "checkpoint_save_steps": 4,
        "output_path": str(tmp_path / "best"),
        "scheduler": "constantlr",
    }
    model = copy.deepcopy(original)
    fit(model, objectives_of(model), epochs=1, evaluator=Given(0.9), **arguments)
    best = model.encode(TEXTS[:3])

    model, moments = copy.deepcopy(original), []
    fit(
        model,
        objectives_of(model),
        epochs=3,
        evaluator=Given(0.5, 0.7),
        callback=lambda *call: moments.append(call),
        resume_from_checkpoint=True,
        **arguments,
    )
    assert moments == [(0.5, 2.0, 16), (0.7, 3.0, 24)]
    assert model.best_score == 0.9
    saved = SentenceTransformer(str(tmp_path / "best"), device="cpu")
    np.testing.assert_allclose(saved.encode(TEXTS[:3]), best, atol=1e-5)
    assert np.abs(saved.encode(TEXTS[:3]) - model.encode(TEXTS[:3])).max() > 1e-2
