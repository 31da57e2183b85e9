"""The trainer with real tiny models: data and losses in every form, evaluators, prompts, samplers.

Checkpoints, resuming and what else concerns a whole run stand in `test_runs.py`.
"""

from __future__ import annotations

import copy
import logging
import multiprocessing
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from torch import nn
from transformers import TrainerCallback

from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator, TripletEvaluator
from sentence_transformers.losses import (
    CoSENTLoss,
    CosineSimilarityLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)
from sentence_transformers.models import Dense, Pooling, Router, StaticEmbedding, Transformer
from sentence_transformers.training.batch_samplers import DefaultBatchSampler, NoDuplicatesBatchSampler
from sentence_transformers.training.collator import columns_of
from sentence_transformers.training.dataset_samplers import (
    MultiDatasetDefaultBatchSampler,
    RoundRobinBatchSampler,
)
from tiny import WIDTH, sample_texts


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(model, before):
    """Names of the parameters that are no longer what they were."""
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def logged(trainer, key):
    return [entry[key] for entry in trainer.state.log_history if key in entry]


@pytest.fixture
def trainer_of(model, arguments, pairs):
    """Makes a trainer of a tiny model, with a few pairs and a loss where nothing else is said."""

    def made(train_dataset=None, loss=None, *, settings=None, **options):
        options = {"model": model, **options}
        if loss is None and "model_init" not in options:
            loss = MultipleNegativesRankingLoss(options["model"])
        return SentenceTransformerTrainer(
            args=arguments(**(settings or {})),
            train_dataset=pairs if train_dataset is None else train_dataset,
            loss=loss,
            **options,
        )

    return made


@pytest.fixture
def evaluator(scored):
    return EmbeddingSimilarityEvaluator(
        scored["sentence1"][:], scored["sentence2"][:], scored["score"][:], name="dev"
    )


def batches_of(trainer):
    return list(trainer.get_train_dataloader())


def rows_seen(trainer):
    """The texts of the first column in the order they are trained on, as the tokenizer reads them back."""
    tokenizer = trainer.model.tokenizer
    return [
        tokenizer.batch_decode(columns_of(batch)[0][0]["input_ids"], skip_special_tokens=True)
        for batch in batches_of(trainer)
    ]


# -- data sets ---------------------------------------------------------------------------------------------


def stream_of(dataset):
    return dataset.to_iterable_dataset()


FORMS = {
    "rows": lambda pairs: pairs,
    "dictionary": lambda pairs: {"a": pairs, "b": pairs.select(range(8))},
    "dataset dictionary": lambda pairs: DatasetDict({"a": pairs, "b": pairs}),
    "stream": stream_of,
    "streams": lambda pairs: {"a": stream_of(pairs), "b": stream_of(pairs)},
    "rows and a stream": lambda pairs: {"a": pairs, "b": stream_of(pairs)},
}


@pytest.mark.parametrize("form", FORMS)
def test_data_sets_of_every_form_train_and_evaluate(form, trainer_of, model, pairs):
    data = FORMS[form](pairs)
    before = weights(model)
    trainer = trainer_of(
        data, eval_dataset=data, settings={"eval_strategy": "steps", "eval_steps": 1, "max_steps": 3}
    )
    trainer.train()
    assert trainer.state.global_step == 3
    assert changed(model, before)
    names = ["eval_loss"] if "dict" not in form and "streams" not in form else ["eval_a_loss", "eval_b_loss"]
    for name in names if form != "rows and a stream" else ["eval_a_loss", "eval_b_loss"]:
        assert len(logged(trainer, name)) == 3


def test_a_stream_needs_to_be_told_where_to_end(trainer_of, pairs):
    with pytest.raises(ValueError, match="max_steps"):
        trainer_of(stream_of(pairs), settings={"max_steps": -1, "num_train_epochs": 1}).train()
    with pytest.raises(ValueError, match="max_steps"):
        trainer_of({"a": stream_of(pairs)}, settings={"max_steps": -1, "num_train_epochs": 1}).train()


def test_a_stream_is_read_in_its_order_and_again_when_it_ends(trainer_of, pairs):
    trainer = trainer_of(stream_of(pairs.select(range(6))), settings={"max_steps": 5})
    assert [len(batch) for batch in rows_seen(trainer)] == [4, 2]
    trainer.train()
    assert trainer.state.global_step == 5
    assert trainer.state.epoch > 2


