import logging

import pytest
import torch

from sentence_transformers.tensors.teacher_targets import check_teacher_targets


def test_usual_scores_pass_in_silence(caplog):
    scores = torch.tensor([[3.0, -1.0], [2.0, 7.0]])
    check_teacher_targets(scores.softmax(dim=-1), scores, 1.0, "SomeLoss")
    assert not caplog.records


def test_scores_that_are_no_numbers_are_refused():
    scores = torch.tensor([[3.0, torch.nan]])
    with pytest.raises(ValueError, match="SomeLoss: the teacher's scores contain NaN"):
        check_teacher_targets(scores.softmax(dim=-1), scores, 1.0, "SomeLoss")


def test_scores_too_far_apart_for_the_temperature_are_told(caplog):
    scores = torch.tensor([[500.0, 0.0, 499.0]])
    with caplog.at_level(logging.WARNING):
        check_teacher_targets(scores.softmax(dim=-1), scores, 1.0, "SomeLoss")
    assert "1 of 3 teacher probabilities are exactly zero" in caplog.text
    assert "above 5." in caplog.text
