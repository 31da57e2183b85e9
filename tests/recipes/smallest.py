"""The smallest run of each recipe: tiny models, a few texts. To add a recipe, add its function to `SMALLEST`.

Each function writes the files it needs into a folder (`small_files.py`, `small_models.py`) and gives the arguments of
the recipe's `Config`, all but `out`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes.small_files import (
    sentences,
    write_classed,
    write_lines,
    write_pairs,
    write_queried,
    write_retrieval_set,
    write_scored_pairs,
    write_table,
    write_translations,
)
from recipes.small_models import other_start, tiny_labeller, tiny_start, tiny_writer

COMMON = {"device": "cpu", "quiet": True, "seed": 3}
TRAINED = {**COMMON, "max_length": 16, "batch_size": 4, "save_steps": 2, "learning_rate": 1e-3}


def unlabelled(folder: Path) -> dict[str, Any]:
    return {
        **TRAINED,
        "model": tiny_start(folder),
        "texts": write_lines(folder, sentences(24)),
        "dev": write_scored_pairs(folder),
    }


def tsdae(folder: Path) -> dict[str, Any]:
    return unlabelled(folder)


def tsdae_over_and_over(folder: Path) -> dict[str, Any]:
    """Two passes, each with damage of its own."""
    return {**unlabelled(folder), "epochs": 2, "batch_size": 8}


def multilingual_contrasted(folder: Path) -> dict[str, Any]:
    return {**multilingual(folder), "contrast": 1.0, "dev": None}


def multilingual(folder: Path) -> dict[str, Any]:
    tables = [write_translations(folder, language) for language in ("de", "fr")]
    return {
        **TRAINED,
        "epochs": 1,
        "model": tiny_start(folder),
        "parallel": tables,
        "parallel_test": tables,
        "limit": 10,
        "dev": write_scored_pairs(folder),
    }


def supervised(folder: Path, data: Path) -> dict[str, Any]:
    """What recipes that learn from a table have in common."""
    return {**TRAINED, "model": tiny_start(folder), "data": data, "dev": write_scored_pairs(folder)}


def finetune_scored(folder: Path) -> dict[str, Any]:
    return {**supervised(folder, write_scored_pairs(folder)), "epochs": 2}


def finetune_pairs(folder: Path) -> dict[str, Any]:
    return {**supervised(folder, write_pairs(folder)), "mini_batch_size": 2, "keep_best": True}


def finetune_classed(folder: Path) -> dict[str, Any]:
    return {**supervised(folder, write_classed(folder)), "batch_size": 6}


def simcse(folder: Path) -> dict[str, Any]:
    return unlabelled(folder)


def ct(folder: Path) -> dict[str, Any]:
    """Two passes, each of pairs of its own."""
    return {**unlabelled(folder), "negatives": 3, "epochs": 2}


def ct_in_batch(folder: Path) -> dict[str, Any]:
    return {**unlabelled(folder), "in_batch_negatives": True}


def mlm(folder: Path) -> dict[str, Any]:
    return {**unlabelled(folder), "epochs": 2}


def matryoshka_widths(folder: Path) -> dict[str, Any]:
    return {**supervised(folder, write_pairs(folder)), "plain": True}


def matryoshka_both(folder: Path) -> dict[str, Any]:
    return {**supervised(folder, write_scored_pairs(folder)), "over": "both"}


def prompts(folder: Path) -> dict[str, Any]:
    return {
        **supervised(folder, write_pairs(folder)),
        "prompts": ["anchor=first: ", "positive=then: "],
        "include_prompt": False,
        "plain": True,
        "test": [write_retrieval_set(folder)],
    }


def peft(folder: Path) -> dict[str, Any]:
    return {**supervised(folder, write_pairs(folder)), "rank": 2, "full_learning_rate": 1e-3}


def taught(folder: Path) -> dict[str, Any]:
    """What recipes that make a model smaller have in common."""
    return {
        **TRAINED,
        "model": tiny_start(folder),
        "texts": [write_lines(folder, sentences(24)), write_pairs(folder)],
        "columns": ["anchor"],
        "limit": 24,
        "dev": write_scored_pairs(folder),
    }


def layer_reduction(folder: Path) -> dict[str, Any]:
    return {**taught(folder), "layers": [2, 1]}


def layer_reduction_anew(folder: Path) -> dict[str, Any]:
    return {
        **taught(folder),
        "keep_layers": [0],
        "reset_last": 1,
        "train": False,
        "test": [write_retrieval_set(folder)],
    }


def augmented_in_domain(folder: Path) -> dict[str, Any]:
    return {
        **supervised(folder, write_scored_pairs(folder)),
        "sampling": "both",
        "top_k": 1,
        "cross_encoder_epochs": 1,
        "plain": True,
    }


def augmented_across(folder: Path) -> dict[str, Any]:
    judged_pairs = [
        {"question1": text, "question2": text[5:], "label": number % 2}
        for number, text in enumerate(sentences(12))
    ]
    return {
        **supervised(folder, write_table(folder, "judged", judged_pairs)),
        "scenario": "cross-domain",
        "pairs": write_pairs(folder),
        "silver_limit": 12,
        "cross_encoder_epochs": 1,
    }


def hyperparameter_search(folder: Path) -> dict[str, Any]:
    asked = supervised(folder, write_scored_pairs(folder))
    return {
        **{name: value for name, value in asked.items() if name not in ("learning_rate", "batch_size")},
        "trials": 3,
        "batch_sizes": [4, 8],
        "losses": ["cosent", "cosine"],
    }


def query_generator(folder: Path) -> dict[str, Any]:
    return {
        **TRAINED,
        "model": tiny_start(folder),
        "pairs": write_queried(folder),
        "encoder_layers": 1,
        "decoder_layers": 1,
        "held_out": 6,
        "max_query_tokens": 8,
    }


def genq(folder: Path) -> dict[str, Any]:
    retrieval = write_retrieval_set(folder, documents=20)
    return {
        **TRAINED,
        "model": tiny_start(folder),
        "corpus": retrieval,
        "generator": tiny_writer(folder),
        "queries_per_passage": 2,
        "max_query_tokens": 6,
        "passage_tokens": 16,
        "generation_batch": 2,
        "dev": retrieval,
    }


def gpl(folder: Path) -> dict[str, Any]:
    return {
        **genq(folder),
        "queries_per_passage": 1,
        "cross_encoder": tiny_labeller(folder),
        "retrievers": [tiny_start(folder), other_start(folder)],
        "negatives_per_retriever": 3,
    }


def distillation(folder: Path) -> dict[str, Any]:
    """A narrower student, which is given the width of its teacher."""
    return {**taught(folder), "new_layers": 1, "new_width": 16}


def distillation_projected(folder: Path) -> dict[str, Any]:
    """The same, where the teacher's vectors are given the width of the student."""
    return {**taught(folder), "new_width": 16, "match": "pca", "loss": "cosine"}


