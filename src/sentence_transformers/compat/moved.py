"""Every import path a public name has or had, and where the name lives.

One table. A new public name is one line in it, and so is another path for a name. The front doors
(`sentence_transformers`, `util`, `models`, ...) read their names from it, and for paths that are no
files `install` puts modules into `sys.modules`, so that imports, `importlib` and pickles of older
programs go on working. Nothing is imported before a name is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from sentence_transformers.compat.lazy_modules import LazyModule, resolve
from sentence_transformers.storage import module_types

PACKAGE = "sentence_transformers"

KINDS = ("sentence_transformer", "cross_encoder", "sparse_encoder", "multi_vector_encoder")
MODULE_ROOMS = "models base.modules " + " ".join(f"{kind}.modules" for kind in KINDS)

# Home, names in it, and the modules in which they are found ("." is the package itself).
TABLE: tuple[tuple[str, str, str], ...] = (
    # Models
    ("sentence_transformer.model", "SentenceTransformer", ". SentenceTransformer sentence_transformer"),
    ("encoder.base", "BaseModel", "base base.model"),
    ("encoder.adapters", "PeftAdapterMixin", "base base.peft_mixin peft_mixin"),
    ("encoder.adapters", "peft_wrapper", "base.peft_mixin peft_mixin"),
    ("encoder.merging", "merge_models", "base.merging"),
    ("training.fit", "FitMixin", "fit_mixin"),
    # Model cards
    (
        "model_card.sentence_transformer",
        "SentenceTransformerModelCardData",
        ". model_card sentence_transformer sentence_transformer.model_card",
    ),
    ("model_card.data", "BaseModelCardData", "model_card base.model_card"),
    ("model_card.callbacks", "BaseModelCardCallback", "model_card base.model_card"),
    (
        "model_card.callbacks",
        "ModelCardCallback SentenceTransformerModelCardCallback",
        "model_card sentence_transformer.model_card",
    ),
    ("model_card.card", "generate_model_card", "model_card base.model_card"),
    ("model_card.loss_facts", "get_losses", "model_card base.model_card"),
    ("model_card.markdown", "format_duration format_log", "model_card base.model_card"),
    ("model_card.versions", "get_versions", "model_card base.model_card"),
    # Parts of models; those that can stand in `modules.json` are in `storage/module_types.py`
    ("modules.base", "InputModule", f"{MODULE_ROOMS} base.modules.input_module"),
    ("modules.base", "Module", f"{MODULE_ROOMS} base.modules.module"),
    (
        "modules.classic.tokenizers",
        "ENGLISH_STOP_WORDS WordTokenizer",
        "models.tokenizer sentence_transformer.modules.tokenizer",
    ),
    (
        "modules.classic.tokenizers",
        "WordTokenizer",
        "models.tokenizer.WordTokenizer sentence_transformer.modules.tokenizer.word",
    ),
    # Inputs
    ("inputs.example", "InputExample", ". readers readers.InputExample sentence_transformer.readers"),
    # Similarities
    (
        "tensors.similarity",
        "SimilarityFunction",
        ". util util.similarity similarity_functions evaluation sentence_transformer.evaluation",
    ),
    (
        "tensors.similarity",
        "cos_sim dot_score euclidean_sim manhattan_sim pairwise_angle_sim pairwise_cos_sim "
        "pairwise_dot_score "
        "pairwise_euclidean_sim pairwise_manhattan_sim pytorch_cos_sim",
        "util util.similarity",
    ),
    ("tensors.late_interaction", "maxsim maxsim_pairwise", "util util.similarity multi_vector_encoder"),
    ("tensors.late_interaction", "mean_maxsim mean_maxsim_pairwise", "util util.similarity"),
    # Tensors
    ("tensors.vectors", "normalize_embeddings truncate_embeddings", "util util.tensor"),
    (
        "tensors.padding",
        "batch_to_device cat_padded_token_embeddings repad_flattened_features stack_padded_token_embeddings",
        "util util.tensor",
    ),
    ("tensors.sparse", "compute_count_vector select_max_active_dims to_scipy_coo", "util util.tensor"),
    ("tensors.precision", "quantize_embeddings", ". util util.quantization quantization"),
    (
        "tensors.distributed",
        "all_gather all_gather_padded all_gather_with_grad get_rank get_world_size",
        "util util.distributed",
    ),
    ("tensors.distributed", "is_dist_initialized", "util util.environment"),
    ("tensors.teacher_targets", "check_teacher_targets", "util util.misc"),
    # Environment
    (
        "storage.environment",
        "check_package_availability check_version_requirements get_device_name is_accelerate_available "
        "is_datasets_available is_training_available",
        "util util.environment",
    ),
    ("storage.environment", "get_installed_version suggest_extra_on_exception", "util.environment"),
    ("storage.environment", "disable_datasets_caching", "util util.misc"),
    # Files, names and logs
    ("storage.hub", "is_sentence_transformer_model load_dir_path load_file_path", "util util.file_io"),
    ("storage.hub", "ORIGINAL_TRANSFORMER_MODELS", "util"),
    ("storage.hub_arguments", "save_to_hub_args_decorator", "util"),
    ("storage.downloads", "http_get", "util util.file_io"),
    ("storage.csv_rows", "append_to_last_row", "util util.misc"),
    (
        "storage.importing",
        "fullname import_from_string import_module_class similarity_fct_name",
        "util util.misc",
    ),
    ("storage.progress_logging", "LoggingHandler", ". util util.logging LoggingHandler"),
    ("storage.progress_logging", "install_logger", "util util.logging LoggingHandler"),
    ("storage.progress_logging", "disable_logging", "util util.misc"),
    ("storage.progress_logging", "disabled_tqdm", "util util.file_io"),
)

MOVED_MODULES = ("peft_mixin", "models.tokenizer")
"""Modules that moved, beside those that are named after the one class in them."""


def _names_by_module() -> dict[str, dict[str, str]]:
    """Full name of each module -> each name in it -> its home."""
    table: dict[str, dict[str, str]] = {}
    for home, names, modules in TABLE:
        for module in modules.split():
            found_in = table.setdefault(PACKAGE if module == "." else f"{PACKAGE}.{module}", {})
            found_in.update({name: f"{PACKAGE}.{home}:{name}" for name in names.split()})
    for path, (home, name) in module_types.SPELLINGS.items():
        module = path.rpartition(".")[0]
        if module != home:
            table.setdefault(module, {})[name] = f"{home}:{name}"
    return table


NAMES: dict[str, dict[str, str]] = _names_by_module()
"""Every module in which names are found, and the home of each name, written "module:attribute"."""


def names_at(module: str) -> list[str]:
    """The names found in a module, sorted."""
    return sorted(NAMES[module])


def find(module: str, name: str) -> Any:
    """The value of a name in a front door, for its `__getattr__`."""
    return resolve(module, name, NAMES[module])


def install() -> None:
    """Make importable every module of the table that is not a file, and those above it."""
    paths = sorted({above for module in NAMES for above in with_parents(module)})
    for path in paths:
        if path not in sys.modules and not is_file(path):
            is_package = any(other.startswith(f"{path}.") for other in paths)
            sys.modules[path] = LazyModule(
                path, NAMES.get(path, {}), is_package=is_package, advice=advice_about(path)
            )


def with_parents(module: str) -> Iterator[str]:
    """A module's name and those of the packages it is in."""
    while module:
        yield module
        module = module.rpartition(".")[0]


def is_file(module: str) -> bool:
    """Whether a module of this package is a file or a folder of its own."""
    root = os.path.dirname(os.path.dirname(__file__))
    path = os.path.join(root, *module.split(".")[1:])
    return os.path.isfile(f"{path}.py") or os.path.isfile(os.path.join(path, "__init__.py"))


def advice_about(module: str) -> str | None:
    """What to tell who imports from a module that moved; None for one that is still a public path."""
    if not has_moved(module):
        return None
    name = min(NAMES[module], key=lambda name: (name != module.rpartition(".")[2], name))
    better = next(path for path, names in NAMES.items() if name in names and not has_moved(path))
    return f"The module {module} has moved. Write: from {better} import {name}"


def has_moved(module: str) -> bool:
    """Whether a module is one of those that are named after their class, or otherwise an old path."""
    inside = module.removeprefix(f"{PACKAGE}.")
    return inside.rpartition(".")[2][0].isupper() or inside in MOVED_MODULES
