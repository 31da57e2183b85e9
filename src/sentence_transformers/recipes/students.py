"""Students to be taught: a checkpoint, some layers of the teacher, or a smaller transformer made anew.

A student gives vectors as its teacher does: of length one where the teacher's are, and as wide, or else the teacher's
vectors are projected to the student's width. Nothing here trains.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.recipes.layers import transformers_model
from sentence_transformers.recipes.principal import principal_components


def has_length_one(model: Any) -> bool:
    """Whether a model ends by giving its vectors the length one."""
    return isinstance(list(model)[-1], Normalize)


def like_teacher(student: Any, teacher: Any, *, wide: bool, seed: int) -> Any:
    """The student with vectors as the teacher's.

    Args:
        student: A `SentenceTransformer`.
        teacher: Another.
        wide: Put a linear layer to the teacher's width behind the student where its own is another.
        seed: Of the layer's weights.
    """
    from sentence_transformers.sentence_transformer.model import SentenceTransformer

    parts = list(student)
    if has_length_one(student):
        parts.pop()
    width, wanted = (model.get_sentence_embedding_dimension() for model in (student, teacher))
    if wide and width != wanted:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts.append(Dense(width, wanted, activation_function=nn.Identity()))
    if has_length_one(teacher):
        parts.append(Normalize())
    return SentenceTransformer(modules=parts, device=str(student.device))


def made_anew(teacher: Any, *, layers: int | None, width: int | None, seed: int) -> Any:
    """A transformer of the teacher's kind with fewer or narrower layers, which have never learned anything.

    It reads the teacher's tokens. Their vectors are the teacher's too, or, where it is narrower, these by their
    principal components: what a word means need not be learned again.

    Args:
        teacher: A `SentenceTransformer`; it becomes the student.
        layers: How many; None for as many as the teacher's.
        width: Of what runs through the layers; None for the teacher's.
        seed: Of the weights.

    Raises:
        ValueError: If the width is larger than the teacher's, or does not suit its attention heads.
    """
    from sentence_transformers.sentence_transformer.model import SentenceTransformer

    old: Any = transformers_model(teacher)
    config = copy.deepcopy(old.config)
    before = config.hidden_size
    if layers is not None:
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
        config.num_hidden_layers = layers
    if width is not None and width != before:
        of_head = before // config.num_attention_heads
        if width > before or width % of_head:
            raise ValueError(
                f"new_width={width} does not suit: the teacher's attention heads have {of_head} numbers each. Pass a "
                f"multiple of {of_head} below {before}."
            )
        config.hidden_size = width
        config.num_attention_heads = width // of_head
        if hasattr(config, "intermediate_size"):
            config.intermediate_size = config.intermediate_size * width // before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = type(old)(config)
    words = old.get_input_embeddings().weight.detach().float().cpu().numpy()
    target = new.get_input_embeddings().weight
    if target.shape[1] < words.shape[1]:
        words = words @ principal_components(words).directions[: target.shape[1]].T
    with torch.no_grad():
        target.copy_(torch.from_numpy(words))
    transformer = next(iter(teacher))
    transformer.auto_model = new.to(old.device).eval()
    if config.hidden_size == before:
        return teacher
    pooling = next((part for part in teacher if isinstance(part, Pooling)), None)
    kind = pooling.get_pooling_mode_str() if pooling is not None else "mean"
    parts = [transformer, Pooling(config.hidden_size, pooling_mode=kind)]
    return SentenceTransformer(modules=parts, device=str(teacher.device))


def projected(vectors: np.ndarray, width: int, *, length_one: bool) -> np.ndarray:
    """A teacher's vectors (N, D) by their first principal components, (N, width).

    Raises:
        ValueError: If there are not so many.
    """
    if width > vectors.shape[1]:
        raise ValueError(
            f"The teacher's vectors have {vectors.shape[1]} numbers and cannot be projected to the student's {width}. "
            "Pass match='dense'."
        )
    shorter = vectors @ principal_components(vectors).directions[:width].T
    if length_one:
        shorter /= np.linalg.norm(shorter, axis=1, keepdims=True).clip(min=1e-12)
    return shorter.astype(np.float32)
