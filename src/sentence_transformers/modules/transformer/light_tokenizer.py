"""A tokenizer opened without transformers.

Tokenising needs only `tokenizer.json`; what else rows need (which token pads, on which side, how long a
text may be) stands in two small files. `LightTokenizer` reads them, and `grown` gives the transformers
tokenizer as soon as anybody asks for it. Only tokenizers for which the files leave nothing to
transformers' own defaults are opened this way.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from sentence_transformers.storage.folder import read_json, write_text

BERT_TOKENIZERS = ("BertTokenizer", "BertTokenizerFast")
"""Tokenizer classes whose every setting can be compared with what `tokenizer.json` does."""

KEPT_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
    "vocab.txt",
)
"""Files that transformers reads beside `tokenizer.json`; they are kept, since the folder may go."""

UNLIMITED = int(1e30)


class LightTokenizer:
    """What rows need of a tokenizer.

    Args:
        folder: Holds the tokenizer's files.
        config: Contents of `tokenizer_config.json`.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self.name_or_path = str(folder)
        try:
            self.backend_tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the tokenizers library raises no other kind
            raise ValueError(
                f"{folder / 'tokenizer.json'} is damaged or incomplete ({error}). Save or download the model again."
            ) from error
        self.files = {
            name: (folder / name).read_text(encoding="utf-8")
            for name in KEPT_FILES
            if (folder / name).is_file()
        }
        self.model_max_length = config.get("model_max_length") or UNLIMITED
        self.padding_side = config.get("padding_side", "right")
        self.truncation_side = config.get("truncation_side", "right")
        self.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
        self.pad_token_type_id = 0
        self.eos_token_id = None
        names = [text_of(config.get(f"{kind}_token")) for kind in ("unk", "sep", "pad", "cls", "mask")]
        ids = [self.backend_tokenizer.token_to_id(name) for name in names if name is not None]
        self.all_special_ids = [number for number in ids if number is not None]
        self.pad_token_id = self.backend_tokenizer.token_to_id(text_of(config.get("pad_token")))


def text_of(token: Any) -> str:
    """A token's text, whether it is saved as text or with its settings."""
    return token["content"] if isinstance(token, dict) else str(token)


def open_light(folder: Path) -> LightTokenizer | None:
    """Open a tokenizer without transformers; None if anything about it calls for transformers."""
    if not (folder / "tokenizer.json").is_file() or not (folder / "tokenizer_config.json").is_file():
        return None
    config = read_json(folder / "tokenizer_config.json")
    if config.get("tokenizer_class") not in BERT_TOKENIZERS or config.get("auto_map"):
        return None
    if config.get("chat_template") or (folder / "chat_template.jinja").is_file():
        return None
    if any(config.get(f"{kind}_token") is None for kind in ("unk", "sep", "pad", "cls", "mask")):
        return None
    light = LightTokenizer(folder, config)
    return light if light.pad_token_id is not None and does_as_configured(light, config) else None


def does_as_configured(light: LightTokenizer, config: dict[str, Any]) -> bool:
    """Whether `tokenizer.json` does what `tokenizer_config.json` says, so that no reader has to choose."""
    normalizer = json.loads(light.backend_tokenizer.to_str())["normalizer"]
    return (
        isinstance(normalizer, dict)
        and normalizer.get("type") == "BertNormalizer"
        and normalizer["lowercase"] == config.get("do_lower_case", True)
        and normalizer["strip_accents"] == config.get("strip_accents")
        and normalizer["handle_chinese_chars"] == config.get("tokenize_chinese_chars", True)
        and text_of(config["pad_token"]) == "[PAD]"
    )


def grown(light: LightTokenizer) -> Any:
    """The transformers tokenizer a light one stands for."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        for name, text in light.files.items():
            write_text(Path(folder) / name, text)
        light.backend_tokenizer.save(str(Path(folder) / "tokenizer.json"))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.name_or_path = light.name_or_path
    tokenizer.padding_side = light.padding_side
    return tokenizer
