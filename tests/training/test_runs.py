"""Whole runs: checkpoints and what they hold, resuming, the best model, and other ways to compute."""

from __future__ import annotations

import copy
import importlib.util
import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)
from sentence_transformers.models import Normalize, StaticEmbedding
from sentence_transformers.training import loss_wiring
from sentence_transformers.training.collator import columns_of
from tiny import WIDTH, sample_texts


def seeded():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def state_of(trainer):
    """Everything a run changes: the model and what belongs to the losses."""
    return {**trainer.model.state_dict(), **loss_wiring.saved_state(trainer.loss)}


def assert_equal_states(one, other):
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def evaluator(scored):
    return EmbeddingSimilarityEvaluator(
        scored["sentence1"][:], scored["sentence2"][:], scored["score"][:], name="dev"
    )


@pytest.fixture
def run(original, arguments, pairs):
    """Trains a fresh tiny model; `loss` is a function of it."""

    def trained(loss=MultipleNegativesRankingLoss, data=None, *, resume=None, settings=None, **options):
        seeded()
        model = copy.deepcopy(original)
        trainer = SentenceTransformerTrainer(
            model, arguments(**(settings or {})), pairs if data is None else data, loss=loss(model), **options
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return trained


# -- checkpoints -------------------------------------------------------------------------------------------

SAVING = {"save_strategy": "steps", "save_steps": 1}


def test_a_checkpoint_is_a_whole_model_and_the_state_of_the_run(run, tmp_path):
    trainer = run(settings=SAVING)
    folder = tmp_path / "run" / "checkpoint-2"
    assert files_of(folder) >= {
        "README.md",
        "modules.json",
        "config_sentence_transformers.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "1_Pooling/config.json",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
        "training_args.bin",
    }
    assert "loss.safetensors" not in files_of(folder)
    loaded = SentenceTransformer(str(folder), device="cpu")
    texts = sample_texts()[:3]
    np.testing.assert_allclose(loaded.encode(texts), trainer.model.encode(texts), atol=1e-6)
    state = json.loads((folder / "trainer_state.json").read_text())
    assert state["global_step"] == 2
    args = torch.load(folder / "training_args.bin", weights_only=False)
    assert args.max_steps == 2


def test_only_so_many_checkpoints_are_kept(run, tmp_path):
    run(settings={**SAVING, "max_steps": 4, "save_total_limit": 2})
    assert {path.name for path in (tmp_path / "run").glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-4"}


def test_the_model_is_saved_where_it_is_told_to(run, tmp_path):
    trainer = run()
    trainer.save_model(str(tmp_path / "mine"))
    trainer.save_model()
    for folder in (tmp_path / "mine", tmp_path / "run"):
        texts = sample_texts()[:2]
        loaded = SentenceTransformer(str(folder), device="cpu")
        np.testing.assert_allclose(loaded.encode(texts), trainer.model.encode(texts), atol=1e-6)


def test_the_card_says_how_the_model_was_trained(run, tmp_path, evaluator):
    trainer = run(
        evaluator=evaluator,
        settings={**SAVING, "eval_strategy": "steps", "eval_steps": 1, "batch_sampler": "no_duplicates"},
    )
    trainer.create_model_card()
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-2"):
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert "MultipleNegativesRankingLoss" in text
        assert "generated_from_trainer" in text
        assert "no_duplicates" in text
        assert "spearman_cosine" in text


def test_a_card_that_cannot_be_written_stops_no_run(run, tmp_path, monkeypatch):
    from sentence_transformers.model_card import card

    def broken(*args, **kwargs):
        raise OSError("no card today")

    for name in ("generate_model_card",):
        monkeypatch.setattr(card, name, broken)
    trainer = run(settings=SAVING)
    trainer.create_model_card()
    assert (tmp_path / "run" / "checkpoint-2" / "modules.json").is_file()


def test_a_checkpoint_folder_can_be_read_by_a_run_with_samplers_of_ones_own(run, tmp_path):
    """`training_args.bin` is a pickle: what it names must be found again, so functions stay importable."""
    from sentence_transformers.training.batch_samplers import NoDuplicatesBatchSampler

    run(settings={**SAVING, "batch_sampler": NoDuplicatesBatchSampler})
    args = torch.load(tmp_path / "run" / "checkpoint-1" / "training_args.bin", weights_only=False)
    assert args.batch_sampler is NoDuplicatesBatchSampler


def test_arguments_that_cannot_be_pickled_stop_no_run(run, tmp_path, caplog):
    from sentence_transformers.training.batch_samplers import DefaultBatchSampler

    trainer = run(
        settings={**SAVING, "batch_sampler": lambda data, **options: DefaultBatchSampler(data, **options)}
    )
    assert trainer.state.global_step == 2
    assert (tmp_path / "run" / "checkpoint-2" / "modules.json").is_file()
    assert not (tmp_path / "run" / "checkpoint-2" / "training_args.bin").exists()
    assert "training_args.bin is not written" in caplog.text


# -- resuming ----------------------------------------------------------------------------------------------


def concatenated(*parts):
    from datasets import concatenate_datasets

    return concatenate_datasets(parts)


def with_classes(data):
    return data.add_column("label", [0, 1] * (len(data) // 2))


INTERRUPTED = {
    "plain": {},
    "accumulated": {"settings": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}},
    "no duplicates": {"settings": {"batch_sampler": "no_duplicates"}},
    "several data sets": {"data": lambda pairs: {"a": pairs.select(range(8)), "b": pairs.select(range(8))}},
    "in turn": {
        "data": lambda pairs: {"a": pairs.select(range(8)), "b": pairs},
        "settings": {"multi_dataset_batch_sampler": "round_robin"},
    },
    "a classifier in the loss": {
        "data": with_classes,
        "loss": lambda model: SoftmaxLoss(model, WIDTH, 2),
    },
    "groups of labels": {
        "data": with_classes,
        "loss": lambda model: SoftmaxLoss(model, WIDTH, 2),
        "settings": {"batch_sampler": "group_by_label"},
    },
    "chance in the loss": {
        "loss": lambda model: MatryoshkaLoss(
            model, MultipleNegativesRankingLoss(model), [WIDTH, 16, 8], n_dims_per_step=1
        )
    },
    "cached": {"loss": lambda model: CachedMultipleNegativesRankingLoss(model, mini_batch_size=2)},
    # Where a later epoch of a stream of unknown length begins, no checkpoint knows; these are within the first.
    "a stream": {
        "data": lambda pairs: (
            concatenated(pairs, pairs).to_iterable_dataset().shuffle(seed=1, buffer_size=16)
        ),
        "settings": {"max_steps": 8},
    },
    "streams": {
        "data": lambda pairs: {"a": pairs.to_iterable_dataset(), "b": pairs},
        "settings": {"max_steps": 8},
    },
}


@pytest.mark.parametrize("case", INTERRUPTED)
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(case, run, pairs, tmp_path):
    """In the first epoch, and in the second."""
    options = dict(INTERRUPTED[case])
    data = options.pop("data", lambda data: data)(pairs)
    settings = {
        "max_steps": -1,
        "num_train_epochs": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "warmup_ratio": 0.2,
        **options.pop("settings", {}),
    }
    whole = run(data=data, settings=settings, **options)
    assert whole.state.global_step == 8
    for step in (3, 6):
        checkpoint = str(tmp_path / "run" / f"checkpoint-{step}")
        resumed = run(data=data, settings=settings, resume=checkpoint, **options)
        assert resumed.state.global_step == 8
        assert_equal_states(state_of(resumed), state_of(whole))
        logs = [
            [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
            for trainer in (whole, resumed)
        ]
        assert logs[0] == logs[1]


def test_the_last_checkpoint_is_found(run):
    settings = {**SAVING, "max_steps": 4}
    whole = run(settings=settings)
    resumed = run(settings=settings, resume=True)
    assert_equal_states(state_of(resumed), state_of(whole))


def test_every_loss_has_its_parameters_back(run, pairs):
    data = {"a": with_classes(pairs), "b": with_classes(pairs)}

    def losses(model):
        return {name: SoftmaxLoss(model, WIDTH, 2) for name in data}

    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = run(losses, data, settings=settings)
    assert set(loss_wiring.saved_state(whole.loss)) == {
        f"{name}.classifier.{part}" for name in data for part in ("weight", "bias")
    }
    resumed = run(losses, data, settings=settings, resume=whole.args.output_dir + "/checkpoint-2")
    assert_equal_states(state_of(resumed), state_of(whole))


def test_a_checkpoint_of_another_model_is_refused(run, checkpoint, arguments, pairs, tmp_path):
    run(settings=SAVING)
    other = SentenceTransformer(
        modules=[
            StaticEmbedding(SentenceTransformer(str(checkpoint)).tokenizer, embedding_dim=8),
            Normalize(),
        ],
        device="cpu",
    )
    trainer = SentenceTransformerTrainer(other, arguments(), pairs, loss=MultipleNegativesRankingLoss(other))
    with pytest.raises(ValueError, match="another model"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))


def test_a_folder_without_a_checkpoint_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="not found"):
        run(resume=str(tmp_path / "nowhere"))


# -- the best model ----------------------------------------------------------------------------------------


class Scores:
    """Gives the scores it was told, one at each evaluation."""

    primary_metric = "fake_score"
    greater_is_better = True

    def __init__(self, *values):
        self.values = list(values)
        self.seen = []

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self.seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"fake_score": self.values[len(self.seen) - 1]}


BEST = {
    "max_steps": 3,
    "save_strategy": "steps",
    "save_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "load_best_model_at_end": True,
}


@pytest.mark.parametrize(("greater", "best"), [(True, 2), (False, 1)])
def test_the_best_model_by_an_evaluator_is_in_place_at_the_end(run, greater, best):
    scores = Scores(0.1, 0.9, 0.5)
    trainer = run(
        evaluator=scores,
        settings={**BEST, "metric_for_best_model": "fake_score", "greater_is_better": greater},
    )
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{best}")
    assert_equal_states(trainer.model.state_dict(), scores.seen[best - 1])
    assert trainer.model.model_card_data.best_model_step == best


def test_the_best_model_by_the_loss_is_in_place_at_the_end(run, pairs):
    trainer = run(eval_dataset=pairs, settings={**BEST, "metric_for_best_model": "eval_loss"})
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert trainer.state.best_metric == min(losses)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses), abs=1e-6)


