"""Scores from what a causal language model would say next, and the modules of a reranker made from one.

Such a reranker is asked whether a document answers a query, and its score is how much rather it would say "yes"
than "no". Running the language model stands in `modules/transformer/`, its logits in `backend/last_token.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from sentence_transformers.backend.last_token import TOKENS_ASKED_FOR, last_of_rows
from sentence_transformers.encoder.default_modules import checkpoint_transformer
from sentence_transformers.modules.base import Module

ANSWERS = ("yes", "no")
"""The tokens that a checkpoint nobody has configured is asked to choose from."""


class LogitScore(Module):
    """Turns the logits behind each row's last token into a score.

    The logit of one token; or with a second, the logarithm of how much likelier the first is: its logit less that
    of the second, whose sigmoid is the softmax over the two. After Nogueira et al. 2020, "Document ranking with a
    pretrained sequence-to-sequence model", which scores by "true" and "false".

    Args:
        true_token_id: Token of the vocabulary that stands for a match, such as that of "yes".
        false_token_id: Token that stands for no match; None to score by the first one alone.
        module_input_name: Entry of the features with the logits.

    Raises:
        ValueError: If a token id is no number of 0 or more.
    """

    config_keys: list[str] = ["true_token_id", "false_token_id", "module_input_name"]
    reads_packed: ClassVar[bool] = True
    num_labels: ClassVar[int] = 1

    def __init__(
        self,
        true_token_id: int,
        false_token_id: int | None = None,
        module_input_name: str = "causal_logits",
    ) -> None:
        super().__init__()
        for name, value in (("true_token_id", true_token_id), ("false_token_id", false_token_id)):
            is_missing = value is None and name == "false_token_id"
            if not is_missing and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise ValueError(
                    f"{name}={value!r} is no token of a vocabulary. Pass its number, such as "
                    "tokenizer.convert_tokens_to_ids('yes')."
                )
        self.true_token_id = true_token_id
        self.false_token_id = false_token_id
        self.module_input_name = module_input_name

    @property
    def tokens(self) -> list[int]:
        """The tokens whose logits are read."""
        return [self.true_token_id, *([] if self.false_token_id is None else [self.false_token_id])]

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `scores` (B, 1).

        Args:
            features: With logits (B, 1, V) of what follows each row, or (B, T, V) of what follows each token.
            **kwargs: Ignored.

        Raises:
            KeyError: If there are no logits.
            ValueError: If the vocabulary has no such token.
        """
        del kwargs
        if self.module_input_name not in features:
            raise KeyError(
                f"LogitScore reads {self.module_input_name!r}, and the modules before it gave {sorted(features)}. Load "
                "the transformer with transformer_task='text-generation'."
            )
        logits = last_of_rows(features[self.module_input_name], features.get("attention_mask"))  # (B, V)
        tokens = self.tokens
        asked = features.get(TOKENS_ASKED_FOR)
        columns = tokens if asked is None else [asked.index(token) for token in tokens]
        if max(columns) >= logits.shape[1]:
            raise ValueError(
                f"LogitScore reads the logits of the tokens {tokens}, and the model has {logits.shape[1]} tokens only. "
                "Take the ids from the model's own tokenizer, and resize its embeddings after adding tokens."
            )
        features["scores"] = score(logits[:, columns])
        return features

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_config_dict()})"


def score(logits: Tensor) -> Tensor:
    """The logit of the first token, less that of the second if there is one: of (B, 1 or 2) the (B, 1)."""
    return logits if logits.shape[1] == 1 else logits[:, :1] - logits[:, 1:]


def tokens_needed(parts: Sequence[nn.Module]) -> list[int] | None:
    """The tokens whose logits are all that these modules make use of; None where others may be."""
    if len(parts) != 2 or type(parts[1]) is not LogitScore:
        return None
    first, last = parts
    is_alone = (
        getattr(first, "transformer_task", None) == "text-generation"
        and first.module_output_name == last.module_input_name
        and not (last._forward_hooks or last._forward_pre_hooks)  # those see what all releases show
    )
    # A token that does not exist is left to `LogitScore.forward`, which says so.
    known = getattr(first.config.get_text_config(), "vocab_size", 0) if is_alone else 0
    return last.tokens if max(last.tokens) < known else None


def transformer_with_logit_score(folder: Path, options: dict[str, Any]) -> OrderedDict[str, nn.Module]:
    """A causal language model, scored by how much rather it would say "yes" than "no".

    Args:
        folder: The checkpoint.
        options: As for `Transformer.load`.

    Raises:
        ValueError: If the tokenizer has no single token for one of the two words.
    """
    transformer = checkpoint_transformer(folder, options, task="text-generation")
    tokenizer = transformer.tokenizer
    vocabulary = tokenizer.get_vocab()
    missing = [word for word in ANSWERS if word not in vocabulary]
    if missing:
        raise ValueError(
            f"The checkpoint in {folder} is a causal language model, which is scored by its logits of the tokens 'yes' "
            f"and 'no', and its tokenizer has no token {' and no token '.join(map(repr, missing))}. Choose other "
            "tokens: CrossEncoder(modules=[Transformer(path, transformer_task='text-generation'), "
            "LogitScore(true_token_id, false_token_id)]). Or pass num_labels=2 or more to train a new head."
        )
    yes, no = (vocabulary[word] for word in ANSWERS)
    return OrderedDict({"0": transformer, "1": LogitScore(yes, no)})
