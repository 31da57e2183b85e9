"""One library's part in the comparison of saved models: builds, saves, loads and encodes.

Runs in the environment of that library, takes the same kind of commands as `worker.py`, and uses only what
all releases have. `COMBINATIONS` is the list of models.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEXTS = [
    "What are the symptoms of gout?",
    "Gout",
    "Pain, swelling and redness in the big toe that often start at night.",
    "Drink water so that no new stones form in the kidneys, and ask the doctor which foods hold much oxalate.",
    "What are the symptoms of gout?",
    "The heart pumps blood through the body. High blood pressure makes it work harder than it should.",
]
WORDS = sorted({word.strip(".,?").lower() for text in TEXTS for word in text.split()})
WIDTH = 32  # of the tiny checkpoints

Modules = list[Any]


def with_pooling(*modes: str, family: str = "bert", **options: Any) -> Callable[[dict[str, str]], Modules]:
    """A tiny transformer of this family and a pooling with these modes."""

    def build(base: dict[str, str]) -> Modules:
        from sentence_transformers import models

        flags = dict.fromkeys(("pooling_mode_mean_tokens", *(f"pooling_mode_{mode}" for mode in modes)), True)
        flags["pooling_mode_mean_tokens"] = "mean_tokens" in modes
        return [models.Transformer(base[family]), models.Pooling(WIDTH, **flags, **options)]

    return build


def minilm(base: dict[str, str]) -> Modules:
    """The real model's transformer, with pooling and normalisation."""
    from sentence_transformers import models

    return [models.Transformer(base["minilm"], max_seq_length=256), models.Pooling(384), models.Normalize()]


def dense(base: dict[str, str]) -> Modules:
    """Dense layers with and without bias, the second with another activation, then normalisation."""
    import torch

    from sentence_transformers import models

    return [
        *with_pooling("mean_tokens")(base),
        models.Dense(WIDTH, 48),
        models.Dense(48, 16, bias=False, activation_function=torch.nn.Identity()),
        models.Normalize(),
    ]


def layer_norm(base: dict[str, str]) -> Modules:
    from sentence_transformers import models

    return [*with_pooling("mean_tokens")(base), models.LayerNorm(WIDTH), models.Dropout(0.1)]


def lower_cased(base: dict[str, str]) -> Modules:
    """A transformer with a length limit and lower-casing of its own."""
    from sentence_transformers import models

    return [models.Transformer(base["bert"], max_seq_length=12, do_lower_case=True), models.Pooling(WIDTH)]


def weighted_layers(base: dict[str, str]) -> Modules:
    import torch

    from sentence_transformers import models

    transformer = models.Transformer(base["bert"], config_args={"output_hidden_states": True})
    layers = models.WeightedLayerPooling(WIDTH, num_hidden_layers=2, layer_start=1)
    with torch.no_grad():
        layers.layer_weights.copy_(torch.tensor([1.0, 3.0]))
    return [transformer, layers, models.Pooling(WIDTH)]


def static_embedding(base: dict[str, str]) -> Modules:
    from tokenizers import Tokenizer

    from sentence_transformers import models

    tokenizer = Tokenizer.from_file(str(Path(base["bert"]) / "tokenizer.json"))
    return [models.StaticEmbedding(tokenizer, embedding_dim=24)]


def bag_of_words(base: dict[str, str]) -> Modules:
    from sentence_transformers import models

    weights = {word: 1.0 + len(word) / 10 for word in WORDS[::2]}
    return [models.BoW(vocab=WORDS, word_weights=weights), models.Dense(len(WORDS), 16)]


def word_embeddings() -> Any:
    import torch
    from sentence_transformers.models.tokenizer import WhitespaceTokenizer

    from sentence_transformers import models

    vectors = torch.randn(len(WORDS) + 1, 20, generator=torch.Generator().manual_seed(3))
    vectors[0] = 0
    tokenizer = WhitespaceTokenizer(["PADDING_TOKEN", *WORDS], stop_words=["the", "and"], do_lower_case=True)
    return models.WordEmbeddings(tokenizer, vectors.numpy())


