"""Names of module types in saved models, and the classes they stand for.

`modules.json` says of every part what it is, by the import path its class had in the release that saved
the model. The table below knows every such path, past and present; it is also the allow-list: a type that
is not in it is refused unless the caller trusts the model's code.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

ROOM = "sentence_transformers.modules"

HOMES: dict[str, str] = {
    "Transformer": f"{ROOM}.transformer.module",
    "CLIPModel": f"{ROOM}.clip_model",
    "Pooling": f"{ROOM}.pooling",
    "Dense": f"{ROOM}.dense",
    "Normalize": f"{ROOM}.normalize",
    "Router": f"{ROOM}.router",
    "Asym": f"{ROOM}.router",
    "StaticEmbedding": f"{ROOM}.static_embedding",
    "WeightedLayerPooling": f"{ROOM}.weighted_layer_pooling",
    "LayerNorm": f"{ROOM}.layer_norm",
    "Dropout": f"{ROOM}.dropout",
    "BoW": f"{ROOM}.classic.bow",
    "CNN": f"{ROOM}.classic.cnn",
    "LSTM": f"{ROOM}.classic.lstm",
    "WordEmbeddings": f"{ROOM}.classic.word_embeddings",
    "WordWeights": f"{ROOM}.classic.word_weights",
    "WhitespaceTokenizer": f"{ROOM}.classic.tokenizers",
    "PhraseTokenizer": f"{ROOM}.classic.tokenizers",
    "TransformersTokenizerWrapper": f"{ROOM}.classic.tokenizers",
    "LogitScore": "sentence_transformers.cross_encoder.logit_score",
}
"""Where each class lives now."""

FILES: dict[str, str] = {
    "Transformer": "base.modules.transformer",
    "Dense": "base.modules.dense",
    "Normalize": "base.modules.normalize",
    "Router": "base.modules.router",
    "Asym": "base.modules.router",
    "Pooling": "sentence_transformer.modules.pooling",
    "StaticEmbedding": "sentence_transformer.modules.static_embedding",
    "WordEmbeddings": "sentence_transformer.modules.word_embeddings",
    "WordWeights": "sentence_transformer.modules.word_weights",
    "BoW": "sentence_transformer.modules.bow",
    "CNN": "sentence_transformer.modules.cnn",
    "LSTM": "sentence_transformer.modules.lstm",
    "LayerNorm": "sentence_transformer.modules.layer_norm",
    "Dropout": "sentence_transformer.modules.dropout",
    "WeightedLayerPooling": "sentence_transformer.modules.weighted_layer_pooling",
    "CLIPModel": "sentence_transformer.modules.clip_model",
    "WhitespaceTokenizer": "sentence_transformer.modules.tokenizer.whitespace",
    "PhraseTokenizer": "sentence_transformer.modules.tokenizer.phrase",
    "TransformersTokenizerWrapper": "sentence_transformer.modules.tokenizer.word",
    "LogitScore": "cross_encoder.modules.logit_score",
}
"""The file each class stands in at 6.2.0, below `sentence_transformers.`."""

NEWER = ("LogitScore",)
"""Classes that releases up to 5.3 do not know; they have the paths of 6.2.0 only."""

CODE_OF_MODELS = "transformers_modules."
"""Where transformers puts the modules of code that came with a model."""

TOKENIZERS = ("WhitespaceTokenizer", "PhraseTokenizer", "TransformersTokenizerWrapper", "WordTokenizer")


def _spellings() -> dict[str, tuple[str, str]]:
    """Every import path a class had, with its home: (module, attribute)."""
    table: dict[str, tuple[str, str]] = {}
    for name, home in HOMES.items():
        room = "models.tokenizer" if name in TOKENIZERS else "models"
        paths = [] if name in NEWER else [f"{room}.{name}", f"{room}.{name}.{name}"]
        if name in FILES:
            file = FILES[name]
            package = file.rsplit(".", 1)[0]
            paths += [f"{file}.{name}", f"{package}.{name}"]
            if package == "base.modules":
                kinds = ("sentence_transformer", "sparse_encoder", "cross_encoder", "multi_vector_encoder")
                paths += [f"{kind}.modules.{name}" for kind in kinds]
                paths += [f"sparse_encoder.models.{name}"]
        table.update({f"sentence_transformers.{path}": (home, name) for path in paths})
        table[f"{home}.{name}"] = (home, name)
    return table


SPELLINGS: dict[str, tuple[str, str]] = _spellings()
"""Every type string that is understood, and where its class lives."""


def saved_type(part: nn.Module) -> str:
    """The type string to save for a part: the one that every release reads, or the class's own path."""
    kind = type(part)
    own = f"{kind.__module__}.{kind.__qualname__}"
    if own in SPELLINGS:
        name = getattr(part, "saved_class_name", SPELLINGS[own][1])
        if name in NEWER:
            return f"sentence_transformers.{FILES[name]}.{name}"
        room = (
            "sentence_transformers.models.tokenizer" if name in TOKENIZERS else "sentence_transformers.models"
        )
        return f"{room}.{name}"
    if own.startswith(CODE_OF_MODELS):
        # The file goes with the model, and is found there under its own name.
        return f"{kind.__module__.rpartition('.')[2]}.{kind.__qualname__}"
    return own


def class_of(
    type_name: str, *, folder: str | Path | None = None, trust_remote_code: bool = False
) -> type[Any]:
    """The class a saved type string stands for.

    A type outside the table is accepted if its module has already been imported by the caller (their own
    module, then), or if the caller trusts the model's code; then it may also be a file of the model folder.

    Raises:
        ValueError: If the type is unknown and not trusted.
    """
    if not isinstance(type_name, str):
        raise ValueError(f"The model names a part of type {type_name!r}, which is no name of a class.")
    if type_name in SPELLINGS:
        home, name = SPELLINGS[type_name]
        return getattr(importlib.import_module(home), name)
    module_name, _, name = type_name.rpartition(".")
    loaded = sys.modules.get(module_name)
    if loaded is not None and not module_name.startswith(("torch.", CODE_OF_MODELS)):
        # Not at the top: `compat/moved.py` reads the tables of this file when the package is imported.
        from torch import nn

        found = getattr(loaded, name, None)
        if isinstance(found, type) and issubclass(found, nn.Module) and hasattr(found, "load"):
            return found
    if not trust_remote_code:
        raise ValueError(
            f"The model names a part of type {type_name!r}, which is not one of this library's and is not imported. "
            "Loading it would run code that came with the model. If it is your own class, import its module "
            "before loading the model; if you trust the model, pass trust_remote_code=True."
        )
    if folder is not None and os.path.isfile(os.path.join(folder, f"{module_name.replace('.', '/')}.py")):
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        return get_class_from_dynamic_module(type_name, str(folder))
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"The model names a part of type {type_name!r}, which cannot be imported: {error}"
        ) from error