def test_a_stream_has_the_order_it_has(trainer_of, pairs):
    with pytest.raises(ValueError, match="stream"):
        trainer_of(stream_of(pairs), settings={"batch_sampler": "no_duplicates"}).train()


def test_an_epoch_ends_when_every_row_was_seen(trainer_of):
    trainer = trainer_of(settings={"max_steps": -1, "num_train_epochs": 2})
    assert sorted(len(batch) for batch in rows_seen(trainer)) == [4, 4, 4, 4]
    trainer.train()
    assert trainer.state.global_step == 8
    assert trainer.state.epoch == 2


def test_another_epoch_has_another_order(trainer_of):
    loader = trainer_of().get_train_dataloader()
    orders = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        orders.append([columns_of(batch)[0][0]["input_ids"].tolist() for batch in loader])
    assert orders[0] == orders[2] != orders[1]


def test_what_a_data_set_does_to_its_rows_is_still_done(trainer_of, pairs):
    replaced = pairs.with_transform(lambda rows: {name: ["heart"] * len(rows[name]) for name in rows})
    for data, prompts, expected in (
        (replaced, None, "heart"),
        ({"a": replaced}, {"a": {"anchor": "the "}}, "the heart"),
    ):
        for batch in rows_seen(trainer_of(data, settings={"prompts": prompts})):
            assert set(batch) == {expected}


def test_the_callers_data_sets_stay_as_they_are(trainer_of, pairs):
    data = DatasetDict({"a": pairs, "b": pairs})
    settings = {"prompts": {"a": {"anchor": "query "}}}
    seen = []
    for _ in range(2):
        trainer = trainer_of(data, settings=settings)
        trainer.train()
        seen.append(rows_seen(trainer))
    assert data["a"] is pairs
    assert pairs[0].keys() == {"anchor", "positive"}
    assert pairs.format["type"] is None
    assert seen[0] == seen[1]


def test_a_test_set_can_be_predicted_on(trainer_of, pairs):
    result = trainer_of().predict(pairs)
    assert result.metrics["test_loss"] > 0


def test_rows_can_be_plain_lists_of_dictionaries(trainer_of):
    rows = [{"anchor": text[:10], "positive": text} for text in sample_texts()[:8]]
    trainer = trainer_of(rows, settings={"max_steps": 2})
    trainer.train()
    assert trainer.state.global_step == 2


