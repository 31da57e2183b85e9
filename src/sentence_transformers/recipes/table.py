"""The recipes there are. To add one, write its module and add its line; the command line follows.

A recipe is a module with a dataclass `Config` (see `config.py`), whose fields are its options, and a function
`run(config) -> Report`. The first line of `run`'s docstring is what the command line says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

RECIPES: Mapping[str, str] = {
    "quantization": "sentence_transformers.recipes.quantization",
    "pca": "sentence_transformers.recipes.pca",
    "distillation": "sentence_transformers.recipes.distillation",
    "query-generator": "sentence_transformers.recipes.query_generator",
    "genq": "sentence_transformers.recipes.genq",
    "gpl": "sentence_transformers.recipes.gpl",
    "layer-reduction": "sentence_transformers.recipes.layer_reduction",
    "matryoshka": "sentence_transformers.recipes.matryoshka",
    "hyperparameter-search": "sentence_transformers.recipes.hyperparameter_search",
    "augmented-sbert": "sentence_transformers.recipes.augmented_sbert",
    "prompts": "sentence_transformers.recipes.prompts",
    "peft": "sentence_transformers.recipes.peft",
    "finetune": "sentence_transformers.recipes.finetune",
    "multilingual": "sentence_transformers.recipes.multilingual",
    "ct": "sentence_transformers.recipes.ct",
    "mlm": "sentence_transformers.recipes.mlm",
    "simcse": "sentence_transformers.recipes.simcse",
    "tsdae": "sentence_transformers.recipes.tsdae",
}
"""Where each recipe stands, by its name."""


def recipe(name: str) -> ModuleType:
    """The module of a recipe.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"There is no recipe {name!r}. There are: {', '.join(RECIPES)}.")
    return import_module(RECIPES[name])
