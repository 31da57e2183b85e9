"""Batches out of rows, and the features of each column out of a batch again."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

from sentence_transformers.training.collator import (
    BaseDataCollator,
    checked_setting,
    columns_of,
    setting_for,
)


class Recorded:
    """Stands for `model.preprocess`: remembers its calls, and gives the lengths of the texts as ids."""

    def __init__(self):
        self.calls = []

    def __call__(self, inputs, **options):
        self.calls.append((inputs, options))
        lengths = torch.tensor([[len(str(text))] for text in inputs])
        features = {"input_ids": lengths, "attention_mask": torch.ones_like(lengths)}
        return {**features, "prompt_length": 3} if options.get("prompt") else features

    @property
    def options(self):
        return [options for _, options in self.calls]


ROWS = [{"question": "ab", "answer": "abc", "label": 1}, {"question": "a", "answer": "abcd", "label": 0}]


def test_every_column_of_inputs_becomes_features_and_labels_one_tensor():
    batch = BaseDataCollator(Recorded())(ROWS)
    assert batch["return_loss"] is True
    assert batch["question_input_ids"].tolist() == [[2], [1]]
    assert batch["answer_input_ids"].tolist() == [[3], [4]]
    assert batch["label"].tolist() == [1, 0]
    assert batch["label"].dtype == torch.int64


def test_columns_come_back_in_their_order():
    columns, labels = columns_of(BaseDataCollator(Recorded())(ROWS))
    assert [column["input_ids"].tolist() for column in columns] == [[[2], [1]], [[3], [4]]]
    assert labels.tolist() == [1, 0]


def test_the_order_is_that_of_the_rows_wherever_the_label_stands():
    rows = [{"score": 0.5, "z": "abc", "a": "x"}]
    columns, labels = columns_of(BaseDataCollator(Recorded())(rows))
    assert [int(column["input_ids"]) for column in columns] == [3, 1]
    assert labels.tolist() == [0.5]
    assert labels.dtype == torch.float32


def test_names_that_begin_with_other_names_stay_apart():
    rows = [{"text": "a", "text_b": "ab", "text_b_input_ids": "abc"}]
    columns, _ = columns_of(BaseDataCollator(Recorded())(rows))
    assert [int(column["input_ids"]) for column in columns] == [1, 2, 3]
    assert all(set(column) == {"input_ids", "attention_mask"} for column in columns)


def test_without_a_label_there_is_none():
    batch = BaseDataCollator(Recorded())([{"text": "a"}])
    assert "label" not in batch
    assert columns_of(batch)[1] is None


def test_the_name_of_the_data_set_is_handed_on_and_is_no_text():
    batch = BaseDataCollator(Recorded())([{"text": "a", "dataset_name": "nli"}])
    assert batch["dataset_name"] == "nli"
    assert len(columns_of(batch)[0]) == 1


PROMPTS = [
    ("p", ["p", "p"]),
    ({"question": "q"}, ["q", None]),
    ({"nli": "n"}, ["n", "n"]),
    ({"nli": {"answer": "a"}, "other": {"question": "x"}}, [None, "a"]),
    ({"other": "x", "another": {"question": "y"}}, [None, None]),
    ({"question": ""}, [None, None]),
    (None, [None, None]),
]


@pytest.mark.parametrize(("prompts", "expected"), PROMPTS)
def test_prompts_are_chosen_by_data_set_and_column(prompts, expected):
    preprocess = Recorded()
    rows = [{**row, "dataset_name": "nli"} for row in ROWS]
    BaseDataCollator(preprocess, prompts=prompts)(rows)
    assert [options.get("prompt") for options in preprocess.options] == expected


def test_prompts_by_column_hold_in_every_data_set():
    assert setting_for({"question": "q"}, "nli", "question") == "q"
    assert setting_for({"question": "q"}, None, "question") == "q"


def test_a_data_set_that_is_named_decides_for_its_columns():
    assert setting_for({"nli": {"a": "x"}, "question": "q"}, "nli", "question") is None


def test_tasks_are_chosen_like_prompts_and_lengths_too():
    preprocess = Recorded()
    collator = BaseDataCollator(
        preprocess, router_mapping={"question": "query", "answer": "document"}, max_length={"answer": 5}
    )
    collator(ROWS)
    assert [options.get("task") for options in preprocess.options] == ["query", "document"]
    assert "processing_kwargs" not in preprocess.options[0]
    assert preprocess.options[1]["processing_kwargs"] == {"text": {"max_length": 5}}


def test_one_length_is_for_all_columns():
    preprocess = Recorded()
    BaseDataCollator(preprocess, max_length=7)(ROWS)
    assert [options["processing_kwargs"] for options in preprocess.options] == [
        {"text": {"max_length": 7}}
    ] * 2


def test_what_a_prompt_adds_to_the_features_comes_back_with_them():
    columns, _ = columns_of(BaseDataCollator(Recorded(), prompts={"answer": "a "})(ROWS))
    assert "prompt_length" not in columns[0]
    assert columns[1]["prompt_length"] == 3


def test_the_function_may_be_given_under_its_older_name():
    preprocess = Recorded()
    assert SentenceTransformerDataCollator(tokenize_fn=preprocess).preprocess_fn is preprocess
    collator = SentenceTransformerDataCollator(preprocess, ["gold"])
    assert collator.tokenize_fn is preprocess
    assert collator([{"text": "a", "gold": 2}])["label"].tolist() == [2]


def test_one_function_must_be_given():
    with pytest.raises(TypeError, match="preprocess_fn"):
        SentenceTransformerDataCollator()


def test_another_program_may_ask_for_other_labels():
    batch = BaseDataCollator(Recorded(), valid_label_columns=["gold"])([{"label": "text", "gold": 2}])
    assert batch["label"].tolist() == [2]
    assert len(columns_of(batch)[0]) == 1


def test_lengths_reach_the_tokenizer(model):
    rows = [{"question": "what is a heart attack", "answer": "a heart attack is a disease of the heart"}]
    collator = BaseDataCollator(model.preprocess, max_length={"answer": 4})
    columns, _ = columns_of(collator(rows))
    assert columns[0]["input_ids"].shape[1] > 4
    assert columns[1]["input_ids"].shape[1] == 4
    assert columns[1]["input_ids"][0, -1] == model.tokenizer.sep_token_id


def test_a_length_counts_instead_of_the_model_s(model):
    model.max_seq_length = 6
    rows = [{"text": "a heart attack is a disease of the heart"}]
    collator = BaseDataCollator(model.preprocess, max_length=8)
    assert columns_of(collator(rows))[0][0]["input_ids"].shape[1] == 8
    assert model.preprocess(["a heart attack is a disease"])["input_ids"].shape[1] == 6


@pytest.mark.parametrize("setting", [{"nli": {"question": "q"}}, {"nli": {}}])
def test_a_setting_by_data_set_and_column_needs_data_sets_with_names(setting):
    with pytest.raises(ValueError, match="single data set"):
        checked_setting(setting, "prompts", None)
    checked_setting(setting, "prompts", ["nli"])


@pytest.mark.parametrize("setting", ["text", None, {}, {"question": "q"}])
def test_a_setting_by_column_or_for_all_suits_any_data(setting):
    checked_setting(setting, "prompts", None)
    checked_setting(setting, "prompts", ["nli"])
