"""Training of cross-encoders: their data, losses, prompts and runs; what all kinds share stands in `tests/training`.

The losses of each step and the scores afterwards were recorded with sentence-transformers 6.2.0 by
`tools/record_cross_encoder_training.py`.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from cross_encoder_training_cases import CASES, RECORDED, ROWS, checkpoint_of, outcome, rows_of, trained
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder import CrossEncoderDataCollator, losses
from sentence_transformers.cross_encoder.evaluation import CrossEncoderCorrelationEvaluator
from tiny import sample_texts

WHAT_6_2_0_DID = json.loads(RECORDED.read_text(encoding="utf-8"))
SCORE, CLASSES, LISTS = "binary cross entropy", "cross entropy", "lambda"


@pytest.fixture
def trainer_of(tmp_path):
    """Makes a trainer of a short run of a tiny model, with the data and the loss of a case where none are named."""

    def made(case=SCORE, data=None, *, loss=None, settings=None, model=None, **options):
        model = model or CrossEncoder(checkpoint_of(case, tmp_path / "start"), device="cpu")
        name, kind, arguments = CASES[case]
        usual = {
            "output_dir": str(tmp_path / "run"),
            "max_steps": 2,
            "per_device_train_batch_size": 3,
            "per_device_eval_batch_size": 4,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
        }
        return CrossEncoderTrainer(
            model=model,
            args=CrossEncoderTrainingArguments(**{**usual, **(settings or {})}),
            train_dataset=Dataset.from_dict(rows_of(kind)) if data is None else data,
            loss=loss or getattr(losses, name)(model, **arguments),
            **options,
        )

    return made


def logged(trainer, key):
    return [entry[key] for entry in trainer.state.log_history if key in entry]


@pytest.mark.parametrize("case", CASES)
def test_runs_are_those_of_the_other_release(case, tmp_path):
    ours, theirs = outcome(trained(case, tmp_path)), WHAT_6_2_0_DID[case]
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=2e-4, atol=1e-5)
    assert theirs["losses"][-1] < theirs["losses"][0]
    np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=0, atol=2e-3)


# -- data --------------------------------------------------------------------------------------------------


def collated(rows, **options):
    return CrossEncoderDataCollator(lambda *_: {}, **options)(rows)


def test_a_batch_holds_the_texts_of_its_columns():
    batch = collated([{"a": "x", "label": 1, "b": "y"}, {"a": "u", "label": 0, "b": "v"}])
    assert (batch["a"], batch["b"]) == (["x", "u"], ["y", "v"])
    assert batch["label"].tolist() == [1, 0]


def test_lists_of_labels_may_differ_in_length():
    rows = [{"q": "x", "d": ["y", "z"], "labels": [1, 0]}, {"q": "u", "d": ["v"], "labels": [0.5]}]
    batch = collated(rows)
    assert [row.tolist() for row in batch["label"]] == [[1.0, 0.0], [0.5]]
    assert {row.dtype for row in batch["label"]} == {torch.float32}
    assert batch["d"] == [["y", "z"], ["v"]]


def test_a_number_among_lists_of_labels_is_refused():
    with pytest.raises(ValueError, match="lists of labels in some rows and 1 in another"):
        collated([{"q": "x", "d": ["y"], "labels": [1]}, {"q": "u", "d": ["v"], "labels": 1}])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"prompts": "P"}, {"prompt": "P"}),
        ({"prompts": {"one": "P", "two": "Q"}}, {"prompt": "P"}),
        ({"prompts": {"two": "Q"}}, {}),
        ({"router_mapping": {"one": "query"}}, {"task": "query"}),
    ],
)
def test_prompts_and_tasks_are_of_all_pairs_or_of_a_data_set(options, expected):
    batch = collated([{"q": "x", "d": "y", "dataset_name": "one"}], **options)
    assert {name: batch[name] for name in ("prompt", "task") if name in batch} == expected


@pytest.mark.parametrize("prompts", [{"q": "P"}, {"one": {"q": "P"}}])
def test_a_column_has_no_prompt_of_its_own(prompts):
    with pytest.raises(ValueError, match="is by column, and a pair is made of several"):
        collated([{"q": "x", "d": "y", "dataset_name": "one"}], prompts=prompts)


def test_a_length_of_columns_is_refused():
    with pytest.raises(ValueError, match=r"Set model\.max_length"):
        collated([{"q": "x", "d": "y"}], max_length=8)


def test_a_column_may_be_called_prompt_until_there_is_one(trainer_of):
    data = Dataset.from_dict({"prompt": ["a", "b"], "answer": ["c", "d"], "label": [0.0, 1.0]})
    trainer_of(data=data).train()
    with pytest.raises(ValueError, match="Rename the column"):
        trainer_of(data=data, settings={"prompts": "Find: "}).train()


def test_a_prompt_stands_in_front_of_each_pair(trainer_of, tmp_path):
    model = CrossEncoder(checkpoint_of(SCORE, tmp_path / "start"), device="cpu")
    rows = rows_of("score")
    told = {
        "query": [f"Find: {text}" for text in rows["query"]],
        **{k: rows[k] for k in ("document", "score")},
    }
    with_prompt = trainer_of(model=model, settings={"prompts": "Find: ", "per_device_eval_batch_size": ROWS})
    written_out = trainer_of(model=model, settings={"per_device_eval_batch_size": ROWS})
    values = [
        with_prompt.evaluate(Dataset.from_dict(rows))["eval_loss"],
        written_out.evaluate(Dataset.from_dict(told))["eval_loss"],
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@pytest.mark.parametrize("case", [SCORE, "list net"])
def test_the_loss_of_an_evaluation_is_the_mean_over_rows(case, trainer_of):
    trainer = trainer_of(case)
    data = rows_of(CASES[case][1])  # 6 rows, in batches of 4 and of 2
    parts = [
        trainer.evaluate(Dataset.from_dict({name: values[part] for name, values in data.items()}))[
            "eval_loss"
        ]
        for part in (slice(0, 4), slice(4, 6))
    ]
    whole = trainer.evaluate(Dataset.from_dict(data))["eval_loss"]
    assert whole == pytest.approx((4 * parts[0] + 2 * parts[1]) / 6, rel=1e-5)


def test_each_data_set_may_have_its_own_loss(trainer_of, tmp_path):
    model = CrossEncoder(checkpoint_of(SCORE, tmp_path / "start"), device="cpu")
    seen = []

    def watched(loss, name):
        loss.register_forward_pre_hook(lambda module, inputs: seen.append((name, len(inputs[0]))))
        return loss

    trainer_of(
        model=model,
        data={kind: Dataset.from_dict(rows_of(kind)) for kind in ("score", "lists", "triplet")},
        loss={
            "score": watched(losses.BinaryCrossEntropyLoss(model), "score"),
            "lists": watched(losses.LambdaLoss(model), "lists"),
            "triplet": watched(losses.MultipleNegativesRankingLoss(model), "triplet"),
        },
        settings={"max_steps": 6, "multi_dataset_batch_sampler": "round_robin"},
    ).train()
    assert set(seen) == {("score", 2), ("lists", 2), ("triplet", 3)}


def test_no_text_comes_twice_in_a_batch_of_lists(trainer_of):
    rows = rows_of("lists")
    rows["documents"][1] = [rows["documents"][0][0], "another"]
    rows["labels"][1] = [1, 0]
    trainer = trainer_of(LISTS, Dataset.from_dict(rows), settings={"batch_sampler": "no_duplicates"})
    for batch in trainer.get_train_dataloader():
        texts = [text for documents in batch["documents"] for text in documents] + batch["query"]
        assert len(texts) == len(set(texts))


MISFITS = {
    "one column": (SCORE, {"query": ["a"], "label": [1.0]}, "takes 2"),
    "three columns": (SCORE, {"a": ["a"], "b": ["b"], "c": ["c"], "label": [1.0]}, "takes 2"),
    "no label": (SCORE, {"a": ["a"], "b": ["b"]}, "needs a label"),
    "class beyond the model": (CLASSES, {"a": ["a"], "b": ["b"], "label": [3]}, "the class 3"),
    "class as a fraction": (CLASSES, {"a": ["a"], "b": ["b"], "label": [0.5]}, "needs an int"),
    "number for a list": (LISTS, {"a": ["a"], "b": [["b"]], "label": [1]}, "one number for a query"),
    "texts as labels": (SCORE, {"a": ["a"], "b": ["b"], "label": ["yes"]}, "do not form one tensor"),
    "no rows": (SCORE, {"a": [], "b": [], "label": []}, "is empty"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_data_that_do_not_suit_the_loss_are_refused_before_training(case, trainer_of):
    kind, rows, message = MISFITS[case]
    with pytest.raises(ValueError, match=message):
        trainer_of(kind, Dataset.from_dict(rows))


def test_a_loss_for_another_number_of_labels_is_refused(trainer_of, tmp_path):
    model = CrossEncoder(checkpoint_of(CLASSES, tmp_path / "start"), device="cpu")
    with pytest.raises(ValueError, match="num_labels=1"):
        trainer_of(model=model, loss=losses.BinaryCrossEntropyLoss)


# -- runs --------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluator():
    rows = rows_of("score")
    return CrossEncoderCorrelationEvaluator(
        list(zip(rows["query"], rows["document"])), rows["score"], name="dev"
    )


def test_an_evaluator_scores_the_model_and_the_best_one_is_kept(trainer_of, evaluator):
    trainer = trainer_of(
        evaluator=evaluator,
        settings={
            "max_steps": 6,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_strategy": "steps",
            "save_steps": 2,
            "load_best_model_at_end": True,
            "metric_for_best_model": "dev_spearman",
        },
    )
    trainer.train()
    reached = logged(trainer, "eval_dev_spearman")
    assert len(reached) == 3
    assert evaluator(trainer.model)["dev_spearman"] == pytest.approx(max(reached))


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(trainer_of, tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 2}
    whole = trainer_of("lambda in small batches", settings=settings)
    whole.train()
    resumed = trainer_of("lambda in small batches", settings=settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_saved_model_scores_as_the_trained_one_and_says_how_it_was_trained(trainer_of, tmp_path):
    trainer = trainer_of()
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    pairs = list(zip(sample_texts()[:4], sample_texts()[4:8]))
    loaded = CrossEncoder(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_array_equal(loaded.predict(pairs), trainer.model.predict(pairs))
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert "BinaryCrossEntropyLoss" in card
    assert "CrossEncoder" in card
    assert "### Hyperparameters" in card
    assert rows_of("score")["query"][0] in card


def test_hyperparameters_may_be_searched_for_with_a_model_made_anew(tmp_path, trainer_of):
    starts = []

    def fresh():
        model = CrossEncoder(checkpoint_of(SCORE, tmp_path / f"start{len(starts)}"), device="cpu")
        starts.append(model)
        return model

    trainer = CrossEncoderTrainer(
        args=CrossEncoderTrainingArguments(
            output_dir=str(tmp_path / "run"), max_steps=1, report_to="none", use_cpu=True, save_strategy="no"
        ),
        train_dataset=Dataset.from_dict(rows_of("score")),
        loss=losses.BinaryCrossEntropyLoss,
        model_init=fresh,
    )
    trainer.train()
    assert trainer.model is starts[-1]
    assert trainer.loss.model is starts[-1]


def test_a_loss_of_ones_own_takes_texts_and_labels(trainer_of, tmp_path):
    class Margin(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, inputs, labels):
            queries, positives, negatives = inputs
            assert labels is None
            scores = [
                self.model(self.model.preprocess(list(zip(queries, documents))))["scores"]
                for documents in (positives, negatives)
            ]
            return (1 - scores[0] + scores[1]).relu().mean()

    model = CrossEncoder(checkpoint_of(SCORE, tmp_path / "start"), device="cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer_of(model=model, data=Dataset.from_dict(rows_of("triplet")), loss=Margin(model)).train()
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_half_precision_trains_and_leaves_the_model_precise(trainer_of):
    trainer = trainer_of(settings={"bf16": True})
    trainer.train()
    assert {value.dtype for value in trainer.model.parameters()} == {torch.float32}
    pairs = list(zip(sample_texts()[:4], sample_texts()[4:8]))
    again = CrossEncoder(modules=list(trainer.model), device="cpu")
    np.testing.assert_array_equal(trainer.model.predict(pairs), again.predict(pairs))


def test_an_epoch_goes_through_a_stream_of_rows(trainer_of):
    data = Dataset.from_dict(rows_of("lists")).to_iterable_dataset()
    trainer = trainer_of(LISTS, data, settings={"max_steps": 3})
    trainer.train()
    assert trainer.state.global_step == 3
