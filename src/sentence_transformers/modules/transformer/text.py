"""Text into rows of token ids, and rows into tensors.

The tokenizer that users see is never changed by an encode: a private copy, truncating and without padding,
does the work, so that any number of threads may tokenise at once. Padding happens here, on ids. Texts far
longer than the model can read are cut to a prefix first, and the cut is checked to make no difference.
Nothing here runs a model.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import torch

from sentence_transformers.inputs.packing import ROW_LENGTHS, PackedLayout
from sentence_transformers.inputs.rows import TokenRows
from sentence_transformers.modules.transformer.pairs import PairTemplate, template_of

CHARACTERS_PER_TOKEN = 16
"""A prefix of this many characters for each token that can be read is nearly always enough."""

SPARE_TOKENS = 16
"""Tokens a prefix must have beyond the limit: the last ones may have come out differently for the cut."""

UNLIMITED = 1_000_000
"""A tokenizer without a limit of its own states an astronomical one."""


class TextTokenizer:
    """Makes rows from texts and pairs, for any number of threads at once.

    Args:
        tokenizer: The tokenizer of transformers that users see; read, never changed.
        max_length: Tokens to keep of each input, special tokens included; None for the tokenizer's limit.
        lowercase: Whether to lower-case texts first.
    """

    def __init__(self, tokenizer: Any, *, max_length: int | None, lowercase: bool = False) -> None:
        self.tokenizer = tokenizer
        self.lowercase = lowercase
        limit = tokenizer.model_max_length if max_length is None else max_length
        self.max_length: int | None = limit if limit < UNLIMITED else None
        self.wants_type_ids = "token_type_ids" in tokenizer.model_input_names
        self._lock = threading.Lock()
        self._counter: Any = None
        self._pair_template: PairTemplate | None = None
        self._joins_pairs: bool | None = None  # unknown until the first pair comes
        self._backend = self._private_backend()
        self.fingerprint = fingerprint(tokenizer, max_length, lowercase)

    def rows(self, inputs: Sequence[Any]) -> TokenRows:
        """Tokenise texts, and pairs of texts given as two-element sequences.

        White space is kept: to many tokenizers a space in front of a word makes it another word.

        Raises:
            ValueError: If an input is neither.
        """
        cleaned: list[Any] = [self._clean(item) for item in inputs]
        are_pairs = any(isinstance(item, tuple) for item in cleaned)
        if self._backend is None:
            return self._rows_of_python_tokenizer(cleaned, are_pairs)
        if are_pairs and all(isinstance(item, tuple) for item in cleaned) and self._pair_template_if_any():
            return self._join_pairs(cleaned)
        encodings = self._backend.encode_batch_fast(cleaned) if are_pairs else self._encode_texts(cleaned)
        type_ids = (
            [encoding.type_ids for encoding in encodings] if are_pairs and self.wants_type_ids else None
        )
        return TokenRows(ids=[encoding.ids for encoding in encodings], type_ids=type_ids)

    def whole_ids(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Token ids of texts that a chat template has written: not cut, as they are, and without special tokens."""
        if self._backend is None:
            with self._lock:
                return self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)[
                    "input_ids"
                ]
        encodings = self._unlimited_backend().encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def count(self, text: str) -> int:
        """Tokens of a text alone, special tokens included."""
        return len(self.rows([text]).ids[0])

    def ends_with_special_token(self) -> bool:
        """Whether the tokenizer closes a text with a special token."""
        ids = self.rows(["a"]).ids[0]
        return bool(ids) and ids[-1] in self.tokenizer.all_special_ids

    def _clean(self, item: Any) -> str | tuple[str, str]:
        if isinstance(item, str):
            return without_surrogates(item.lower() if self.lowercase else item)
        if is_pair(item):
            first, second = map(self._clean, item)
            return first, second  # type: ignore[return-value]
        raise ValueError(
            f"Cannot tokenise {item!r} of type {type(item).__name__}: unsupported input type. "
            "Pass a string, or a pair of two strings."
        )

    def _pair_template_if_any(self) -> PairTemplate | None:
        """How pairs are joined from their texts; None when only the tokenizer itself can tell."""
        if self._joins_pairs is None:
            with self._lock:
                self._pair_template = template_of(
                    self._backend, max_length=self.max_length, cuts_right=self.cuts_right
                )
                self._joins_pairs = self._pair_template is not None
        return self._pair_template

    def _join_pairs(self, pairs: list[tuple[str, str]]) -> TokenRows:
        """Tokenise pairs, reading each distinct text once."""
        template = self._pair_template
        assert template is not None
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        encodings = self._encode_texts(texts, special_tokens=False)
        ids_of = {text: encoding.ids for text, encoding in zip(texts, encodings)}
        ids: list[Sequence[int]] = []
        kinds: list[Sequence[int]] = []
        for first, second in pairs:
            halves = template.cut(ids_of[first], ids_of[second])
            if halves is None:
                whole = self._backend.encode(first, second)
                ids.append(whole.ids)
                kinds.append(whole.type_ids)
                continue
            ids.append(template.ids(*halves))
            if self.wants_type_ids:
                kinds.append(template.kinds(*halves))
        return TokenRows(ids=ids, type_ids=kinds if self.wants_type_ids else None)

    @property
    def cuts_right(self) -> bool:
        """Whether texts are cut at their end."""
        if self._backend is None:
            return bool(self.tokenizer.truncation_side == "right")
        truncation = self._backend.truncation
        return truncation is None or truncation["direction"] == "right"

    def _encode_texts(self, texts: list[str], *, special_tokens: bool = True) -> list[Any]:
        """Tokenise texts, looking only at a prefix of those far too long to be read whole."""
        limit = self.max_length or 0
        reach = CHARACTERS_PER_TOKEN * (limit + SPARE_TOKENS)
        if self.max_length is not None and self.cuts_right:
            long = [number for number, text in enumerate(texts) if len(text) > 2 * reach]
            if long:
                texts = list(texts)
                for number in long:
                    texts[number] = self._safe_prefix(texts[number], reach)
        return self._backend.encode_batch_fast(texts, add_special_tokens=special_tokens)

    def _safe_prefix(self, text: str, reach: int) -> str:
        """A prefix that has the same leading tokens as the whole text, up to the limit.

        The prefix ends before white space, where pre-tokenizers split. Its tokens are counted without a
        limit; too few, and a longer prefix is tried. Text without white space is never cut.
        """
        if self._backend.pre_tokenizer is None:
            return text
        counter = self._unlimited_backend()
        while reach < len(text):
            cut = max(text.rfind(space, 0, reach) for space in (" ", "\n", "\t"))
            if cut > reach // 2:
                tokens = len(counter.encode(text[:cut], add_special_tokens=False).ids)
                if tokens >= (self.max_length or 0) + SPARE_TOKENS:
                    return text[:cut]
            reach *= 4
        return text

    def _unlimited_backend(self) -> Any:
        """A copy of the private backend that does not truncate; made when first needed."""
        if self._counter is None:
            counter = copy.deepcopy(self._backend)
            counter.no_truncation()
            self._counter = counter
        return self._counter

    def _private_backend(self) -> Any:
        """A copy of the tokenizer's Rust half that truncates and does not pad; None if there is none."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None or not hasattr(backend, "encode_batch_fast"):
            return None
        private = copy.deepcopy(backend)
        private.no_padding()
        private.no_truncation()
        if self.max_length is not None:
            special = private.num_special_tokens_to_add(False)
            if self.max_length <= special:
                raise ValueError(
                    f"max_seq_length={self.max_length} leaves no room for text: the tokenizer adds {special} special "
                    "tokens to every input. Set it higher."
                )
            private.enable_truncation(
                self.max_length, strategy="longest_first", direction=self.tokenizer.truncation_side
            )
        return private

    def _rows_of_python_tokenizer(self, inputs: list[Any], are_pairs: bool) -> TokenRows:
        columns = list(zip(*inputs)) if are_pairs and inputs else [inputs]
        # Tokenizers written in Python keep state while they work.
        with self._lock:
            encoded = self.tokenizer(
                *(list(column) for column in columns),
                truncation=self.max_length is not None,
                max_length=self.max_length,
                padding=False,
                return_attention_mask=False,
            )
        return TokenRows(
            ids=encoded["input_ids"], type_ids=encoded.get("token_type_ids") if are_pairs else None
        )


def is_pair(item: Any) -> bool:
    """Whether an input is a pair of texts."""
    return isinstance(item, (list, tuple)) and len(item) == 2 and all(isinstance(text, str) for text in item)


def fingerprint(tokenizer: Any, max_length: int | None, lowercase: bool) -> tuple[Any, ...]:
    """What a private copy depends on; a different value means that the copy is out of date."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    parts = (
        (backend.get_vocab_size(), str(backend.post_processor))
        if hasattr(backend, "encode_batch_fast")
        else ()
    )
    return (
        id(tokenizer),
        id(backend),
        max_length,
        lowercase,
        tokenizer.model_max_length,
        tokenizer.truncation_side,
        *parts,
    )


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which no tokenizer can read; two that form a character are joined."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def packed_features(rows: TokenRows, *, offset: int) -> dict[str, Any]:
    """Lay rows one after another.

    Args:
        rows: The rows of one batch.
        offset: Number of the first position in a row.

    Returns:
        `input_ids` and `position_ids` (1, T), `cu_seq_lens_q` (B + 1,) and the lengths as a list.
    """
    layout = PackedLayout.of(rows.lengths)
    features: dict[str, Any] = {
        "input_ids": torch.tensor([token for row in rows.ids for token in row], dtype=torch.long)[None],
        "position_ids": layout.positions(offset),
        "cu_seq_lens_q": layout.cumulative(),
        ROW_LENGTHS: list(layout.lengths),
    }
    if rows.type_ids is not None:
        features["token_type_ids"] = torch.tensor(
            [kind for row in rows.type_ids for kind in row], dtype=torch.long
        )[None]
    return with_extras(features, rows)


