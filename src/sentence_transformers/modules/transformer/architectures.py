"""What has to be known about transformer architectures, as tables.

Which class loads a task, which architectures compute packed rows exactly as padded ones, and where their
positions start. Nothing here loads or runs a model.
"""

from __future__ import annotations

from typing import Any

TASK_CLASSES: dict[str, str] = {
    "feature-extraction": "AutoModel",
    "sequence-classification": "AutoModelForSequenceClassification",
    "fill-mask": "AutoModelForMaskedLM",
    "text-generation": "AutoModelForCausalLM",
    "any-to-any": "AutoModelForMultimodalLM",
}
"""The transformers class that loads a checkpoint for a task."""

TASK_OUTPUTS: dict[str, str] = {"sequence-classification": "scores", "text-generation": "causal_logits"}
"""Name of the entry a task's result is stored under, where it is not `token_embeddings`."""

METHOD_OUTPUTS: dict[str, str] = {"sequence-classification": "logits", "text-generation": "logits"}
"""What transformers calls a task's result, where it is not `last_hidden_state`."""

ENCODERS_OF_PAIRS: dict[str, str] = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
}
"""Encoder-decoder architectures of which only the encoder embeds, and the class that loads it."""

POSITIONS_AFTER_PADDING = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "mpnet"}
)
"""Architectures whose first position is the one after the padding token's number."""

PACKABLE = frozenset(
    {
        "albert",
        "bert",
        "distilbert",
        "electra",
        "gemma3_text",
        "llama",
        "mistral",
        "modernbert",
        "nomic_bert",
        "qwen2",
        "qwen3",
    }
    | (POSITIONS_AFTER_PADDING - {"mpnet"})
)
"""Architectures whose transformers forward computes packed rows exactly as padded ones; each is in the
packed-equals-padded tests. Not among them: those that add a bias for relative positions (MPNet, T5, DeBERTa)."""


def position_offset(config: Any) -> int:
    """Number of the first position in a row."""
    if config.model_type in POSITIONS_AFTER_PADDING:
        return config.pad_token_id + 1
    return 0


def embedding_width(config: Any) -> int:
    """Width of the token embeddings a model with this configuration gives."""
    for name in ("hidden_size", "d_model", "dim", "n_embd", "word_embed_proj_dim", "projection_dim"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    for inner in ("text_config", "vision_config"):
        if getattr(config, inner, None) is not None:
            return embedding_width(getattr(config, inner))
    raise ValueError(
        f"The configuration of a {config.model_type!r} model does not say how wide its embeddings are."
    )