@pytest.fixture
def spawning():
    """Processes are started anew: the threads of packages that other tests have loaded do not survive a fork."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("spawning")
def test_batches_can_be_made_by_other_processes(trainer_of):
    settings = {"dataloader_num_workers": 1, "max_steps": 2}
    plain, trainer = trainer_of(), trainer_of(settings=settings)
    assert rows_seen(plain) == rows_seen(trainer)


# -- what does not suit each other -------------------------------------------------------------------------


def no_columns(data):
    return data.remove_columns("positive")


REFUSED = {
    "too few columns": (no_columns, MultipleNegativesRankingLoss, "was given 1"),
    "too many columns": (
        lambda data: data.add_column("negative", data["anchor"][:]).add_column("score", [0.5] * 16),
        CosineSimilarityLoss,
        "was given 3",
    ),
    "no label": (lambda data: data, CosineSimilarityLoss, "needs a label"),
    "texts as labels": (
        lambda data: data.add_column("label", ["good"] * 16),
        CosineSimilarityLoss,
        "do not form one tensor",
    ),
    "broken numbers as classes": (
        lambda data: data.add_column("label", [0.5] * 16),
        lambda model: SoftmaxLoss(model, WIDTH, 2),
        "an int",
    ),
    "two labels": (
        lambda data: data.add_column("label", [1] * 16).add_column("score", [0.5] * 16),
        CosineSimilarityLoss,
        "2 label columns",
    ),
    "a label of another name": (
        lambda data: data.add_column("similarity", [0.5] * 16),
        CosineSimilarityLoss,
        "'similarity'.*rename",
    ),
    "no row": (lambda data: data.select([]), MultipleNegativesRankingLoss, "empty"),
    "a reserved name": (
        lambda data: data.rename_column("anchor", "return_loss"),
        MultipleNegativesRankingLoss,
        "return_loss",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("place", ["train_dataset", "eval_dataset", "one of several"])
def test_data_that_does_not_suit_the_loss_is_refused_before_training(case, place, model, arguments, pairs):
    change, loss, message = REFUSED[case]
    data = change(pairs)
    data = {"some": data} if place == "one of several" else data
    where = "eval_dataset" if place == "eval_dataset" else "train_dataset"
    with pytest.raises(ValueError, match=message) as caught:
        SentenceTransformerTrainer(model, arguments(), **{where: data}, loss=loss(model))
    assert ("'some'" in str(caught.value)) == (place == "one of several")


def test_losses_by_name_need_data_sets_with_those_names(trainer_of, model, pairs):
    losses = {"a": MultipleNegativesRankingLoss(model)}
    with pytest.raises(ValueError, match="so the data sets must be"):
        trainer_of(pairs, losses)
    with pytest.raises(ValueError, match=r"\['b'\].*\['a'\]"):
        trainer_of({"a": pairs, "b": pairs}, losses)
    with pytest.raises(ValueError, match=r"\['c'\]"):
        trainer_of({"a": pairs}, losses, eval_dataset={"c": pairs})


@pytest.mark.parametrize("name", ["prompts", "router_mapping"])
def test_settings_by_data_set_and_column_need_data_sets_with_names(name, trainer_of, pairs):
    with pytest.raises(ValueError, match=f"{name}.*single data set"):
        trainer_of(pairs, settings={name: {"nli": {"anchor": "query"}}})


def test_evaluations_need_something_to_evaluate(trainer_of):
    with pytest.raises(ValueError, match="nothing to evaluate"):
        trainer_of(settings={"eval_strategy": "steps", "eval_steps": 1})
    with pytest.raises(ValueError, match="neither"):
        trainer_of().evaluate()


def test_training_needs_data(model, arguments):
    trainer = SentenceTransformerTrainer(model, arguments(), loss=CoSENTLoss(model))
    with pytest.raises(ValueError, match="train_dataset"):
        trainer.train()


def test_there_must_be_one_model(model, arguments, pairs):
    with pytest.raises(RuntimeError, match="model_init"):
        SentenceTransformerTrainer(args=arguments(), train_dataset=pairs)
    with pytest.raises(RuntimeError, match="not both"):
        SentenceTransformerTrainer(model, arguments(), pairs, model_init=lambda: model)


def test_columns_in_another_order_than_their_names_say_are_warned_about(trainer_of, pairs, caplog):
    with caplog.at_level(logging.WARNING):
        trainer_of(pairs.select_columns(["positive", "anchor"]))
    assert "'positive' is input 1, 'anchor' is input 2" in caplog.text


# -- losses ------------------------------------------------------------------------------------------------


def test_without_a_loss_pairs_with_scores_are_ordered(model, arguments, scored):
    trainer = SentenceTransformerTrainer(model, arguments(), scored)
    assert isinstance(trainer.loss, CoSENTLoss)
    trainer.train()


def test_a_loss_may_be_a_function_of_the_model(trainer_of, model):
    trainer = trainer_of(loss=lambda given: MultipleNegativesRankingLoss(given, scale=5))
    assert trainer.loss.model is model
    assert trainer.loss.scale == 5
    trainer.train()


def test_each_data_set_may_have_its_own_loss(trainer_of, model, pairs, scored):
    classes = scored.remove_columns("score").add_column("label", [0, 1] * 8)
    data = {"nli": classes, "pairs": pairs, "sts": scored}
    losses = {
        "pairs": MultipleNegativesRankingLoss(model),
        "sts": CoSENTLoss,
        "nli": lambda given: SoftmaxLoss(given, WIDTH, 2),
        "unused": CoSENTLoss,
    }
    trainer = trainer_of(
        data,
        losses,
        eval_dataset=data,
        settings={"multi_dataset_batch_sampler": "round_robin", "max_steps": 6},
    )
    before = weights(trainer.loss["nli"].classifier)
    trainer.train()
    assert changed(trainer.loss["nli"].classifier, before) == {"weight", "bias"}
    metrics = trainer.evaluate()
    features = [model.preprocess(scored["sentence1"][:]), model.preprocess(scored["sentence2"][:])]
    model.eval()
    with torch.no_grad():
        expected = CoSENTLoss(model)(features, torch.tensor(scored["score"][:]))
    trainer.args.per_device_eval_batch_size = 16
    assert trainer.evaluate()["eval_sts_loss"] == pytest.approx(float(expected), rel=1e-5)
    assert metrics.keys() >= {"eval_nli_loss", "eval_pairs_loss", "eval_sts_loss"}


def test_one_loss_serves_several_data_sets(trainer_of, pairs):
    trainer = trainer_of({"a": pairs, "b": pairs})
    assert "dataset_name" not in batches_of(trainer)[0]
    trainer.train()


def test_a_loss_made_for_another_model_is_pointed_at_the_trained_one(trainer_of, model, original):
    loss = MatryoshkaLoss(original, MultipleNegativesRankingLoss(original), [WIDTH, 8])
    trainer = trainer_of(loss=loss)
    assert loss.model is loss.loss.model is model
    before = weights(original)
    trainer.train()
    assert not changed(original, before)


def test_the_components_of_a_loss_are_logged(trainer_of, model):
    loss = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [WIDTH, 8], [1, 0.5])
    trainer = trainer_of(loss=loss, settings={"logging_steps": 2, "max_steps": 4})
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == 2
    for entry in entries:
        assert entry[f"dim_{WIDTH}"] + entry["dim_8"] == pytest.approx(entry["loss"], abs=1e-3)


def test_a_loss_of_one_part_logs_no_component(trainer_of):
    trainer = trainer_of()
    trainer.train()
    assert set(trainer.state.log_history[0]) == {"loss", "grad_norm", "learning_rate", "epoch", "step"}


class Plain(nn.Module):
    """A loss as other programs write them: nothing of ours, only features in and a number out."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, sentence_features, labels):
        first, *_ = (self.model(dict(features))["sentence_embedding"] for features in sentence_features)
        return nn.functional.cross_entropy(self.head(first), labels)


