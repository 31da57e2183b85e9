"""`fit` trains, schedules, clips, evaluates and saves as its arguments say.

Most tests train a linear model of three numbers. When evaluators and callbacks are called, with which epoch and
step, was recorded by running `fit` of releases 3.4.1 and 6.2.0 with an evaluator that notes its calls; only the
second of two evaluations of the same weights, where `evaluation_steps` divides an epoch, is left out here.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from sentence_transformers.inputs.example import InputExample
from sentence_transformers.training.fit import FitMixin
from sentence_transformers.training.fit_objectives import NAMES_IN_TRANSFORMERS, RATE_SHAPES

TRUE_WEIGHTS = torch.tensor([1.0, -2.0, 0.5])


class Model(nn.Linear, FitMixin):
    """A linear model of three numbers, written as text."""

    def __init__(self, start: Tensor | None = None) -> None:
        super().__init__(3, 1, bias=True)
        nn.init.zeros_(self.bias)
        with torch.no_grad():
            self.weight.copy_(torch.zeros(3) if start is None else start)

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def tokenize(self, texts: list[str]) -> dict[str, Tensor]:
        return {"numbers": torch.tensor([[float(number) for number in text.split()] for text in texts])}

    def save(self, path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), Path(path) / "weights.pt")

    def save_pretrained(self, path: str) -> None:
        self.save(path)


class SquaredError(nn.Module):
    """Squared error of the first column's output; keeps what it was called with."""

    def __init__(self, model: Model, scale: float = 1.0) -> None:
        super().__init__()
        self.model, self.scale, self.calls = model, scale, []

    def forward(self, sentence_features: list[dict[str, Tensor]], labels: Tensor) -> Tensor:
        self.calls.append((sentence_features, labels))
        return self.scale * (self.model(sentence_features[0]["numbers"])[:, 0] - labels).square().mean()


class Error:
    """Evaluates by the distance to the true weights."""

    primary_metric = "distance"
    greater_is_better = False

    def __init__(self) -> None:
        self.calls: list[tuple[str | None, int, int]] = []
        self.scores: list[float] = []

    def __call__(self, model: Model, output_path: str | None = None, epoch: int = -1, steps: int = -1):
        model.eval()
        self.calls.append((output_path, epoch, steps))
        self.scores.append((model.weight.detach()[0] - TRUE_WEIGHTS).norm().item())
        return {"distance": self.scores[-1]}


