"""Tiny random causal language models as rerankers: what the tests and `tools/record_decoder_rerankers.py` share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny import VOCABULARY_SIZE, tiny_checkpoint

RECORDED = Path(__file__).parent / "data" / "decoder_rerankers.json"

FAMILIES = ("qwen3", "qwen2", "llama", "mistral", "gemma", "gemma2")
MAX_LENGTH = 60
PROMPT = "Does it answer?"

# As rerankers have it: a default instruction, and what the answer follows behind the document.
RERANKER = """\
{%- set told = messages | selectattr("role", "eq", "system") | map(attribute="content") | list -%}
Judge. {{ told[0] if told else "Is it relevant?" }}
{% for message in messages if message["role"] != "system" -%}
<{{ message["role"] }}>: {{ message["content"] }}
{% endfor -%}
So it is: """

# As chat models have it, whatever the roles; the contents may come in parts.
CHAT = """\
{%- for message in messages -%}
[{{ message["role"] }}] {% for part in message["content"] %}{% if part["type"] == "text" %}{{ part["text"] }}{% endif %}\
{% endfor %}
{% endfor -%}
{%- if add_generation_prompt %}[assistant] {% endif -%}"""

TEMPLATES = {"none": None, "reranker": RERANKER, "chat": CHAT}
SETTINGS = {"none": {}, "reranker": {}, "chat": {"add_generation_prompt": True}}
"""Arguments of `apply_chat_template` that each is used with."""

SETTINGS_FILES = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_LogitScore/config.json",
)
"""What a saved reranker has beside the files of transformers."""


def tiny_decoder(
    family: str, folder: str | Path, template: str = "none", *, seed: int = 0, **settings: Any
) -> Path:
    """Save a tiny causal language model with random weights, whose tokenizer knows "yes" and "no".

    Args:
        family: A decoder among `tiny.FAMILIES`.
        folder: Where to save it; made when missing.
        template: A key of `TEMPLATES`.
        seed: Of the random weights.
        **settings: Arguments of the configuration.
    """
    import torch
    import transformers

    folder = tiny_checkpoint(family, folder)
    config = transformers.AutoConfig.from_pretrained(folder, vocab_size=VOCABULARY_SIZE + 8, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformers.AutoModelForCausalLM.from_config(config).eval().save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["yes", "no"])
    tokenizer.save_pretrained(folder)
    if TEMPLATES[template] is not None:
        path = folder / "tokenizer_config.json"
        saved = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**saved, "chat_template": TEMPLATES[template]}), encoding="utf-8")
    return folder