def test_any_module_of_features_and_labels_is_a_loss(trainer_of, model):
    data = Dataset.from_dict({"text": sample_texts()[:8], "label": [0, 1] * 4})
    loss = Plain(model)
    before, before_loss = weights(model), weights(loss.head)
    trainer = trainer_of(data, loss, eval_dataset=data, settings={"eval_strategy": "epoch"})
    trainer.train()
    assert changed(model, before)
    assert changed(loss.head, before_loss) == {"weight", "bias"}
    assert logged(trainer, "eval_loss")


def test_a_teacher_inside_a_loss_stays_in_evaluation_mode(trainer_of, model, original):
    class Distilled(Plain):
        def __init__(self, model):
            super().__init__(model)
            self.teacher = copy.deepcopy(original).eval().requires_grad_(False)
            self.modes = []

        def forward(self, sentence_features, labels):
            self.modes.append((self.training, self.head.training, self.teacher.training))
            return super().forward(sentence_features, labels)

    data = Dataset.from_dict({"text": sample_texts()[:4], "label": [0, 1] * 2})
    loss = Distilled(model)
    trainer_of(data, loss, eval_dataset=data, settings={"eval_strategy": "steps", "eval_steps": 1}).train()
    assert loss.modes == [(True, True, False), (False, False, False)] * 2


def test_a_loss_may_return_parts_by_name(trainer_of, model):
    class Parts(Plain):
        def forward(self, sentence_features, labels):
            return {"near": super().forward(sentence_features, labels), "far": torch.tensor(1.0)}

    data = Dataset.from_dict({"text": sample_texts()[:8], "label": [0, 1] * 4})
    trainer = trainer_of(data, Parts(model))
    trainer.train()
    [entry, _] = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert entry["far"] == 1
    assert entry["near"] + 1 == pytest.approx(entry["loss"], abs=1e-3)


def test_a_subclass_may_compute_the_loss_itself(model, arguments, pairs):
    class Doubling(SentenceTransformerTrainer):
        asked = 0

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            self.asked += 1
            features, labels = self.collect_features(inputs)
            loss = self.loss(features, labels) * 2
            return (loss, {}) if return_outputs else loss

    trainer = Doubling(model, arguments(), pairs, pairs, MultipleNegativesRankingLoss(model))
    trainer.train()
    plain = SentenceTransformerTrainer(model, arguments(), pairs, pairs, MultipleNegativesRankingLoss(model))
    assert trainer.asked == 2
    assert trainer.evaluate()["eval_loss"] == pytest.approx(2 * plain.evaluate()["eval_loss"], rel=1e-5)


