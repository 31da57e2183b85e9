"""What a chat template makes of pairs and conversations, and what stays of it when a text is cut."""

from __future__ import annotations

from typing import Any

import pytest

from decoder_cases import CHAT, RERANKER
from sentence_transformers.modules.transformer.messages import ChatTemplate, content_format, cut
from sentence_transformers.modules.transformer.text import TextTokenizer
from tiny import tiny_tokenizer

PAIR = ("what is it", "it is a disease of the eye")
LONG = ("what is it", " ".join(["a disease of the eye"] * 20))
STRICT = (
    "{% for message in messages %}{% if message['role'] != 'user' %}{{ raise_exception('who?') }}{% endif %}"
    "{{ message['content'] }}{% endfor %}"
)
FOR_USERS = "{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] }}{% endif %}{% endfor %}"


def templated(template: str | None, **settings: Any) -> ChatTemplate:
    tokenizer = tiny_tokenizer("qwen3")
    tokenizer.chat_template = template
    return ChatTemplate(tokenizer, content_format(tokenizer) or "flat", settings)


def read(
    chat: ChatTemplate, items: list[Any], prompt: str | None = None, limit: int | None = None
) -> list[str]:
    """What is left of items, as text."""
    rows = chat.rows(TextTokenizer(chat.tokenizer, max_length=limit), items, prompt)
    return chat.tokenizer.batch_decode(rows)


@pytest.mark.parametrize(
    ("template", "kind"),
    [(None, None), (RERANKER, "flat"), (CHAT, "structured"), (FOR_USERS, "flat"), (STRICT, "flat")],
)
def test_the_template_tells_how_it_takes_contents(template, kind):
    tokenizer = tiny_tokenizer("qwen3")
    tokenizer.chat_template = template
    assert content_format(tokenizer) == kind


def test_a_pair_becomes_a_query_and_a_document_and_the_prompt_a_system():
    assert read(templated(RERANKER), [PAIR]) == [
        "Judge. Is it relevant?\n<query>: what is it\n<document>: it is a disease of the eye\nSo it is: "
    ]
    assert read(templated(CHAT, add_generation_prompt=True), [PAIR], "Well?") == [
        "[system] Well?[query] what is it[document] it is a disease of the eye[assistant] "
    ]


def test_conversations_are_written_as_they_are_behind_the_prompt():
    chat = templated(CHAT)
    messages = [
        {"role": "system", "content": "One"},
        {"role": "query", "content": [{"type": "text", "text": "Two"}]},
    ]
    assert read(chat, [messages]) == ["[system] One[query] Two"]
    assert read(chat, [messages], "Three") == ["[system] Three[system] One[query] Two"]


@pytest.mark.parametrize(("template", "told"), [(STRICT, "who"), (FOR_USERS, "query and the document")])
def test_a_template_that_loses_a_text_is_refused(template, told):
    with pytest.raises(ValueError, match=f"cannot write out a pair of texts.*{told}"):
        read(templated(template), [PAIR])


def test_what_is_neither_pair_nor_conversation_is_refused():
    with pytest.raises(ValueError, match="Pass a pair of two strings, or a list of messages"):
        read(templated(CHAT), [PAIR, "text"])


@pytest.mark.parametrize("limit", [30, 40, 77])
def test_the_end_of_the_template_survives_cutting(limit):
    chat = templated(RERANKER)
    assert chat.suffix == "\nSo it is: "
    whole, kept = read(chat, [LONG])[0], read(chat, [LONG], limit=limit)[0]
    assert kept.endswith("\nSo it is: ")
    assert whole.startswith(kept.removesuffix("\nSo it is: "))
    assert len(chat.rows(TextTokenizer(chat.tokenizer, max_length=limit), [LONG], None)[0]) == limit


def test_tokenizers_that_cut_in_front_keep_the_end_too():
    chat = templated(RERANKER)
    chat.tokenizer.truncation_side = "left"
    kept = read(chat, [LONG], limit=30)[0]
    assert read(chat, [LONG])[0].endswith(kept)


def test_rows_are_cut_between_their_start_and_the_end_they_share():
    assert cut([1, 2, 3, 4, 5], None, end=[5], cuts_right=True) == [1, 2, 3, 4, 5]
    assert cut([1, 2, 3, 4, 5], 3, end=[4, 5], cuts_right=True) == [1, 4, 5]
    assert cut([1, 2, 3, 4, 5], 3, end=[9, 5], cuts_right=True) == [1, 2, 5]
    assert cut([1, 2, 3, 4, 5], 1, end=[4, 5], cuts_right=True) == [5]
    assert cut([1, 2, 3, 4, 5], 2, end=[], cuts_right=True) == [1, 2]
    assert cut([1, 2, 3, 4, 5], 2, end=[5], cuts_right=False) == [4, 5]
