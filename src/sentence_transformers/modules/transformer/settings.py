"""The transformer's own settings file in a model folder.

Releases up to 5.3 keep the maximum length and the lower-casing there; 6.x keeps the task and what each
modality needs there, and the rest with the tokenizer. Both are read; what is written is the older form
wherever it says everything, because every release reads that. Nothing here loads a model.
"""

from __future__ import annotations

from typing import Any

from sentence_transformers.storage import hub
from sentence_transformers.storage.folder import read_json

FILE_NAMES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""Names the file had over time, the current one first."""

OLDER_KEYS = {
    "model_args": "model_kwargs",
    "tokenizer_args": "processor_kwargs",
    "config_args": "config_kwargs",
}

KNOWN_KEYS = frozenset(
    {
        "max_seq_length",
        "do_lower_case",
        "transformer_task",
        "modality_config",
        "module_output_name",
        "processing_kwargs",
        "unpad_inputs",
        "query_length",
        "document_length",
        "query_expansion",
        "model_kwargs",
        "processor_kwargs",
        "config_kwargs",
    }
)


def read_settings(where: dict[str, Any]) -> dict[str, Any]:
    """Read the settings file of a model, under whichever name it has; empty when there is none.

    `trust_remote_code` in a file is dropped: only the caller can give that trust.
    """
    for name in FILE_NAMES:
        path = hub.load_file_path(filename=name, **where)
        if path is None:
            continue
        saved = read_json(path)
        if not isinstance(saved, dict):
            raise ValueError(
                f"{path} holds no settings but {type(saved).__name__}. Is the model folder damaged?"
            )
        settings = {OLDER_KEYS.get(key, key): value for key, value in saved.items()}
        for key in OLDER_KEYS.values():
            if isinstance(settings.get(key), dict):
                settings[key].pop("trust_remote_code", None)
        return {key: value for key, value in settings.items() if key in KNOWN_KEYS}
    return {}