def test_the_classifier_of_the_best_step_is_in_place_too(run, pairs):
    data = with_classes(pairs)
    trainer = run(
        lambda model: SoftmaxLoss(model, WIDTH, 2),
        data,
        eval_dataset=data,
        evaluator=Scores(0.9, 0.1, 0.2),
        settings={**BEST, "metric_for_best_model": "fake_score"},
    )
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    trainer.evaluator = None
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses[0], abs=1e-6)


def test_the_best_checkpoint_is_not_deleted(run, tmp_path):
    trainer = run(
        evaluator=Scores(0.9, 0.1, 0.2, 0.3),
        settings={**BEST, "max_steps": 4, "metric_for_best_model": "fake_score", "save_total_limit": 1},
    )
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-1")
    assert (tmp_path / "run" / "checkpoint-1" / "modules.json").is_file()


# -- other ways to compute ---------------------------------------------------------------------------------


def gradients(trainer):
    """Gradients of one batch, as the trainer computes them, always with the same dropout."""
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    trainer.model.zero_grad()
    seeded()
    trainer.compute_loss(trainer.model, batch).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in trainer.model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("loss", [MultipleNegativesRankingLoss, CachedMultipleNegativesRankingLoss])
def test_layers_computed_again_have_the_same_gradients(loss, original, arguments, pairs):
    found = []
    for again in (False, True):
        model = copy.deepcopy(original)
        # With padding in both, so that dropout falls on the same places.
        model[0].unpad_inputs = False
        trainer = SentenceTransformerTrainer(model, arguments(), pairs, loss=loss(model))
        if again:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        found.append(gradients(trainer))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_layers_can_be_computed_again_through_a_whole_run(run):
    trainer = run(settings={"gradient_checkpointing": True})
    assert trainer.model[0].auto_model.training
    assert trainer.state.global_step == 2
    assert not trainer.model[0].computes_no_padding


