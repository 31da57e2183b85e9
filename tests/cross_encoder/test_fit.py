"""`fit` and `old_fit` of a cross-encoder train as those of other releases, and say what does not suit them.

`STEPS` and `LOGITS` were recorded by running `trained` below (labels, loader and arguments alike) with `fit` of
release 3.4.1 and with `old_fit` of 6.2.0, which agree in every digit, and a loss function that notes its values.
From the same runs is known what the activation and the loss function are given, and where the evaluator writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from cross_encoder_cases import sample_pairs
from sentence_transformers import CrossEncoder, InputExample
from sentence_transformers.cross_encoder.evaluation import CEBinaryClassificationEvaluator
from sentence_transformers.cross_encoder.fit import LogitLoss, pairs_and_labels
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

PAIRS = [*sample_pairs()[:6], *sample_pairs()[9:13]]
METHODS = ("fit", "old_fit")
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

STEPS = {
    1: [0.764537, 0.697793, 0.403671, 0.684161, 0.631419, 0.333438],
    3: [1.044461, 1.591408, 0.979973, 0.92599, 1.096193, 0.878682],
}
"""Loss of each step, by the number of labels."""

LOGITS = {
    1: [-0.5825238, 0.1881019, 0.2720139],
    3: [
        [1.1205693, -0.0440713, 0.0372262],
        [0.3165643, 0.852712, -0.1686866],
        [0.2389791, 0.7088661, -0.027018],
    ],
}
"""Of the first three pairs after training."""


@pytest.fixture
def make(classifiers: Callable[..., str]) -> Callable[..., CrossEncoder]:
    """Makes a tiny model without dropout."""
    return lambda labels=1: CrossEncoder(classifiers(labels=labels, **WITHOUT_DROPOUT), device="cpu")


def examples(labels: int = 1) -> list[InputExample]:
    return [
        InputExample(texts=list(pair), label=float(number % 2) if labels == 1 else number % labels)
        for number, pair in enumerate(PAIRS)
    ]


def loader(labels: int = 1, **options: Any) -> DataLoader:
    return DataLoader(examples(labels), batch_size=4, **options)


def trained(model: CrossEncoder, method: str, batches: Any = None, **arguments: Any) -> CrossEncoder:
    usual = {
        "epochs": 2,
        "warmup_steps": 2,
        "optimizer_params": {"lr": 1e-3},
        "weight_decay": 0.1,
        "show_progress_bar": False,
    }
    batches = loader(model.num_labels) if batches is None else batches
    getattr(model, method)(batches, **{**usual, **arguments})
    return model


def logits_of(model: CrossEncoder) -> np.ndarray:
    return model.predict(PAIRS[:3], activation_fct=nn.Identity())


class Noted:
    """A function that keeps what it was called with and what came of it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls: list[tuple[Any, ...]] = []
        self.results: list[Any] = []

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls.append(arguments)
        self.results.append(self.function(*arguments, **options))
        return self.results[-1]


