"""Pairs of texts and conversations, written out by a tokenizer's chat template.

A decoder that judges documents was trained on one text, which a template makes of messages: the instruction
with the role "system", then "query" and "document". It reads its answer off the last token, so when a text is
too long it is the middle that goes: what the template puts behind the last message stays. Nothing here runs a
model.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from sentence_transformers.modules.transformer.text import TextTokenizer, is_pair, without_surrogates

Message = dict[str, Any]

ROLES = ("query", "document")
"""The roles of the two texts of a pair."""

READING_TASKS = ("text-generation", "sequence-classification")
"""Tasks for which pairs are written out by the template, if the tokenizer has one."""

PROBES = ("quartz", "velvet")
"""Contents with which a template is asked what it does with them. They have no letters at the end in common, and no
template has them in its own text."""


def content_format(tokenizer: Any) -> str | None:
    """How a tokenizer's chat template takes contents: "flat" as text, "structured" in parts; None without one."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    for kind in ("flat", "structured"):
        # Templates of rerankers know none but the roles of a pair, and others may not know those.
        for probe in (conversation(PROBES, None, kind), [message("user", PROBES[0], kind)]):
            try:
                written = tokenizer.apply_chat_template(probe, tokenize=False)
            except Exception:  # whatever a template raises, jinja's error or its own: it cannot take this
                continue
            if PROBES[0] in written:  # one that takes parts finds none in a text, and leaves it out
                return kind
    return "flat"


def is_conversation(item: Any) -> bool:
    """Whether an input is a list of messages, each with a role and contents."""
    return (
        isinstance(item, (list, tuple))
        and len(item) > 0
        and all(isinstance(part, Mapping) and {"role", "content"} <= part.keys() for part in item)
    )


def message(role: str, text: str, kind: str) -> Message:
    """One message in the form that the template takes."""
    return {"role": role, "content": [{"type": "text", "text": text}] if kind == "structured" else text}


def conversation(item: Any, prompt: str | None, kind: str) -> list[Message]:
    """The messages of a pair of texts or of a conversation.

    Args:
        item: The pair, or messages, which the prompt is put in front of.
        prompt: The instruction; None or empty for none.
        kind: How the template takes contents, see `content_format`.

    Raises:
        ValueError: If it is neither.
    """
    system = [message("system", prompt, kind)] if prompt else []
    if is_pair(item):
        return system + [message(role, text, kind) for role, text in zip(ROLES, item, strict=True)]
    if not is_conversation(item):
        raise ValueError(
            f"Cannot write out {item!r} of type {type(item).__name__} with the chat template. Pass a pair of two "
            "strings, or a list of messages with 'role' and 'content'."
        )
    return system + [
        message(part["role"], part["content"], kind) if isinstance(part["content"], str) else dict(part)
        for part in item
    ]


class ChatTemplate:
    """Writes conversations out.

    Args:
        tokenizer: The transformers tokenizer, which has a template.
        kind: How the template takes contents, see `content_format`.
        settings: Further arguments of the tokenizer's `apply_chat_template`, such as `add_generation_prompt`.
    """

    def __init__(self, tokenizer: Any, kind: str, settings: Mapping[str, Any] | None = None) -> None:
        self.tokenizer = tokenizer
        self.kind = kind
        self.settings = dict(settings or {})
        self._source = tokenizer.chat_template

    def is_of(self, tokenizer: Any, settings: Mapping[str, Any]) -> bool:
        """Whether this is a tokenizer's template as it is now, with these settings."""
        return (
            self.tokenizer is tokenizer
            and self._source == tokenizer.chat_template
            and self.settings == settings
        )

    def rows(self, text: TextTokenizer, items: Sequence[Any], prompt: str | None) -> list[Sequence[int]]:
        """Token ids of pairs or conversations.

        Args:
            text: Reads what the template writes, and knows how many tokens are kept.
            items: The pairs or conversations.
            prompt: The instruction; None for none.
        """
        if text.lowercase:
            items = [tuple(map(str.lower, item)) if is_pair(item) else item for item in items]
        *rows, end = text.whole_ids([*self.texts(items, prompt), self.suffix])
        return [cut(row, text.max_length, end=end, cuts_right=text.cuts_right) for row in rows]

    def texts(self, items: Sequence[Any], prompt: str | None) -> list[str]:
        """What the model reads of each pair or conversation.

        Raises:
            ValueError: If the template cannot take pairs, or an item is neither pair nor conversation.
        """
        if any(map(is_pair, items)):
            self.check_pairs()
        chats = [conversation(item, prompt, self.kind) for item in items]
        return [without_surrogates(text) for text in self._written(chats)]

    @functools.cached_property
    def suffix(self) -> str:
        """What the template puts behind the last message, whatever is in it."""
        try:
            written = self._written([conversation((probe, probe), None, self.kind) for probe in PROBES])
        except Exception:  # a template for conversations of another kind, which says nothing of its end
            return ""
        one, other = written
        return one[len(one) - common_end(one, other) :]

    def check_pairs(self) -> None:
        """Refuse a template that loses one of the texts of a pair, whose scores would mean nothing."""
        if self._trouble_with_pairs:
            raise ValueError(
                f"The chat template of this model's tokenizer cannot write out a pair of texts: "
                f"{self._trouble_with_pairs}. Pairs become two messages with the roles 'query' and 'document'. Set "
                "tokenizer.chat_template to one that writes both, or to None to join the texts without a template."
            )

    @functools.cached_property
    def _trouble_with_pairs(self) -> str | None:
        try:
            text = self._written([conversation(PROBES, None, self.kind)])[0]
        except Exception as error:
            return f"it raised {type(error).__name__}: {error}"
        lost = [role for role, probe in zip(ROLES, PROBES, strict=True) if probe not in text]
        return f"the text of the {' and the '.join(lost)} is not in what it writes" if lost else None

    def _written(self, chats: list[list[Message]]) -> list[str]:
        if not chats:
            return []
        return self.tokenizer.apply_chat_template(chats, tokenize=False, **self.settings)


def cut(ids: Sequence[int], limit: int | None, *, end: Sequence[int], cuts_right: bool) -> list[int]:
    """Cut a row to a number of tokens, and keep the tokens of the template at its end.

    Args:
        ids: The whole row.
        limit: Tokens to keep; None for all.
        end: What the template's end looks like in tokens, on its own.
        cuts_right: Whether the tokenizer cuts at the end of texts; those that cut at the start keep the end anyway.
    """
    if limit is None or len(ids) <= limit:
        return list(ids)
    if not cuts_right:
        return list(ids[len(ids) - limit :])
    # Where the text before it runs into the first token of the end, that token is another one.
    kept = min(common_end(ids, end), limit)
    return [*ids[: limit - kept], *ids[len(ids) - kept :]]


def common_end(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many letters or tokens two sequences have in common at their end."""
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count