def test_a_collator_of_one_s_own_makes_the_batches(trainer_of, model, pairs):
    class Collator:
        valid_label_columns = ["gold"]

        def __call__(self, rows):
            features = model.preprocess([row["anchor"] for row in rows])
            other = model.preprocess([row["positive"] for row in rows])
            return {
                **{f"sentence_0_{name}": value for name, value in features.items()},
                **{f"sentence_1_{name}": value for name, value in other.items()},
                "label": torch.tensor([row["gold"] for row in rows]),
            }

    data = pairs.add_column("gold", [0.5] * 16)
    trainer = trainer_of(data, CosineSimilarityLoss(model), data_collator=Collator())
    assert trainer.valid_label_columns == ["gold"]
    trainer.train()
    assert trainer.state.global_step == 2


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def test_accumulated_batches_step_by_the_mean_of_their_gradients(trainer_of, model):
    reference = copy.deepcopy(without_dropout(model))
    settings = {
        "gradient_accumulation_steps": 4,
        "max_steps": 1,
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0,
    }
    trainer = trainer_of(settings=settings)
    batches = [columns_of(batch)[0] for batch in batches_of(trainer)]
    trainer.train()
    loss = MultipleNegativesRankingLoss(reference.train())
    value = sum(loss(columns) for columns in batches) / 4
    value.backward()
    assert logged(trainer, "loss") == [pytest.approx(value.item(), rel=1e-4)]
    for (name, one), other in zip(model.named_parameters(), reference.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one, other - 0.1 * other.grad, atol=1e-5, rtol=1e-4, msg=name)


# -- evaluators --------------------------------------------------------------------------------------------


def test_an_evaluator_runs_at_each_evaluation(trainer_of, evaluator, tmp_path):
    trainer = trainer_of(evaluator=evaluator, settings={"eval_strategy": "steps", "eval_steps": 1})
    trainer.train()
    assert len(logged(trainer, "eval_dev_spearman_cosine")) == 2
    assert not logged(trainer, "eval_loss")
    table = tmp_path / "run" / "eval" / "similarity_evaluation_dev_results.csv"
    rows = [row.split(",")[:2] for row in table.read_text().splitlines()[1:]]
    assert [(float(epoch), int(steps)) for epoch, steps in rows] == [(0.25, 1), (0.5, 2)]
    assert trainer.model.training


def test_an_evaluator_scores_the_model_as_it_is_then(trainer_of, model, evaluator):
    trainer = trainer_of(evaluator=evaluator)
    trainer.train()
    model.eval()
    assert trainer.evaluate()["eval_dev_spearman_cosine"] == evaluator(model)["dev_spearman_cosine"]


def test_evaluators_of_a_list_run_one_after_another(trainer_of, evaluator):
    texts = sample_texts()
    triplets = TripletEvaluator(texts[:5], texts[:5], texts[5:10], name="t")
    metrics = trainer_of(evaluator=[evaluator, triplets]).evaluate()
    assert metrics.keys() >= {
        "eval_dev_spearman_cosine",
        "eval_t_cosine_accuracy",
        "eval_sequential_score",
    }


def test_an_evaluator_may_return_one_number(trainer_of):
    def score(model, output_path=None, epoch=-1, steps=-1):
        return 0.25

    assert trainer_of(evaluator=score).evaluate()["eval_evaluator"] == 0.25


def test_with_several_data_sets_an_evaluator_runs_once(trainer_of, pairs, evaluator):
    calls = []

    def counting(*args, **kwargs):
        calls.append(args)
        return evaluator(*args, **kwargs)

    trainer = trainer_of(
        eval_dataset={"a": pairs, "b": pairs},
        evaluator=counting,
        settings={"eval_strategy": "steps", "eval_steps": 2},
    )
    trainer.train()
    assert len(calls) == 1
    assert {"eval_a_loss", "eval_b_loss"} <= trainer.evaluate().keys()
    assert len(logged(trainer, "eval_dev_spearman_cosine")) == 2


def test_other_data_may_be_evaluated(trainer_of, pairs):
    trainer = trainer_of(eval_dataset=pairs)
    whole, part = trainer.evaluate(), trainer.evaluate(pairs.select(range(4)), metric_key_prefix="test")
    assert whole["eval_loss"] != part["test_loss"]
    several = trainer.evaluate({"x": pairs, "y": pairs.select(range(4))})
    assert several["eval_x_loss"] == pytest.approx(whole["eval_loss"])
    assert several["eval_y_loss"] == pytest.approx(part["test_loss"])


def test_one_of_several_data_sets_may_be_evaluated_by_its_name(trainer_of, pairs):
    trainer = trainer_of(eval_dataset={"a": pairs, "b": pairs.select(range(4))})
    everything = trainer.evaluate()
    assert trainer.evaluate("b")["eval_loss"] == pytest.approx(everything["eval_b_loss"])


# -- prompts -----------------------------------------------------------------------------------------------