def test_packed_and_padded_batches_have_the_same_gradients(original, arguments, pairs):
    found = []
    for unpad in (None, False):
        model = copy.deepcopy(original)
        model[0].unpad_inputs = unpad
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model[0].auto_model.config.attention_probs_dropout_prob = 0.0
        for layer in model[0].auto_model.encoder.layer:
            layer.attention.self.dropout_prob = 0.0
        trainer = SentenceTransformerTrainer(
            model, arguments(), pairs, loss=MultipleNegativesRankingLoss(model)
        )
        found.append(gradients(trainer))
    for name, gradient in found[1].items():
        if name in found[0]:
            torch.testing.assert_close(found[0][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    "loss",
    [
        MultipleNegativesRankingLoss,
        CachedMultipleNegativesRankingLoss,
        lambda model: MatryoshkaLoss(model, CachedMultipleNegativesRankingLoss(model), [WIDTH, 8]),
    ],
)
def test_half_precision_trains_weights_of_full_precision(run, loss):
    plain, half = run(loss), run(loss, settings={"bf16": True})
    assert {value.dtype for value in half.model.parameters()} == {torch.float32}
    first = [next(entry["loss"] for entry in trainer.state.log_history) for trainer in (plain, half)]
    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.1)


def test_a_compiled_model_would_be_found_inside_its_wrapper(original):
    compiled = torch.compile(original, backend="eager")
    assert loss_wiring.unwrapped(compiled) is original