class Given:
    """An evaluator whose scores are known beforehand; notes the moments."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = iter(scores)
        self.moments: list[tuple[float, int]] = []
        self.folders: set[str | None] = set()

    def __call__(self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1):
        self.moments.append((epoch, steps))
        self.folders.add(output_path)
        return next(self.scores)


# -- what is computed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("labels", [1, 3])
def test_every_step_is_that_of_other_releases(make, method, labels):
    loss = Noted(nn.BCEWithLogitsLoss() if labels == 1 else nn.CrossEntropyLoss())
    model = trained(make(labels), method, loss_fct=loss)
    np.testing.assert_allclose([value.item() for value in loss.results], STEPS[labels], atol=5e-5, rtol=0)
    np.testing.assert_allclose(logits_of(model), LOGITS[labels], atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("labels", [1, 3])
def test_without_a_loss_function_it_is_cross_entropy(make, method, labels):
    np.testing.assert_allclose(logits_of(trained(make(labels), method)), LOGITS[labels], atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("labels", "shape", "kind"), [(1, (4,), torch.float32), (3, (4, 3), torch.int64)])
def test_the_activation_sees_all_scores_and_the_loss_one_row_for_each_pair(make, method, labels, shape, kind):
    activation = Noted(torch.tanh)
    loss = Noted(lambda logits, labels: logits.square().mean())
    trained(make(labels), method, loss_fct=loss, activation_fct=activation)
    assert activation.calls[0][0].shape == (4, labels)
    logits, given = loss.calls[0]
    torch.testing.assert_close(logits, activation.results[0].reshape(shape))
    assert (given.dtype, given.tolist()) == (kind, [example.label for example in examples(labels)[:4]])


@pytest.mark.parametrize("method", METHODS)
def test_a_model_learns_which_pairs_belong_together(make, method):
    model = trained(make(), method, epochs=30, optimizer_params={"lr": 5e-3}, weight_decay=0.0)
    scores = model.predict(PAIRS)
    assert scores[1::2].min() > 0.8
    assert scores[::2].max() < 0.2


@pytest.mark.parametrize("method", METHODS)
def test_several_labels_may_each_be_true_or_not(make, method):
    rows = [
        InputExample(texts=list(pair), label=[float(number % 2), float(number % 3 == 0), 0.5])
        for number, pair in enumerate(PAIRS)
    ]
    loss = Noted(nn.BCEWithLogitsLoss())
    trained(make(3), method, DataLoader(rows, batch_size=4), loss_fct=loss)
    logits, labels = loss.calls[0]
    torch.testing.assert_close(labels, torch.tensor([row.label for row in rows[:4]]))
    by_definition = -(
        labels * torch.sigmoid(logits).log() + (1 - labels) * torch.sigmoid(-logits).log()
    ).mean()
    torch.testing.assert_close(loss.results[0], by_definition)


@pytest.mark.parametrize("method", METHODS)
def test_parameters_of_the_loss_function_are_trained_too(make, method):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
            return (self.scale * logits - labels).square().mean()

    loss = Scaled()
    trained(make(), method, loss_fct=loss)
    assert loss.scale.item() != 1.0


@pytest.mark.parametrize("method", METHODS)
def test_mixed_precision_stays_close_and_leaves_the_model_as_precise_as_it_was(make, method):
    model = trained(make(), method, use_amp=True)
    np.testing.assert_allclose(logits_of(model), LOGITS[1], atol=0.05)
    assert model.forward(model.preprocess(PAIRS[:1]))["scores"].dtype == torch.float32


# -- evaluators and files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "moments"),
    [("fit", [(2 / 3, 2), (1.0, 3), (4 / 3, 4), (2.0, 6)]), ("old_fit", [(0, 2), (0, -1), (1, 2), (1, -1)])],
)
def test_the_best_model_is_saved_and_the_evaluator_writes_beside_it(make, tmp_path, method, moments):
    evaluator, seen, best = Given([0.5, 0.7, 0.9, 0.6]), [], []

    def note(score: float, epoch: float, steps: int) -> None:
        seen.append((score, epoch, steps))
        if score == 0.9:
            best.append(logits_of(model))

    model = make()
    trained(
        model,
        method,
        evaluator=evaluator,
        evaluation_steps=2,
        output_path=str(tmp_path / "out"),
        callback=note,
    )
    np.testing.assert_allclose(evaluator.moments, moments)
    assert evaluator.folders == {str(tmp_path / "out")}
    assert [call[1:] for call in seen] == evaluator.moments
    assert model.best_score == 0.9
    saved = CrossEncoder(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(logits_of(saved), best[0], atol=1e-6)
    assert np.abs(logits_of(model) - best[0]).max() > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_an_evaluator_of_pairs_writes_its_table_into_the_folder_of_the_model(make, tmp_path, method):
    evaluator = CEBinaryClassificationEvaluator(PAIRS, [0, 1] * 5, name="dev")
    model = trained(make(), method, evaluator=evaluator, output_path=str(tmp_path))
    [table] = tmp_path.glob("*dev*.csv")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + 2
    assert (tmp_path / "config.json").is_file()
    assert 0 < model.best_score <= 1


@pytest.mark.parametrize("method", METHODS)
def test_without_an_evaluator_the_model_is_saved_at_the_end(make, tmp_path, method):
    model = trained(make(), method, output_path=str(tmp_path))
    np.testing.assert_allclose(
        logits_of(CrossEncoder(str(tmp_path), device="cpu")), logits_of(model), atol=1e-6
    )
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "loss:LogitLoss" in card


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_saved_where_the_best_model_is_not_wanted(make, tmp_path, method):
    trained(make(), method, evaluator=Given([0.5, 0.7]), save_best_model=False, output_path=str(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# -- batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [1, 3])
def test_examples_become_the_features_of_pairs_and_labels(make, labels):
    model = make(labels)
    features, stacked = model.smart_batching_collate(examples(labels)[:4])
    expected = model.tokenizer(
        [pair[0] for pair in PAIRS[:4]],
        [pair[1] for pair in PAIRS[:4]],
        padding=True,
        truncation=True,
        max_length=model.max_length,
        return_tensors="pt",
    )
    assert set(features) == set(expected)
    for name in expected:
        torch.testing.assert_close(features[name], expected[name])
    assert stacked.tolist() == [example.label for example in examples(labels)[:4]]
    assert stacked.dtype == (torch.float32 if labels == 1 else torch.int64)
    texts_only = model.smart_batching_collate_text_only(PAIRS[:4])
    torch.testing.assert_close(texts_only["input_ids"], features["input_ids"])


@pytest.mark.parametrize(
    ("num_labels", "labels", "expected"),
    [
        (1, [1, 0], torch.tensor([1.0, 0.0])),
        (1, [True, False], torch.tensor([1.0, 0.0])),
        (1, [np.float64(0.25), np.float64(0.5)], torch.tensor([0.25, 0.5])),
        (1, [torch.tensor(0.25), torch.tensor(0.5)], torch.tensor([0.25, 0.5])),
        (2, [1, 0], torch.tensor([1, 0])),
        (2, [1.0, 0.0], torch.tensor([1, 0])),
        (2, [[1, 0], [0, 1]], torch.tensor([[1.0, 0.0], [0.0, 1.0]])),
    ],
)
def test_labels_are_numbers_for_one_score_and_classes_for_several(num_labels, labels, expected):
    rows = [InputExample(texts=["a", "b"], label=label) for label in labels]
    torch.testing.assert_close(pairs_and_labels(rows, num_labels)[1], expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gives_a_list", [False, True])
def test_a_loader_may_collate_by_itself(make, method, gives_a_list):
    model = make()

    def collate(batch: list[InputExample]) -> Any:
        firsts, seconds = zip(*(example.texts for example in batch))
        features = model.tokenizer(
            list(firsts), list(seconds), padding=True, truncation=True, return_tensors="pt"
        )
        labels = torch.tensor([int(example.label) for example in batch])
        return ([features] if gives_a_list else features), labels

    own = Noted(collate)
    batches = loader(collate_fn=own)
    trained(model, method, batches)
    np.testing.assert_allclose(logits_of(model), LOGITS[1], atol=1e-4, rtol=0)
    assert [len(call[0]) for call in own.calls] == [4, 4, 2] * 2
    assert batches.collate_fn is own


def test_batches_may_be_made_in_worker_processes(make):
    # Not forked: the threads of other packages that tests have loaded do not survive that.
    batches = loader(num_workers=1, multiprocessing_context="spawn")
    np.testing.assert_allclose(logits_of(trained(make(), "old_fit", batches)), LOGITS[1], atol=1e-4, rtol=0)


# -- what does not suit ------------------------------------------------------------------------------------


def pairs_with(*labels: Any) -> list[InputExample]:
    return [InputExample(texts=["a question", "an answer"], label=label) for label in labels]


def texts_of(*texts: Any) -> list[InputExample]:
    return [*pairs_with(1.0, 0.0), InputExample(texts=list(texts), label=1.0)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("labels", "rows", "message"),
    [
        (1, texts_of("alone"), r"texts \['alone'\].*reads pairs"),
        (1, texts_of("a", "b", "c"), r"\['a', 'b', 'c'\].*Give it two"),
        (1, texts_of("a", None), r"\['a', None\].*reads pairs"),
        (1, [InputExample(label=1.0)], r"texts None"),
        (1, pairs_with(0.0, 1.0, 2.0), r"between 0 and 1, and was given 2\. .*num_labels="),
        (1, pairs_with(0.5, -0.1), r"was given -0\.1\."),
        (1, pairs_with([0.0, 1.0], [1.0, 0.0]), r"shape \(2,\).*num_labels=1.*one number"),
        (1, pairs_with("yes", "no"), r"'yes', 'no'.*must be a number"),
        (3, pairs_with(0, 1, 0.7), r"label 0\.7 is not the number of a class.*num_labels=3"),
        (3, pairs_with(0, 1, 3), r"class 3, and the model has the classes 0 to 2"),
        (3, pairs_with([0.0, 1.0], [1.0, 0.0]), r"shape \(2,\).*num_labels=3.*or 3 numbers"),
    ],
)
def test_examples_that_do_not_suit_the_model_are_refused_before_training(make, method, labels, rows, message):
    model = make(labels)
    before = logits_of(model)
    with pytest.raises(ValueError, match=message):
        trained(model, method, DataLoader(rows, batch_size=1))
    np.testing.assert_array_equal(logits_of(model), before)


def test_a_data_set_that_is_no_list_is_refused_at_the_batch(make):
    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, number: int) -> InputExample:
            return pairs_with(0, 5)[number]

    with pytest.raises(ValueError, match="class 5"):
        trained(make(3), "old_fit", DataLoader(Rows(), batch_size=2))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("labels", "loss", "message"),
    [
        (1, nn.CrossEntropyLoss(), "gives one score for each pair.*num_labels="),
        (3, nn.BCEWithLogitsLoss(), r"3 numbers between 0 and 1.*shape \(10,\).*CrossEntropyLoss"),
        (1, nn.MSELoss, r"not a function of logits and labels.*MSELoss\(\)"),
        (1, "bce", "loss_fct is 'bce'"),
    ],
)
def test_a_loss_function_that_does_not_suit_the_model_is_refused(make, method, labels, loss, message):
    with pytest.raises(ValueError, match=message):
        trained(make(labels), method, loss_fct=loss)


def test_a_loss_of_the_trainer_is_sent_there(make):
    model = make()
    with pytest.raises(ValueError, match=r"BinaryCrossEntropyLoss, which takes texts.*CrossEncoderTrainer"):
        trained(model, "fit", loss_fct=BinaryCrossEntropyLoss(model))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(examples())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (examples(), "which gives no batches.*DataLoader"),
        (3, r"train_dataloader is 3 \(int\)"),
        (DataLoader([], batch_size=2), "has no batch"),
        (DataLoader(Stream(), batch_size=2), "does not know how many batches"),
    ],
)
def test_what_gives_no_known_number_of_batches_is_refused(make, method, batches, message):
    with pytest.raises(ValueError, match=message):
        trained(make(), method, batches)


def test_features_of_two_columns_are_refused(make):
    model = make()
    features = model.preprocess(PAIRS[:2])
    with pytest.raises(ValueError, match="takes 1 text column and was given 2"):
        LogitLoss(model)([features, features], torch.tensor([0.0, 1.0]))