PROMPTS = {
    "for all": ("heart ", {"a": ("heart ", "heart "), "b": ("heart ", "heart ")}),
    "by column": ({"anchor": "heart "}, {"a": ("heart ", ""), "b": ("heart ", "")}),
    "by data set": ({"a": "heart "}, {"a": ("heart ", "heart "), "b": ("", "")}),
    "by data set and column": (
        {"a": {"anchor": "heart "}, "b": {"positive": "disease "}},
        {"a": ("heart ", ""), "b": ("", "disease ")},
    ),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("form", PROMPTS)
def test_prompts_of_every_form_are_put_in_front(form, streamed, trainer_of, model):
    prompts, expected = PROMPTS[form]
    data = {
        name: Dataset.from_dict({"anchor": [f"what causes {name}"], "positive": [f"treatments of {name}"]})
        for name in ("a", "b")
    }
    if streamed:
        data = {name: stream_of(part) for name, part in data.items()}
    trainer = trainer_of(data, settings={"prompts": prompts})
    found = {}
    for batch in batches_of(trainer):
        columns, _ = columns_of(batch)
        texts = [
            model.tokenizer.decode(column["input_ids"][0], skip_special_tokens=True) for column in columns
        ]
        found[texts[0].split()[-1]] = texts
    for name, (anchor, positive) in expected.items():
        assert found[name] == [f"{anchor}what causes {name}", f"{positive}treatments of {name}"]


def test_a_prompt_stands_before_the_texts_of_a_single_data_set(trainer_of, pairs):
    plain, prompted = trainer_of(), trainer_of(settings={"prompts": {"anchor": "heart "}})
    for one, other in zip(rows_seen(plain), rows_seen(prompted), strict=True):
        assert [f"heart {text}" for text in one] == other


def test_prompts_are_left_out_of_the_pooling_where_the_model_says_so(trainer_of, model, pairs):
    model.set_pooling_include_prompt(False)
    trainer = trainer_of(pairs, settings={"prompts": "the heart "})
    columns, _ = columns_of(batches_of(trainer)[0])
    assert [column["prompt_length"] for column in columns] == [3, 3]
    model.eval()
    with torch.no_grad():
        found = model(dict(columns[0]))["sentence_embedding"]
        mask = columns[0]["attention_mask"].clone()
        mask[:, :3] = 0
        tokens = model[0](dict(columns[0]))["token_embeddings"]
        expected = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    trainer.train()


# -- samplers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["batch_sampler", "no_duplicates", "no_duplicates_hashed", "group_by_label"])
def test_every_named_batch_sampler_trains(name, trainer_of, model, pairs):
    data = pairs.add_column("label", [0, 1] * 8)
    loss = CosineSimilarityLoss(model)
    trainer = trainer_of(data, loss, eval_dataset=data, settings={"batch_sampler": name})
    trainer.train()
    assert trainer.state.global_step == 2
    assert trainer.evaluate()["eval_loss"] > 0


def test_no_text_comes_twice_in_a_batch(trainer_of):
    texts = sample_texts()[:8]
    data = Dataset.from_dict({"anchor": texts + texts, "positive": [f"{text} {text}" for text in texts] * 2})
    trainer = trainer_of(data, settings={"batch_sampler": "no_duplicates"})
    for batch in rows_seen(trainer):
        assert len(set(batch)) == len(batch)


class Backwards(DefaultBatchSampler):
    """The last row first."""

    def __iter__(self):
        rows = list(reversed(range(len(self.dataset))))
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size]


def backwards(dataset, batch_size, drop_last, valid_label_columns, generator, seed):
    assert valid_label_columns == ["label", "labels", "score", "scores"]
    return Backwards(dataset, batch_size, drop_last, valid_label_columns, generator, seed)


@pytest.mark.parametrize("sampler", [Backwards, backwards, NoDuplicatesBatchSampler])
def test_a_batch_sampler_may_be_a_class_or_a_function(sampler, trainer_of, pairs):
    trainer = trainer_of(settings={"batch_sampler": sampler})
    if sampler is not NoDuplicatesBatchSampler:
        expected = rows_seen(trainer_of(stream_of(pairs.select(reversed(range(16))))))
        assert rows_seen(trainer) == expected
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_sampler_s_method_may_be_written_anew_without_a_seed(model, arguments, pairs):
    """As release 3.4 had it."""

    class Trainer(SentenceTransformerTrainer):
        def get_batch_sampler(self, dataset, batch_size, drop_last, valid_label_columns=None, generator=None):
            assert generator.initial_seed() == self.args.seed
            return Backwards(dataset, batch_size, drop_last, valid_label_columns, generator)

    trainer = Trainer(model, arguments(), pairs, loss=MultipleNegativesRankingLoss(model))
    expected = [pairs["anchor"][row] for row in range(15, -1, -1)]
    found = [text for batch in rows_seen(trainer) for text in batch]
    plain = model.tokenizer.batch_decode(model.preprocess(expected)["input_ids"], skip_special_tokens=True)
    assert found == plain


