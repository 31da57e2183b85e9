"""Check what a teacher model offers as targets before a student learns from it."""

from __future__ import annotations

import logging

from torch import Tensor

logger = logging.getLogger(__name__)

WIDEST_SPREAD = 100.0
"""Scores further apart than this (after the temperature) give exactly zero in a float32 softmax."""


def check_teacher_targets(
    teacher_probabilities: Tensor, teacher_logits: Tensor, teacher_temperature: float, loss_name: str
) -> None:
    """Stop or warn if a teacher's scores cannot teach.

    Args:
        teacher_probabilities: Softmax of the scores over the temperature, (B, N).
        teacher_logits: The scores themselves, (B, N).
        teacher_temperature: The temperature that was used, for the message.
        loss_name: Which loss asks, for the message.

    Raises:
        ValueError: If a score is NaN: the first backward would turn every weight into NaN.
    """
    if bool(teacher_logits.isnan().any()):
        raise ValueError(
            f"{loss_name}: the teacher's scores contain NaN, so the loss and all gradients would be NaN. "
            "Check the column that holds the teacher's scores."
        )
    lost = int((teacher_probabilities == 0).sum())
    if lost:
        scores = teacher_logits.detach().float()
        spread = float((scores.amax(dim=-1) - scores.amin(dim=-1)).max())
        logger.warning(
            "%s: with teacher_temperature=%s, %d of %d teacher probabilities are exactly zero and give no "
            "gradient. The "
            "scores of one row are up to %.4g apart; raise teacher_temperature above %.3g.",
            loss_name,
            teacher_temperature,
            lost,
            teacher_probabilities.numel(),
            spread,
            spread / WIDEST_SPREAD,
        )