def padded_features(rows: TokenRows, tokenizer: Any, *, pad_to: int | None = None) -> dict[str, Any]:
    """Pad rows to the longest of them, on the side the tokenizer pads.

    Args:
        rows: The rows of one batch.
        tokenizer: Says with what and on which side to pad, and whether the model reads token types.
        pad_to: Length to reach at least; None for that of the longest row.

    Returns:
        `input_ids`, `attention_mask` and, where the model reads them, `token_type_ids`, (B, T).
    """
    lengths = rows.lengths
    width = max([*lengths, pad_to or 1])
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = tokenizer.eos_token_id or 0
    left = tokenizer.padding_side == "left"

    def padded(values: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
        lists = [
            [filler] * (width - len(row)) + list(row) if left else list(row) + [filler] * (width - len(row))
            for row in values
        ]
        return torch.tensor(lists, dtype=torch.long).reshape(len(lists), width)

    features: dict[str, Any] = {"input_ids": padded(rows.ids, pad)}
    if "token_type_ids" in tokenizer.model_input_names:
        kinds = rows.type_ids if rows.type_ids is not None else [[0] * length for length in lengths]
        features["token_type_ids"] = padded(kinds, getattr(tokenizer, "pad_token_type_id", 0) or 0)
    features["attention_mask"] = padded([[1] * length for length in lengths], 0)
    return with_extras(features, rows)


def with_extras(features: dict[str, Any], rows: TokenRows) -> dict[str, Any]:
    features.update(rows.extras)
    if rows.prompt_length is not None:
        features["prompt_length"] = rows.prompt_length
    return features