class InOrder(MultiDatasetDefaultBatchSampler):
    """One data set after the other."""

    def __iter__(self):
        for batches in self.batches_of_each():
            yield from batches

    def __len__(self):
        return sum(map(len, self.batch_samplers))


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("round_robin", "abab"),
        ("proportional", "aaaabb"),
        (RoundRobinBatchSampler, "abab"),
        (lambda **options: InOrder(**options), "aaaabb"),
    ],
)
def test_several_data_sets_are_gone_through_as_asked(sampler, expected, trainer_of, pairs):
    data = {"a": pairs, "b": pairs.select(range(8))}
    settings = {"multi_dataset_batch_sampler": sampler, "prompts": {"a": ""}, "max_steps": 3}
    trainer = trainer_of(data, settings=settings)
    names = "".join(batch["dataset_name"] for batch in batches_of(trainer))
    assert "".join(sorted(names)) == "".join(sorted(expected))
    if sampler != "proportional":
        assert names == expected
    trainer.train()


def test_small_last_batches_can_be_left_out(trainer_of, pairs):
    for data in (pairs.select(range(10)), stream_of(pairs.select(range(10)))):
        trainer = trainer_of(data, settings={"dataloader_drop_last": True})
        assert [len(batch) for batch in rows_seen(trainer)] == [4, 4]


# -- models with routes ------------------------------------------------------------------------------------


def routed(checkpoint, kind):
    def words(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            from transformers import AutoTokenizer

            return StaticEmbedding(AutoTokenizer.from_pretrained(str(checkpoint)), embedding_dim=WIDTH)

    if kind == "first":
        router = Router.for_query_document(
            query_modules=[words(1)],
            document_modules=[Transformer(str(checkpoint)), Pooling(WIDTH)],
        )
        return SentenceTransformer(modules=[router], device="cpu")
    from sentence_transformers.models import Asym

    asym = Asym({"query": [Dense(WIDTH, 8)], "document": [Dense(WIDTH, 8)]})
    return SentenceTransformer(modules=[Transformer(str(checkpoint)), Pooling(WIDTH), asym], device="cpu")


@pytest.mark.parametrize("kind", ["first", "last"])
def test_columns_take_the_routes_they_are_mapped_to(kind, checkpoint, trainer_of, pairs):
    model = routed(checkpoint, kind)
    before = weights(model)
    mapping = {"anchor": "query", "positive": "document"}
    trainer = trainer_of(pairs, model=model, settings={"router_mapping": mapping, "max_steps": 3})
    columns, _ = columns_of(batches_of(trainer)[0])
    assert [column["task"] for column in columns] == ["query", "document"]
    trainer.train()
    moved = changed(model, before)
    assert any("query" in name for name in moved)
    assert any("document" in name for name in moved)


def test_a_route_that_no_column_takes_stays_as_it_is(checkpoint, trainer_of, pairs):
    model = routed(checkpoint, "first")
    before = weights(model)
    mapping = {"nli": {"anchor": "query", "positive": "query"}}
    trainer_of({"nli": pairs}, model=model, settings={"router_mapping": mapping}).train()
    assert not any("document" in name for name in changed(model, before))


def test_an_unknown_route_is_refused_with_those_there_are(checkpoint, trainer_of, pairs):
    trainer = trainer_of(
        pairs, model=routed(checkpoint, "first"), settings={"router_mapping": {"anchor": "question"}}
    )
    with pytest.raises(ValueError, match=r"'question'.*'query'"):
        trainer.train()


# -- learning rates ----------------------------------------------------------------------------------------


def rates(trainer):
    """Learning rate and decay of each parameter, by name."""
    trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    for loss in trainer.losses():
        names.update({id(p): f"loss.{name}" for name, p in loss.named_parameters() if id(p) not in names})
    return {
        names[id(parameter)]: (group.get("lr", trainer.args.learning_rate), group["weight_decay"])
        for group in trainer.optimizer.param_groups
        for parameter in group["params"]
    }


def test_parameters_may_have_learning_rates_of_their_own(trainer_of, model, pairs):
    data = pairs.add_column("label", [0, 1] * 8)
    trainer = trainer_of(
        data,
        SoftmaxLoss(model, WIDTH, 2),
        settings={
            "learning_rate_mapping": {r"encoder\.layer\.1": 0.5, r"encoder": 0.25, "classifier": 0.125},
            "weight_decay": 0.01,
        },
    )
    found = rates(trainer)
    assert set(found) >= set(weights(model)) | {"loss.classifier.weight", "loss.classifier.bias"}
    for name, (rate, decay) in found.items():
        expected = (
            0.125 if "classifier" in name
            else 0.5 if "encoder.layer.1" in name
            else 0.25 if "encoder" in name
            else 1e-3
        )  # fmt: skip
        assert rate == expected, name
        assert decay == (0 if name.endswith("bias") or "LayerNorm" in name else 0.01), name


def test_a_rate_of_zero_freezes(trainer_of, model):
    before = weights(model)
    trainer_of(settings={"learning_rate_mapping": {"encoder": 0.0}}).train()
    moved = changed(model, before)
    assert moved
    assert not any("encoder" in name for name in moved)


def test_a_pattern_that_finds_nothing_is_refused(trainer_of):
    trainer = trainer_of(settings={"learning_rate_mapping": {"decoder": 0.1}})
    with pytest.raises(ValueError, match=r"\['decoder'\]"):
        trainer.train()


# -- what is around ----------------------------------------------------------------------------------------


def test_callbacks_are_called(trainer_of):
    class Counting(TrainerCallback):
        steps = 0

        def on_step_end(self, args, state, control, **kwargs):
            self.steps += 1
            control.should_training_stop = self.steps == 2

    counting = Counting()
    trainer = trainer_of(callbacks=[counting], settings={"max_steps": 5})
    trainer.train()
    assert counting.steps == trainer.state.global_step == 2


def test_an_optimizer_may_be_handed_in(trainer_of, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = trainer_of(optimizers=(optimizer, None))
    trainer.train()
    assert trainer.optimizer is optimizer or trainer.optimizer.optimizer is optimizer


def test_an_optimizer_may_be_named_by_its_class(trainer_of):
    trainer = trainer_of(optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.1, "momentum": 0.5}))
    trainer.create_optimizer()
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in trainer.optimizer.param_groups} == {0.5}