def average_of_words(base: dict[str, str]) -> Modules:
    from sentence_transformers import models

    weights = {word: 1.0 / (1 + number) for number, word in enumerate(WORDS)}
    vocabulary = ["PADDING_TOKEN", *WORDS]
    return [word_embeddings(), models.WordWeights(vocabulary, weights, 0.5), models.Pooling(20)]


def lstm(base: dict[str, str]) -> Modules:
    from sentence_transformers import models

    return [word_embeddings(), models.LSTM(20, 12, num_layers=2), models.Pooling(24, pooling_mode="max")]


def cnn(base: dict[str, str]) -> Modules:
    from sentence_transformers import models

    return [word_embeddings(), models.CNN(20, out_channels=8, kernel_sizes=[1, 3]), models.Pooling(16)]


def clip(base: dict[str, str]) -> Modules:
    from sentence_transformers import models

    return [models.CLIPModel(base["clip"])]


def asymmetric(base: dict[str, str]) -> Modules:
    from sentence_transformers import models

    branches = {"query": [models.Dense(WIDTH, 16)], "document": [models.Dense(WIDTH, 16, bias=False)]}
    return [*with_pooling("mean_tokens")(base), models.Asym(branches)]


def router(base: dict[str, str]) -> Modules:
    """A branch for queries and another for documents, as the first module."""
    from sentence_transformers import models

    if not hasattr(models, "Router"):
        raise NotInThisRelease("Router")
    query, document = static_embedding(base), with_pooling("mean_tokens")(base)
    return [models.Router.for_query_document(query, [*document, models.Dense(WIDTH, 24)])]


class NotInThisRelease(Exception):
    """The library has no such module."""


COMBINATIONS: dict[str, Callable[[dict[str, str]], Modules]] = {
    "all-MiniLM-L6-v2: Transformer + Pooling + Normalize": minilm,
    "Transformer + Pooling (mean)": with_pooling("mean_tokens"),
    "Transformer + Pooling (cls)": with_pooling("cls_token"),
    "Transformer + Pooling (max)": with_pooling("max_tokens"),
    "Transformer + Pooling (mean_sqrt_len)": with_pooling("mean_sqrt_len_tokens"),
    "Transformer + Pooling (weightedmean)": with_pooling("weightedmean_tokens"),
    "Transformer + Pooling (lasttoken)": with_pooling("lasttoken"),
    "Transformer + Pooling (cls, max, mean)": with_pooling("cls_token", "max_tokens", "mean_tokens"),
    "Transformer + Pooling (prompt left out)": with_pooling("mean_tokens", include_prompt=False),
    "Transformer (lower-cased, 12 tokens) + Pooling": lower_cased,
    "Transformer (roberta) + Pooling": with_pooling("mean_tokens", family="roberta"),
    "Transformer (xlm-roberta) + Pooling": with_pooling("cls_token", family="xlm-roberta"),
    "Transformer (mpnet) + Pooling": with_pooling("mean_tokens", family="mpnet"),
    "Transformer (distilbert) + Pooling": with_pooling("mean_tokens", family="distilbert"),
    "Transformer (electra) + Pooling": with_pooling("mean_tokens", family="electra"),
    "Transformer (albert) + Pooling": with_pooling("mean_tokens", family="albert"),
    "Transformer (modernbert) + Pooling": with_pooling("mean_tokens", family="modernbert"),
    "Transformer (deberta-v2) + Pooling": with_pooling("mean_tokens", family="deberta-v2"),
    "Transformer (t5) + Pooling": with_pooling("mean_tokens", family="t5"),
    "Transformer (qwen3) + Pooling (lasttoken)": with_pooling("lasttoken", family="qwen3"),
    "Transformer + Pooling + 2 Dense + Normalize": dense,
    "Transformer + Pooling + LayerNorm + Dropout": layer_norm,
    "Transformer + WeightedLayerPooling + Pooling": weighted_layers,
    "StaticEmbedding": static_embedding,
    "BoW + Dense": bag_of_words,
    "WordEmbeddings + WordWeights + Pooling": average_of_words,
    "WordEmbeddings + LSTM + Pooling": lstm,
    "WordEmbeddings + CNN + Pooling": cnn,
    "CLIPModel": clip,
    "Transformer + Pooling + Asym": asymmetric,
    "Router": router,
}