class Given:
    """An evaluator whose scores are known beforehand."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = iter(scores)

    def __call__(
        self, model: Model, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> float:
        return next(self.scores)


def examples(count: int, seed: int = 0) -> list[InputExample]:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return [
        InputExample(texts=[" ".join(map(str, point.tolist()))], label=float(point @ TRUE_WEIGHTS))
        for point in points
    ]


def loader(count: int = 32, batch_size: int = 8) -> DataLoader:
    return DataLoader(examples(count), batch_size=batch_size)


def fit(model: Model, objectives, **arguments) -> None:
    model.fit(objectives, **{"show_progress_bar": False, "warmup_steps": 0, "weight_decay": 0.0, **arguments})


def test_training_finds_the_weights_that_made_the_labels():
    model = Model()
    fit(model, [(loader(), SquaredError(model))], epochs=60, optimizer_params={"lr": 0.05})
    torch.testing.assert_close(model.weight[0], TRUE_WEIGHTS, atol=1e-2, rtol=0)
    assert model.bias.abs().item() < 1e-2


def test_training_equals_the_loop_written_out():
    model, expected = Model(), Model()
    fit(
        model,
        [(loader(), SquaredError(model))],
        epochs=2,
        optimizer_params={"lr": 0.1},
        weight_decay=0.1,
        warmup_steps=3,
        max_grad_norm=0.5,
    )

    groups = [
        {"params": [expected.weight], "weight_decay": 0.1},
        {"params": [expected.bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    rows = examples(32)
    for step in range(8):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (step / 3 if step < 3 else (8 - step) / (8 - 3))
        batch = rows[8 * (step % 4) : 8 * (step % 4) + 8]
        points = expected.tokenize([row.texts[0] for row in batch])["numbers"]
        (expected(points)[:, 0] - torch.tensor([row.label for row in batch])).square().mean().backward()
        norm = torch.cat([expected.weight.grad.flatten(), expected.bias.grad]).norm()
        for parameter in expected.parameters():
            parameter.grad *= min(1.0, 0.5 / norm)
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(model.weight, expected.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.bias, expected.bias, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "by_definition"),
    [
        ("constantlr", lambda step: 1.0),
        ("warmupconstant", lambda step: min(1.0, step / 4)),
        ("WarmupLinear", lambda step: step / 4 if step < 4 else max(0.0, (20 - step) / 16)),
        (
            "warmupcosine",
            lambda step: step / 4 if step < 4 else 0.5 * (1 + math.cos(math.pi * min(1.0, (step - 4) / 16))),
        ),
        (
            "warmupcosinewithhardrestarts",
            lambda step: step / 4 if step < 4 else 0.5 * (1 + math.cos(math.pi * min(1.0, (step - 4) / 16))),
        ),
    ],
)
def test_the_learning_rate_follows_its_shape(name, by_definition):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = FitMixin._get_scheduler(optimizer, scheduler=name, warmup_steps=4, t_total=20)
    for step in range(22):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * by_definition(step), abs=1e-9)
        optimizer.step()
        scheduler.step()


def test_every_shape_agrees_with_transformers():
    from transformers import get_scheduler

    assert set(NAMES_IN_TRANSFORMERS) == set(RATE_SHAPES)
    for ours, theirs in NAMES_IN_TRANSFORMERS.items():
        rates = []
        for make in (
            lambda optimizer, ours=ours: FitMixin._get_scheduler(optimizer, ours, 5, 17),
            lambda optimizer, theirs=theirs: get_scheduler(theirs, optimizer, 5, 17),
        ):
            optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
            scheduler = make(optimizer)
            seen = []
            for _ in range(18):
                seen.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
            rates.append(seen)
        assert rates[0] == pytest.approx(rates[1], abs=1e-9), ours


def test_an_unknown_scheduler_is_named_together_with_the_known_ones():
    model = Model()
    with pytest.raises(ValueError, match=r"'steps'.*warmuplinear"):
        fit(model, [(loader(), SquaredError(model))], scheduler="steps")


def test_objectives_take_turns_and_the_shorter_one_starts_again():
    model = Model()
    order: list[str] = []
    first, second = SquaredError(model), SquaredError(model)
    first.register_forward_hook(lambda *_: order.append("first"))
    second.register_forward_hook(lambda *_: order.append("second"))
    fit(model, [(loader(24), first), (loader(16), second)], steps_per_epoch=3)
    assert order == ["first", "second"] * 3
    torch.testing.assert_close(second.calls[2][1], second.calls[0][1])
    assert not torch.equal(first.calls[2][1], first.calls[0][1])


def test_an_epoch_is_as_long_as_the_shortest_loader():
    model = Model()
    long, short = SquaredError(model), SquaredError(model)
    fit(model, [(loader(32), long), (loader(16), short)], epochs=3)
    assert (len(long.calls), len(short.calls)) == (6, 6)


def test_parts_of_a_loss_are_added_up():
    class TwoParts(SquaredError):
        def forward(self, sentence_features, labels):
            value = super().forward(sentence_features, labels)
            return {"one": 0.25 * value, "two": 0.75 * value}

    parts, whole = Model(), Model()
    fit(parts, [(loader(), TwoParts(parts))], optimizer_params={"lr": 0.1})
    fit(whole, [(loader(), SquaredError(whole))], optimizer_params={"lr": 0.1})
    torch.testing.assert_close(parts.weight, whole.weight)


def test_the_gradient_is_cut_to_the_largest_norm_allowed():
    model = Model()
    before = model.weight.detach().clone()
    fit(
        model,
        [(loader(8), SquaredError(model, scale=1e6))],
        optimizer_class=torch.optim.SGD,
        optimizer_params={"lr": 1.0},
        scheduler="constantlr",
        max_grad_norm=0.125,
    )
    step = torch.cat([(model.weight - before).flatten(), model.bias]).detach()
    assert step.norm().item() == pytest.approx(0.125, rel=1e-4)


def test_weights_decay_and_biases_do_not():
    model = Model(torch.tensor([1.0, 1.0, 1.0]))
    nn.init.ones_(model.bias)
    fit(
        model,
        [(loader(8), SquaredError(model, scale=0.0))],
        optimizer_class=torch.optim.SGD,
        optimizer_params={"lr": 0.1},
        scheduler="constantlr",
        weight_decay=0.5,
    )
    torch.testing.assert_close(model.weight, torch.full((1, 3), 1 - 0.1 * 0.5))
    torch.testing.assert_close(model.bias, torch.ones(1))


def test_frozen_weights_stay():
    model = Model()
    model.bias.requires_grad_(False)
    model.bias.fill_(3.0)
    fit(model, [(loader(), SquaredError(model))], optimizer_params={"lr": 0.1})
    assert model.bias.item() == 3.0
    assert model.weight.abs().sum() > 0


def test_the_evaluator_is_called_within_and_after_each_epoch_and_training_goes_on_in_training_mode(tmp_path):
    model, evaluator, seen = Model(), Error(), []
    loss = SquaredError(model)
    modes: list[bool] = []
    loss.register_forward_hook(lambda *_: modes.append(model.training))
    fit(
        model,
        [(loader(), loss)],
        epochs=2,
        evaluator=evaluator,
        evaluation_steps=2,
        output_path=str(tmp_path / "out"),
        callback=lambda *call: seen.append(call),
        optimizer_params={"lr": 0.1},
    )
    folder = str(tmp_path / "out" / "eval")
    assert Path(folder).is_dir()
    moments = [(0.5, 2), (1.0, 4), (1.5, 6), (2.0, 8)]
    assert evaluator.calls == [(folder, *moment) for moment in moments]
    assert seen == [(score, *moment) for score, moment in zip(evaluator.scores, moments, strict=True)]
    assert all(modes)


@pytest.mark.parametrize(
    ("method", "moments"),
    [
        ("fit", [(0.75, 3), (1.0, 4), (1.5, 6), (2.0, 8)]),
        ("old_fit", [(0, 3), (0, -1), (1, 3), (1, -1)]),
    ],
)
def test_fit_counts_all_steps_and_old_fit_those_of_the_epoch(method, moments):
    model, evaluator, seen = Model(), Error(), []
    getattr(model, method)(
        [(loader(), SquaredError(model))],
        evaluator=evaluator,
        epochs=2,
        evaluation_steps=3,
        callback=lambda score, *moment: seen.append(moment),
        show_progress_bar=False,
    )
    assert seen == [call[1:] for call in evaluator.calls]
    assert seen == moments


def test_an_evaluator_with_several_metrics_has_to_say_which_one_counts():
    model, evaluator = Model(), Error()
    evaluator.primary_metric = None
    with pytest.raises(ValueError, match=r"\['distance'\] and has primary_metric=None"):
        fit(model, [(loader(), SquaredError(model))], evaluator=evaluator)


def test_without_an_output_path_the_evaluator_gets_none_and_nothing_is_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, evaluator = Model(), Error()
    fit(model, [(loader(), SquaredError(model))], evaluator=evaluator)
    assert evaluator.calls == [(None, 1.0, 4)]
    assert list(tmp_path.iterdir()) == []


def test_the_model_with_the_best_score_is_the_one_on_disk(tmp_path):
    model, weights = Model(), []
    fit(
        model,
        [(loader(), SquaredError(model))],
        epochs=4,
        evaluator=Given([0.2, 0.9, 0.9, 0.3]),
        output_path=str(tmp_path),
        callback=lambda *_: weights.append(model.weight.detach().clone()),
        optimizer_params={"lr": 0.1},
    )
    saved = torch.load(tmp_path / "weights.pt")["weight"]
    assert torch.equal(saved, weights[1])
    assert model.best_score == 0.9


def test_where_less_is_better_the_lowest_score_is_the_best(tmp_path):
    model, evaluator = Model(), Error()
    fit(
        model,
        [(loader(), SquaredError(model))],
        epochs=5,
        evaluator=evaluator,
        output_path=str(tmp_path),
        optimizer_params={"lr": 0.4},
    )
    saved = torch.load(tmp_path / "weights.pt")["weight"][0]
    assert (saved - TRUE_WEIGHTS).norm().item() == pytest.approx(min(evaluator.scores))


def test_no_model_is_saved_when_the_best_is_not_wanted(tmp_path):
    model = Model()
    fit(
        model,
        [(loader(), SquaredError(model))],
        evaluator=Given([1.0]),
        output_path=str(tmp_path),
        save_best_model=False,
    )
    assert not (tmp_path / "weights.pt").exists()


def test_without_an_evaluator_the_model_is_saved_at_the_end(tmp_path):
    model = Model()
    fit(model, [(loader(), SquaredError(model))], output_path=str(tmp_path), optimizer_params={"lr": 0.1})
    assert torch.equal(torch.load(tmp_path / "weights.pt")["weight"], model.weight.detach())


@pytest.mark.parametrize(
    ("method", "kept"), [("fit", {"checkpoint-10", "checkpoint-12"}), ("old_fit", {"10", "12"})]
)
def test_only_the_newest_checkpoints_are_kept(tmp_path, method, kept):
    model = Model()
    (tmp_path / "notes").mkdir()
    getattr(model, method)(
        [(loader(), SquaredError(model))],
        epochs=3,
        checkpoint_path=str(tmp_path),
        checkpoint_save_steps=5,
        checkpoint_save_total_limit=2,
        show_progress_bar=False,
    )
    assert {child.name for child in tmp_path.iterdir()} == {*kept, "notes"}
    newest = max(kept, key=lambda name: int(name.removeprefix("checkpoint-")))
    assert torch.equal(torch.load(tmp_path / newest / "weights.pt")["weight"], model.weight.detach())


@pytest.mark.parametrize("method", ["fit", "old_fit"])
def test_without_steps_between_checkpoints_there_is_one_at_the_end(tmp_path, method):
    model = Model()
    getattr(model, method)(
        [(loader(), SquaredError(model))],
        checkpoint_path=str(tmp_path),
        checkpoint_save_steps=0,
        show_progress_bar=False,
    )
    assert [child.name.removeprefix("checkpoint-") for child in tmp_path.iterdir()] == ["4"]


def test_mixed_precision_trains_as_well():
    model = Model()
    fit(model, [(loader(), SquaredError(model))], epochs=60, optimizer_params={"lr": 0.05}, use_amp=True)
    torch.testing.assert_close(model.weight[0], TRUE_WEIGHTS, atol=5e-2, rtol=0)


def test_mixed_precision_leaves_the_forward_of_the_model_as_it_was():
    model = Model()
    fit(model, [(loader(), SquaredError(model))], use_amp=True)
    assert model.forward.__func__ is nn.Linear.forward
    assert model(torch.ones(1, 3)).dtype == torch.float32


def test_a_loader_collates_as_before_when_training_is_over():
    model, batches = Model(), loader()
    before = batches.collate_fn
    fit(model, [(batches, SquaredError(model))])
    assert batches.collate_fn is before


def test_fit_and_old_fit_are_the_same_training():
    one, other = Model(), Model()
    arguments = {"show_progress_bar": False, "warmup_steps": 2, "optimizer_params": {"lr": 0.1}}
    one.fit([(loader(), SquaredError(one))], **arguments)
    other.old_fit([(loader(), SquaredError(other))], **arguments)
    assert torch.equal(one.weight, other.weight)


def test_two_objectives_share_one_optimizer_which_takes_a_step_after_each_batch():
    model, expected = Model(), Model()
    other_loader = DataLoader(examples(40, seed=1), batch_size=8)
    fit(
        model,
        [(loader(24), SquaredError(model)), (other_loader, SquaredError(model, scale=0.5))],
        epochs=2,
        optimizer_params={"lr": 0.1},
        warmup_steps=4,
    )

    optimizer = torch.optim.AdamW(expected.parameters(), lr=0.1, weight_decay=0.0)
    first, second = examples(24), examples(40, seed=1)
    # The shorter loader makes an epoch of three rounds; the longer one goes on where it stopped.
    order = [(first, 0), (second, 0), (first, 1), (second, 1), (first, 2), (second, 2)]
    order += [(first, 0), (second, 3), (first, 1), (second, 4), (first, 2), (second, 0)]
    for step, (rows, number) in enumerate(order):
        optimizer.param_groups[0]["lr"] = 0.1 * (step / 4 if step < 4 else (12 - step) / (12 - 4))
        batch = rows[8 * number : 8 * number + 8]
        points = expected.tokenize([row.texts[0] for row in batch])["numbers"]
        error = (expected(points)[:, 0] - torch.tensor([row.label for row in batch])).square().mean()
        (error * (1.0 if rows is first else 0.5)).backward()
        nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(model.weight, expected.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.bias, expected.bias, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["fit", "old_fit"])
def test_an_epoch_of_more_steps_than_batches_starts_the_loader_again(method):
    model, evaluator = Model(), Error()
    loss = SquaredError(model)
    getattr(model, method)(
        [(loader(16), loss)], evaluator=evaluator, steps_per_epoch=3, epochs=2, show_progress_bar=False
    )
    firsts = [labels[0].item() for _, labels in loss.calls]
    assert firsts == [firsts[0], firsts[1]] * 3
    assert len(evaluator.calls) == 2


@pytest.mark.parametrize("method", ["fit", "old_fit"])
def test_a_stream_of_unknown_length_needs_steps(method):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(examples(32))

    model = Model()
    loss = SquaredError(model)
    train = getattr(model, method)
    with pytest.raises(ValueError, match="Pass steps_per_epoch"):
        train([(DataLoader(Stream(), batch_size=8), loss)])
    train([(DataLoader(Stream(), batch_size=8), loss)], steps_per_epoch=2, show_progress_bar=False)
    assert len(loss.calls) == 2


@pytest.mark.parametrize("method", ["fit", "old_fit"])
def test_a_loader_may_make_the_columns_and_labels_itself(method):
    def doubled(batch: list[InputExample]):
        columns, labels = Model().smart_batching_collate(batch)
        return columns, 2 * labels

    model = Model()
    loss = SquaredError(model)
    getattr(model, method)(
        [(DataLoader(examples(8), batch_size=8, collate_fn=doubled), loss)], show_progress_bar=False
    )
    torch.testing.assert_close(loss.calls[0][1], torch.tensor([2 * row.label for row in examples(8)]))


@pytest.mark.parametrize("method", ["fit", "old_fit"])
def test_the_order_of_data_follows_the_seed_of_the_caller(method):
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = Model()
        loss = SquaredError(model)
        shuffled = DataLoader(examples(32), batch_size=8, shuffle=True)
        getattr(model, method)([(shuffled, loss)], epochs=2, show_progress_bar=False)
        orders.append([labels.tolist() for _, labels in loss.calls])
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0][:4] != orders[0][4:]


@pytest.mark.parametrize("method", ["fit", "old_fit"])
def test_no_epochs_leave_the_model_as_it_is_and_save_it(method, tmp_path):
    model = Model()
    loss = SquaredError(model)
    getattr(model, method)([(loader(), loss)], epochs=0, output_path=str(tmp_path), show_progress_bar=False)
    assert loss.calls == []
    assert (tmp_path / "weights.pt").is_file()


def test_nothing_is_printed_without_a_progress_bar(capsys):
    model = Model()
    fit(model, [(loader(), SquaredError(model))], evaluator=Error(), evaluation_steps=2)
    assert capsys.readouterr().out == ""


def test_without_accelerate_fit_says_what_to_install_and_old_fit_trains(monkeypatch):
    monkeypatch.setattr(
        "sentence_transformers.training.fit_objectives.is_accelerate_available", lambda: False
    )
    model = Model()
    with pytest.raises(ImportError, match=r'pip install "sentence-transformers\[train\]"'):
        fit(model, [(loader(), SquaredError(model))])
    model.old_fit([(loader(), SquaredError(model))], warmup_steps=0, show_progress_bar=False)
    assert model.weight.abs().sum() > 0


@pytest.mark.parametrize("given", [True, "checkpoint-5"])
def test_resuming_from_what_is_no_checkpoint_is_an_error(tmp_path, given):
    model = Model()
    (tmp_path / "checkpoint-5").mkdir()
    with pytest.raises(ValueError, match="holds no checkpoint that training could go on from"):
        fit(
            model,
            [(loader(), SquaredError(model))],
            checkpoint_path=str(tmp_path / "empty"),
            resume_from_checkpoint=given if given is True else str(tmp_path / given),
        )


def test_resuming_needs_to_be_told_where_the_checkpoints_are():
    model = Model()
    with pytest.raises(ValueError, match="checkpoint_path, and that is None"):
        fit(model, [(loader(), SquaredError(model))], resume_from_checkpoint=True)


def test_nothing_to_train_on_is_an_error():
    model = Model()
    with pytest.raises(ValueError, match="train_objectives is empty"):
        fit(model, [])
    with pytest.raises(ValueError, match="data set empty"):
        fit(model, [(DataLoader([], batch_size=2), SquaredError(model))])


def test_a_batch_becomes_columns_and_labels():
    batch = [InputExample(texts=["1 2 3", "4 5 6"], label=1), InputExample(texts=["7 8 9", "0 0 0"], label=0)]
    columns, labels = Model().smart_batching_collate(batch)
    assert [column["numbers"].tolist() for column in columns] == [
        [[1, 2, 3], [7, 8, 9]],
        [[4, 5, 6], [0, 0, 0]],
    ]
    assert labels.tolist() == [1, 0]
    assert labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("labels", "dtype", "shape"),
    [
        ([0.5, 1], torch.float32, (2,)),
        ([np.float64(0.5), np.float64(1)], torch.float32, (2,)),
        ([[0.1, 0.2], [0.3, 0.4]], torch.float32, (2, 2)),
        ([np.zeros(3), np.ones(3)], torch.float32, (2, 3)),
        ([torch.zeros(3), torch.ones(3)], torch.float32, (2, 3)),
        ([True, False], torch.int64, (2,)),
    ],
)
def test_labels_become_one_tensor(labels, dtype, shape):
    batch = [InputExample(texts=["1 2 3"], label=label) for label in labels]
    stacked = Model().smart_batching_collate(batch)[1]
    assert stacked.dtype == dtype
    assert stacked.shape == shape
    np.testing.assert_allclose(
        stacked, np.array([np.asarray(label) for label in labels], dtype=float), rtol=1e-6
    )


def test_examples_of_different_width_are_refused():
    batch = [InputExample(texts=["1 2 3"]), InputExample(texts=["1 2 3", "4 5 6"])]
    with pytest.raises(ValueError, match=r"different numbers of texts \(\[1, 2\]\)"):
        Model().smart_batching_collate(batch)
