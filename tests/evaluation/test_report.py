"""CSV rows and log lines of evaluators."""

from __future__ import annotations

import logging

import pytest

from sentence_transformers.evaluation.base import BaseEvaluator
from sentence_transformers.evaluation.report import log_metrics, write_csv_row


def test_rows_end_up_below_one_header(tmp_path):
    folder = tmp_path / "a" / "b"
    for epoch in (0, 1):
        write_csv_row(folder, "results.csv", ["epoch", "steps", "x,y"], [epoch, -1, 0.5])
    assert (folder / "results.csv").read_bytes() == b'epoch,steps,"x,y"\r\n0,-1,0.5\r\n1,-1,0.5\r\n'


def test_an_empty_file_gets_the_header(tmp_path):
    (tmp_path / "results.csv").touch()
    path = write_csv_row(tmp_path, "results.csv", ["épreuve"], [1])
    assert path.read_text(encoding="utf-8") == "épreuve\n1\n"


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        write_csv_row(tmp_path / "file", "results.csv", ["a"], [1])


@pytest.mark.parametrize(
    ("epoch", "steps", "when"),
    [(-1, -1, ":"), (2, -1, " after epoch 2:"), (2, 30, " in epoch 2 after 30 steps:")],
)
def test_the_log_says_what_was_measured_and_when(epoch, steps, when, caplog):
    evaluator = BaseEvaluator()
    evaluator.name = "dev"
    with caplog.at_level(logging.INFO, logger="sentence_transformers.evaluation"):
        log_metrics(evaluator, {"accuracy": 0.51234567}, epoch, steps)
    assert caplog.messages == [f"BaseEvaluator on dev{when}", "  accuracy: 0.512346"]