def test_arguments_may_be_left_out(model, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = SentenceTransformerTrainer(model, train_dataset=pairs, loss=MultipleNegativesRankingLoss(model))
    assert Path(trainer.args.output_dir).name == "tmp_trainer"


def test_the_tokenizer_may_be_given_under_its_older_name(model, arguments, pairs):
    trainer = SentenceTransformerTrainer(
        model, arguments(), pairs, loss=MultipleNegativesRankingLoss(model), tokenizer=model.tokenizer
    )
    assert trainer.processing_class is model.tokenizer


def test_the_trained_model_is_the_one_that_was_given(trainer_of, model):
    trainer = trainer_of()
    trainer.train()
    assert trainer.model is model
    assert model.encode(["heart"]).shape == (1, WIDTH)


def test_training_equals_steps_written_out(trainer_of, model, pairs):
    """Plain SGD without dropout on one batch: three steps by hand."""
    by_hand = copy.deepcopy(without_dropout(model))
    data = pairs.select(range(4))
    settings = {
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_steps": 3,
        "max_grad_norm": 0,
    }
    trainer_of(data, settings=settings).train()
    by_hand.train()
    for _ in range(3):
        anchors, positives = (
            by_hand(by_hand.preprocess(data[name][:]))["sentence_embedding"] for name in data.column_names
        )
        scores = 20 * nn.functional.cosine_similarity(anchors[:, None], positives[None], dim=-1)
        by_hand.zero_grad()
        nn.functional.cross_entropy(scores, torch.arange(4)).backward()
        with torch.no_grad():
            for parameter in by_hand.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    for (name, one), other in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4, msg=name)


def test_each_training_is_in_mixed_precision_and_leaves_the_model_precise(model, pairs, arguments):
    is_mixed = []
    model[0].register_forward_hook(lambda *_: is_mixed.append(torch.is_autocast_enabled("cpu")))
    for _ in range(2):
        is_mixed.clear()
        trainer = SentenceTransformerTrainer(
            model, arguments(bf16=True, max_steps=1), pairs, loss=MultipleNegativesRankingLoss(model)
        )
        trainer.train()
        assert is_mixed == [True]
        model(model.tokenize(["one text"]))
        assert is_mixed == [True, False]
    assert "forward" not in vars(model)