PROMPTS = {"query": "query: ", "document": "passage: "}


def names() -> dict[str, Any]:
    """The combinations."""
    return {"names": list(COMBINATIONS)}


def save(name: str, base: dict[str, str], folder: str) -> dict[str, Any]:
    """Build a model, save it, and tell what it gives."""
    import torch

    from sentence_transformers import SentenceTransformer

    torch.manual_seed(11)
    try:
        modules = COMBINATIONS[name](base)
    except NotInThisRelease:
        return {"absent": True}
    model = SentenceTransformer(modules=modules, device="cpu", prompts=PROMPTS, similarity_fn_name="dot")
    model.save(folder)
    return described(model)


def load(folder: str) -> dict[str, Any]:
    """Load a saved model and tell what it gives."""
    from sentence_transformers import SentenceTransformer

    return described(SentenceTransformer(folder, device="cpu"))


def save_pickled(base: dict[str, str], folder: str) -> dict[str, Any]:
    """Save a model with weights in PyTorch's own format, as releases before 2024 did."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(modules=dense(base), device="cpu", prompts=PROMPTS, similarity_fn_name="dot")
    model.save(folder, safe_serialization=False)
    return described(model)


def described(model: Any) -> dict[str, Any]:
    """A model's vectors, digests of its weights, and its settings."""
    model.eval()
    prompts = {name: text for name, text in model.prompts.items() if text}
    return {
        "vectors": {how: vectors.astype(float).tolist() for how, vectors in encoded(model).items()},
        "weights": sorted(digest(parameter) for parameter in model.parameters()),
        "settings": {
            "prompts": prompts,
            "default_prompt_name": model.default_prompt_name,
            "similarity_fn_name": str(model.similarity_fn_name),
            # A bag of words has no limit, and the older release no such attribute then.
            "max_seq_length": getattr(model, "max_seq_length", None),
            "dimension": model.get_sentence_embedding_dimension(),
        },
    }


def encoded(model: Any) -> dict[str, Any]:
    """Vectors of the texts, in each way that the model offers."""
    kinds = {type(module).__name__ for module in model.modules()}
    asked = {"show_progress_bar": False}
    if "Router" in kinds and hasattr(model, "encode_query"):
        # An Asym of the older release is a Router to the newer ones.
        return {
            "query": model.encode_query(TEXTS, prompt="", **asked),
            "document": model.encode_document(TEXTS, prompt="", **asked),
        }
    if "Asym" in kinds:
        return {
            branch: model.encode([{branch: text} for text in TEXTS], **asked)
            for branch in ("query", "document")
        }
    ways = {"plain": model.encode(TEXTS, **asked)}
    if "Transformer" in kinds:
        # Without tokens of its own a row has no maximum over words; a transformer's has its special tokens.
        ways["an empty text"] = model.encode([""], **asked)
    if "CLIPModel" not in kinds:
        ways["with a prompt"] = model.encode(TEXTS, prompt_name="query", **asked)
    return ways


def digest(parameter: Any) -> str:
    """A parameter's shape, type and bits."""
    values = parameter.detach().contiguous().numpy()
    return f"{tuple(values.shape)} {values.dtype} {hashlib.sha256(values.tobytes()).hexdigest()}"


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "names": names,
    "save": save,
    "save_pickled": save_pickled,
    "load": load,
}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = COMMANDS[command.pop("do")](**command)
        except Exception as error:  # One model that fails is a finding; the others are compared all the same.
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
