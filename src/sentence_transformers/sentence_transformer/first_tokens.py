"""Whether the vectors of a model depend on the first token of each row alone.

Then the transformer need not compute its last layer for the others. Asks the parts of a model; computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from sentence_transformers.backend.untouched import has_hooks
from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer.module import Transformer


def first_tokens_suffice(parts: Sequence[nn.Module]) -> bool:
    """Whether the parts of a model make its vectors of nothing but the first tokens' embeddings.

    So it is with a transformer, a pooling that takes the first token, and parts behind it that read vectors;
    all of them exactly of our own classes, and without hooks, which may look at all tokens.
    """
    if len(parts) < 2 or type(parts[0]) is not Transformer or type(parts[1]) is not Pooling:
        return False
    return (
        parts[1].modes == ("cls",)
        and parts[1].include_prompt  # otherwise the first token that counts stands behind the prompt
        and all(reads_vectors(part) for part in parts[2:])
        and not any(has_hooks(part) for part in parts)
    )


def reads_vectors(part: Any) -> bool:
    """Whether a part looks at a row's vector only."""
    return type(part) in (Dense, Normalize) and part.module_input_name == "sentence_embedding"