# -- adapters ----------------------------------------------------------------------------------------------


@pytest.fixture
def adapted(original):
    peft = pytest.importorskip("peft", reason='needs peft: pip install "sentence-transformers[train]"')

    def made():
        seeded()
        model = copy.deepcopy(original)
        model.add_adapter(
            peft.LoraConfig(
                task_type="FEATURE_EXTRACTION",
                r=4,
                lora_alpha=8,
                lora_dropout=0.1,
                target_modules=["query", "value"],
            )
        )
        return model

    return made


def test_only_the_adapter_is_trained_and_saved(adapted, arguments, pairs, tmp_path):
    model = adapted()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer = SentenceTransformerTrainer(
        model, arguments(**SAVING), pairs, loss=MultipleNegativesRankingLoss(model)
    )
    trainer.train()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    folder = tmp_path / "run" / "checkpoint-2"
    assert "adapter_model.safetensors" in files_of(folder)
    assert "model.safetensors" not in files_of(folder)
    loaded = SentenceTransformer(str(folder), device="cpu")
    texts = sample_texts()[:3]
    model.eval()
    np.testing.assert_allclose(loaded.encode(texts), model.encode(texts), atol=1e-5)


def test_a_run_with_an_adapter_is_resumed_where_it_was(adapted, arguments, pairs, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 3, "max_steps": -1, "num_train_epochs": 2}
    states = []
    for resume in (None, str(tmp_path / "run" / "checkpoint-3"), str(tmp_path / "run" / "checkpoint-6")):
        model = adapted()
        trainer = SentenceTransformerTrainer(
            model, arguments(**settings), pairs, loss=MultipleNegativesRankingLoss(model)
        )
        trainer.train(resume_from_checkpoint=resume)
        states.append(state_of(trainer))
    assert_equal_states(states[1], states[0])
    assert_equal_states(states[2], states[0])


def test_the_best_adapter_is_in_place_at_the_end(adapted, arguments, pairs):
    model = adapted()
    scores = Scores(0.1, 0.9, 0.5)
    trainer = SentenceTransformerTrainer(
        model,
        arguments(**BEST, metric_for_best_model="fake_score"),
        pairs,
        loss=MultipleNegativesRankingLoss(model),
        evaluator=scores,
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-2")
    assert_equal_states(model.state_dict(), scores.seen[1])


# -- trials ------------------------------------------------------------------------------------------------


def test_a_model_is_made_anew_for_each_run(original, arguments, pairs):
    made = []

    def fresh():
        made.append(copy.deepcopy(original))
        return made[-1]

    trainer = SentenceTransformerTrainer(
        args=arguments(), train_dataset=pairs, loss=MultipleNegativesRankingLoss, model_init=fresh
    )
    assert len(made) == 1
    trainer.train()
    assert trainer.model is made[-1]
    assert trainer.loss.model is trainer.model
    assert trainer.processing_class is not None


def test_batches_are_made_as_the_model_of_the_run_makes_them(original, arguments, pairs):
    """The maximum length may be among what is tried."""
    lengths = iter([8, 5, 5])

    def fresh():
        model = copy.deepcopy(original)
        model.max_seq_length = next(lengths)
        return model

    trainer = SentenceTransformerTrainer(
        args=arguments(), train_dataset=pairs, loss=MultipleNegativesRankingLoss, model_init=fresh
    )
    trainer.train()
    batch = next(iter(trainer.get_train_dataloader()))
    assert columns_of(batch)[0][1]["input_ids"].shape[1] == trainer.model.max_seq_length == 5


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs optuna")
@pytest.mark.filterwarnings("ignore::Warning:optuna")
def test_hyperparameters_are_searched_for(original, arguments, pairs, evaluator):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    models = []

    def fresh(trial=None):
        models.append(copy.deepcopy(original))
        return models[-1]

    losses = []

    def loss(model):
        losses.append(MultipleNegativesRankingLoss(model))
        return losses[-1]

    trainer = SentenceTransformerTrainer(
        args=arguments(eval_strategy="steps", eval_steps=2),
        train_dataset=pairs,
        loss=loss,
        model_init=fresh,
        evaluator=evaluator,
    )
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)},
        compute_objective=lambda metrics: metrics["eval_dev_spearman_cosine"],
        n_trials=2,
        direction="maximize",
        backend="optuna",
    )
    assert best.hyperparameters.keys() == {"learning_rate"}
    assert -1 <= best.objective <= 1
    assert [id(loss.model) for loss in losses] == [id(model) for model in models]
    assert len(models) == 3
