"""Arguments of a training run, as they are given in Python, as JSON and on a command line."""

from __future__ import annotations

import json
import pickle

import pytest
from transformers import HfArgumentParser, TrainingArguments

from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.training.arguments import BaseTrainingArguments
from sentence_transformers.training.batch_samplers import BatchSamplers, NoDuplicatesBatchSampler
from sentence_transformers.training.dataset_samplers import (
    MultiDatasetBatchSamplers,
    RoundRobinBatchSampler,
)


@pytest.fixture
def made(tmp_path):
    def arguments(**settings):
        return SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, report_to="none", **settings
        )

    return arguments


def test_they_are_those_of_transformers_and_a_few_more(made):
    args = made()
    assert isinstance(args, BaseTrainingArguments)
    assert isinstance(args, TrainingArguments)
    assert args.prompts is None
    assert args.batch_sampler is BatchSamplers.BATCH_SAMPLER
    assert args.multi_dataset_batch_sampler is MultiDatasetBatchSamplers.PROPORTIONAL
    assert args.router_mapping == {}
    assert args.learning_rate_mapping == {}


def test_samplers_may_be_given_by_name(made):
    args = made(batch_sampler="no_duplicates", multi_dataset_batch_sampler="round_robin")
    assert args.batch_sampler is BatchSamplers.NO_DUPLICATES
    assert args.multi_dataset_batch_sampler is MultiDatasetBatchSamplers.ROUND_ROBIN


@pytest.mark.parametrize("name", ["batch_sampler", "multi_dataset_batch_sampler"])
def test_an_unknown_sampler_is_told_which_there_are(made, name):
    with pytest.raises(ValueError, match=r"'alphabetical'.*round_robin|'alphabetical'.*no_duplicates"):
        made(**{name: "alphabetical"})


def test_a_sampler_that_is_a_class_or_a_function_is_kept_and_written_by_name(made):
    def some_sampler(*args, **kwargs):
        return RoundRobinBatchSampler(*args, **kwargs)

    args = made(batch_sampler=NoDuplicatesBatchSampler, multi_dataset_batch_sampler=some_sampler)
    assert args.batch_sampler is NoDuplicatesBatchSampler
    assert args.multi_dataset_batch_sampler is some_sampler
    written = json.loads(args.to_json_string())
    assert written["batch_sampler"].endswith(".NoDuplicatesBatchSampler")
    assert written["multi_dataset_batch_sampler"].endswith("some_sampler")


def test_named_samplers_are_written_by_their_name(made):
    written = made(batch_sampler="group_by_label").to_dict()
    assert written["batch_sampler"] == "group_by_label"
    assert written["multi_dataset_batch_sampler"] == "proportional"
    assert json.dumps(written)


def test_they_can_be_pickled_as_a_checkpoint_does(made):
    args = pickle.loads(pickle.dumps(made(batch_sampler="no_duplicates", prompts={"a": "b"})))
    assert args.batch_sampler is BatchSamplers.NO_DUPLICATES
    assert args.prompts == {"a": "b"}


def test_mappings_may_be_given_as_json(made):
    args = made(
        prompts='{"query": "find: "}',
        router_mapping='{"question": "query"}',
        learning_rate_mapping='{"dense": 0.01}',
    )
    assert args.prompts == {"query": "find: "}
    assert args.router_mapping == {"question": "query"}
    assert args.learning_rate_mapping == {"dense": 0.01}


def test_a_prompt_that_is_no_json_is_a_text(made):
    assert made(prompts="[query] ").prompts == "[query] "


@pytest.mark.parametrize("name", ["router_mapping", "learning_rate_mapping"])
def test_broken_json_is_refused(made, name):
    with pytest.raises(ValueError, match=f"{name}='{{question'"):
        made(**{name: "{question"})


@pytest.mark.parametrize("name", ["router_mapping", "learning_rate_mapping"])
def test_json_that_is_no_mapping_is_refused(made, name):
    with pytest.raises(ValueError, match=name):
        made(**{name: "[1, 2]"})


def test_a_share_of_the_steps_warms_up(made):
    assert made(warmup_ratio=0.1).get_warmup_steps(200) == 20
    assert made(warmup_steps=7).get_warmup_steps(200) == 7
    assert made(warmup_ratio=0.1, warmup_steps=7).get_warmup_steps(200) == 7
    assert made().get_warmup_steps(200) == 0


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_warmup_ratio_that_is_no_share_is_refused(made, share):
    with pytest.raises(ValueError, match="no share"):
        made(warmup_ratio=share)


def test_they_are_read_from_a_command_line(tmp_path):
    [args] = HfArgumentParser(SentenceTransformerTrainingArguments).parse_args_into_dataclasses(
        [
            *("--output_dir", str(tmp_path), "--use_cpu", "--report_to", "none"),
            *("--batch_sampler", "no_duplicates", "--warmup_ratio", "0.2"),
            *("--prompts", '{"question": "q: "}', "--learning_rate_mapping", '{"pooler": 0.1}'),
        ]
    )
    assert args.batch_sampler is BatchSamplers.NO_DUPLICATES
    assert args.prompts == {"question": "q: "}
    assert args.learning_rate_mapping == {"pooler": 0.1}
    assert args.get_warmup_steps(10) == 2


def test_buffers_stay_as_they_are_between_the_runs_of_a_step(made):
    assert made().ddp_broadcast_buffers is False
    assert made(ddp_broadcast_buffers=True).ddp_broadcast_buffers is True


def test_what_was_chosen_is_told_from_what_was_filled_in(made):
    args = made(learning_rate=0.5, batch_sampler="no_duplicates", prompts={"a": "b"})
    usual, current = args.usual_values(), args.to_dict()
    assert usual.keys() == current.keys()
    different = {name for name in current if current[name] != usual[name]}
    assert different - {"output_dir", "use_cpu", "report_to"} == {"learning_rate", "batch_sampler", "prompts"}
    assert usual["learning_rate"] == 5e-5
    assert usual["batch_sampler"] == "batch_sampler"
    assert json.dumps(usual)