def pca(folder: Path) -> dict[str, Any]:
    return {
        **COMMON,
        "model": tiny_start(folder),
        "texts": [write_lines(folder, sentences(40))],
        "width": [8, 4],
        "dev": write_scored_pairs(folder),
        "test": [write_retrieval_set(folder)],
    }


def adjusted_pca(folder: Path) -> dict[str, Any]:
    pairs = {"pairs": [write_scored_pairs(folder)], "pair_columns": ["sentence1", "sentence2"]}
    return {**pca(folder), **pairs, "adjust": 3}


def quantization(folder: Path) -> dict[str, Any]:
    return {
        **COMMON,
        "model": tiny_start(folder),
        "data": write_retrieval_set(folder),
        "precision": ["int8", "binary", "ubinary"],
    }


def quantization_weights(folder: Path) -> dict[str, Any]:
    return {**quantization(folder), "weights": "avx2", "precision": ["int8"]}


SMALLEST: dict[str, Callable[[Path], dict[str, Any]]] = {
    "distillation": distillation,
    "distillation projected": distillation_projected,
    "pca": pca,
    "pca adjusted": adjusted_pca,
    "quantization": quantization,
    "quantization weights": quantization_weights,
    "query-generator": query_generator,
    "genq": genq,
    "gpl": gpl,
    "augmented-sbert in domain": augmented_in_domain,
    "augmented-sbert across": augmented_across,
    "hyperparameter-search": hyperparameter_search,
    "layer-reduction": layer_reduction,
    "layer-reduction anew": layer_reduction_anew,
    "matryoshka widths": matryoshka_widths,
    "matryoshka both": matryoshka_both,
    "prompts": prompts,
    "peft": peft,
    "finetune scored": finetune_scored,
    "finetune pairs": finetune_pairs,
    "finetune classed": finetune_classed,
    "multilingual": multilingual,
    "multilingual contrasted": multilingual_contrasted,
    "ct": ct,
    "ct in batch": ct_in_batch,
    "mlm": mlm,
    "simcse": simcse,
    "tsdae": tsdae,
    "tsdae over and over": tsdae_over_and_over,
}
"""By the name of the recipe; of one recipe there may be several, with what differs behind a space."""
