"""Evaluation shared by processes, as far as one process shows it; two are in `training/distributed_run.py`."""

from __future__ import annotations

import pytest
import torch

from sentence_transformers.inference.ranks import Ranks, distributed_evaluation


@pytest.fixture
def group(tmp_path):
    """A distributed run of this process alone."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("enabled", [True, False])
def test_a_process_that_is_alone_evaluates(enabled):
    with distributed_evaluation(object(), enabled) as evaluates:
        assert evaluates is True


@pytest.mark.usefixtures("group")
def test_so_does_the_only_one_of_a_distributed_run():
    with distributed_evaluation(object()) as evaluates:
        assert evaluates is True


def test_an_error_is_the_caller_s():
    with pytest.raises(KeyError, match="metric"), distributed_evaluation(object()):
        raise KeyError("metric")


@pytest.mark.usefixtures("group")
def test_work_is_handed_out_and_its_results_come_back_by_number():
    ranks = Ranks(lambda inputs, options: [text * options["times"] for text in inputs])
    found = {}
    ranks.run(["a", "b", "c"], {"times": 2}, lambda numbers, results: found.update(zip(numbers, results)))
    assert found == {0: "aa", 1: "bb", 2: "cc"}


@pytest.mark.usefixtures("group")
def test_work_that_fails_says_where_and_how():
    ranks = Ranks(lambda inputs, options: inputs[9])
    with pytest.raises(RuntimeError, match=r"(?s)Process 0 .*IndexError"):
        ranks.run(["a"], {}, lambda numbers, results: None)
    assert not ranks.is_busy


@pytest.mark.usefixtures("group")
def test_only_work_that_can_be_shared_is():
    ranks = Ranks(lambda inputs, options: inputs)
    assert ranks.takes(["a"])
    assert not ranks.takes([])
    ranks.is_busy = True
    assert not ranks.takes(["a"])
    assert not Ranks(None).takes(["a"])
