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
EVALUATION_ROOMS = "evaluation sentence_transformer.evaluation"
DATASET_ROOMS = "datasets sentence_transformer.datasets"
READER_ROOMS = "readers sentence_transformer.readers"
SAMPLER_CHOICES = (
    "training_args sentence_transformer.training_args sampler base base.sampler base.training_args"
)

# Home below `losses`, and the losses in it; each is found in `losses`, and in a module of its own name.
LOSSES: tuple[tuple[str, str], ...] = (
    ("adaptive_layer", "AdaptiveLayerLoss Matryoshka2dLoss"),
    (
        "batch_triplet",
        "BatchAllTripletLoss BatchHardSoftMarginTripletLoss BatchHardTripletLoss "
        "BatchHardTripletLossDistanceFunction BatchSemiHardTripletLoss",
    ),
    ("contrastive", "ContrastiveLoss OnlineContrastiveLoss SiameseDistanceMetric"),
    ("contrastive_tension", "ContrastiveTensionLoss ContrastiveTensionLossInBatchNegatives"),
    ("cosent", "AnglELoss CoSENTLoss"),
    ("cosine_similarity", "CosineSimilarityLoss"),
    ("denoising_auto_encoder", "DenoisingAutoEncoderLoss"),
    ("distill_kl_div", "DistillKLDivLoss"),
    ("embed_distill", "EmbedDistillLoss MSELoss"),
    ("gist_embed", "CachedGISTEmbedLoss GISTEmbedLoss"),
    ("global_orthogonal_regularization", "GlobalOrthogonalRegularizationLoss"),
    ("margin_mse", "MarginMSELoss"),
    ("matryoshka", "MatryoshkaLoss"),
    ("mega_batch_margin", "MegaBatchMarginLoss"),
    (
        "multiple_negatives_ranking",
        "CachedMultipleNegativesRankingLoss CachedMultipleNegativesSymmetricRankingLoss "
        "MultipleNegativesRankingLoss MultipleNegativesSymmetricRankingLoss",
    ),
    ("softmax", "SoftmaxLoss"),
    ("triplet", "TripletDistanceMetric TripletLoss"),
)

# Home, names in it, and the modules in which they are found ("." is the package itself).
TABLE: tuple[tuple[str, str, str], ...] = (
    # Models
    ("sentence_transformer.model", "SentenceTransformer", ". SentenceTransformer sentence_transformer"),
    ("cross_encoder.model", "CrossEncoder", ". cross_encoder cross_encoder.CrossEncoder"),
    ("encoder.base", "BaseModel", "base base.model"),
    ("encoder.adapters", "PeftAdapterMixin", "base base.peft_mixin peft_mixin"),
    ("encoder.adapters", "peft_wrapper", "base.peft_mixin peft_mixin"),
    ("encoder.merging", "merge_models", "base.merging"),
    ("training.fit", "FitMixin", "fit_mixin"),
    ("training.fit_callbacks", "EvaluatorCallback OriginalCallback SaveModelCallback", "fit_mixin"),
    # Training
    ("training.trainer", "BaseTrainer", "base base.trainer"),
    ("training.arguments", "BaseTrainingArguments", "base base.training_args"),
    ("training.collator", "BaseDataCollator", "base base.data_collator"),
    (
        "sentence_transformer.training",
        "SentenceTransformerTrainer",
        ". trainer sentence_transformer sentence_transformer.trainer",
    ),
    (
        "sentence_transformer.training",
        "SentenceTransformerTrainingArguments",
        ". training_args sentence_transformer sentence_transformer.training_args",
    ),
    (
        "sentence_transformer.training",
        "SentenceTransformerDataCollator",
        ". data_collator sentence_transformer sentence_transformer.data_collator",
    ),
    (
        "cross_encoder.training",
        "CrossEncoderTrainer",
        ". cross_encoder cross_encoder.trainer",
    ),
    (
        "cross_encoder.training",
        "CrossEncoderTrainingArguments",
        ". cross_encoder cross_encoder.training_args",
    ),
    (
        "cross_encoder.training",
        "CrossEncoderDataCollator",
        "cross_encoder cross_encoder.data_collator",
    ),
    # Model cards
    (
        "model_card.sentence_transformer",
        "SentenceTransformerModelCardData",
        ". model_card sentence_transformer sentence_transformer.model_card",
    ),
    (
        "model_card.cross_encoder",
        "CrossEncoderModelCardData",
        ". cross_encoder cross_encoder.model_card",
    ),
    ("model_card.data", "BaseModelCardData", "model_card base.model_card"),
    ("model_card.callbacks", "BaseModelCardCallback", "model_card base.model_card"),
    (
        "model_card.callbacks",
        "ModelCardCallback SentenceTransformerModelCardCallback",
        "model_card sentence_transformer.model_card",
    ),
    ("model_card.callbacks", "CrossEncoderModelCardCallback", "cross_encoder.model_card"),
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
    # Which rows are trained on together
    ("training.batch_samplers", "BatchSamplers", SAMPLER_CHOICES),
    ("training.dataset_samplers", "MultiDatasetBatchSamplers", SAMPLER_CHOICES),
    ("training.batch_samplers", "DefaultBatchSampler", ". sampler base base.sampler"),
    ("training.dataset_samplers", "MultiDatasetDefaultBatchSampler", ". sampler base base.sampler"),
    (
        "training.batch_samplers",
        "GroupByLabelBatchSampler NoDuplicatesBatchSampler",
        "sampler base base.sampler",
    ),
    (
        "training.dataset_samplers",
        "ProportionalBatchSampler RoundRobinBatchSampler",
        "sampler base base.sampler",
    ),
    ("training.batch_samplers", "LengthGroupedBatchSampler", "sampler base.sampler"),
    ("training.batch_samplers", "SetEpochMixin", "sampler base.sampler"),
    # The older data classes
    (
        "datasets.sentences",
        "SentencesDataset",
        f". {DATASET_ROOMS} datasets.SentencesDataset sentence_transformer.datasets.sentences",
    ),
    (
        "datasets.parallel_sentences",
        "ParallelSentencesDataset",
        f". {DATASET_ROOMS} datasets.ParallelSentencesDataset "
        "sentence_transformer.datasets.parallel_sentences",
    ),
    (
        "datasets.denoising_auto_encoder",
        "DenoisingAutoEncoderDataset",
        f"{DATASET_ROOMS} datasets.DenoisingAutoEncoderDataset "
        "sentence_transformer.datasets.denoising_auto_encoder",
    ),
    (
        "datasets.no_duplicates",
        "NoDuplicatesDataLoader",
        f"{DATASET_ROOMS} datasets.NoDuplicatesDataLoader "
        "sentence_transformer.datasets.no_duplicates_dataloader",
    ),
    (
        "datasets.sentence_label",
        "SentenceLabelDataset",
        f"{DATASET_ROOMS} datasets.SentenceLabelDataset sentence_transformer.datasets.sentence_label",
    ),
    (
        "datasets.contrastive_tension",
        "ContrastiveTensionDataLoader",
        "losses sentence_transformer.losses losses.ContrastiveTensionLoss",
    ),
    (
        "readers.label_sentence",
        "LabelSentenceReader",
        f"{READER_ROOMS} readers.LabelSentenceReader sentence_transformer.readers.label_sentence",
    ),
    (
        "readers.nli_data",
        "NLIDataReader",
        f"{READER_ROOMS} readers.NLIDataReader sentence_transformer.readers.nli_data",
    ),
    (
        "readers.sts_data",
        "STSBenchmarkDataReader STSDataReader",
        f"{READER_ROOMS} readers.STSDataReader sentence_transformer.readers.sts_data",
    ),
    (
        "readers.triplet",
        "TripletReader",
        f"{READER_ROOMS} readers.TripletReader sentence_transformer.readers.triplet",
    ),
    (
        "readers.paired_files",
        "PairedFilesReader",
        f"{READER_ROOMS} readers.PairedFilesReader sentence_transformer.readers.paired_files",
    ),
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
    # Evaluators
    (
        "evaluation.base",
        "BaseEvaluator SentenceEvaluator",
        f"{EVALUATION_ROOMS} base.evaluation base.evaluation.evaluator evaluation.SentenceEvaluator",
    ),
    (
        "evaluation.sequential",
        "SequentialEvaluator",
        f"{EVALUATION_ROOMS} base.evaluation base.evaluation.sequential evaluation.SequentialEvaluator",
    ),
    (
        "evaluation.binary_classification",
        "BinaryClassificationEvaluator",
        f"{EVALUATION_ROOMS} evaluation.BinaryClassificationEvaluator sentence_transformer.evaluation.binary_classification",
    ),
    (
        "evaluation.embedding_similarity",
        "EmbeddingSimilarityEvaluator",
        f"{EVALUATION_ROOMS} evaluation.EmbeddingSimilarityEvaluator sentence_transformer.evaluation.embedding_similarity",
    ),
    (
        "evaluation.label_accuracy",
        "LabelAccuracyEvaluator",
        f"{EVALUATION_ROOMS} evaluation.LabelAccuracyEvaluator sentence_transformer.evaluation.label_accuracy",
    ),
    (
        "evaluation.mse",
        "MSEEvaluator",
        f"{EVALUATION_ROOMS} evaluation.MSEEvaluator sentence_transformer.evaluation.mse",
    ),
    (
        "evaluation.mse_from_dataframe",
        "MSEEvaluatorFromDataFrame",
        f"{EVALUATION_ROOMS} evaluation.MSEEvaluatorFromDataFrame sentence_transformer.evaluation.mse_from_dataframe",
    ),
    (
        "evaluation.information_retrieval",
        "InformationRetrievalEvaluator",
        f"{EVALUATION_ROOMS} evaluation.InformationRetrievalEvaluator sentence_transformer.evaluation.information_retrieval",
    ),
    (
        "evaluation.nano_beir",
        "NanoBEIREvaluator",
        f"{EVALUATION_ROOMS} evaluation.NanoBEIREvaluator sentence_transformer.evaluation.nano_beir",
    ),
    (
        "evaluation.paraphrase_mining",
        "ParaphraseMiningEvaluator",
        f"{EVALUATION_ROOMS} evaluation.ParaphraseMiningEvaluator sentence_transformer.evaluation.paraphrase_mining",
    ),
    (
        "evaluation.reranking",
        "RerankingEvaluator",
        f"{EVALUATION_ROOMS} evaluation.RerankingEvaluator sentence_transformer.evaluation.reranking",
    ),
    (
        "evaluation.translation",
        "TranslationEvaluator",
        f"{EVALUATION_ROOMS} evaluation.TranslationEvaluator sentence_transformer.evaluation.translation",
    ),
    (
        "evaluation.triplet",
        "TripletEvaluator",
        f"{EVALUATION_ROOMS} evaluation.TripletEvaluator sentence_transformer.evaluation.triplet",
    ),
    # Evaluators of cross-encoders
    (
        "cross_encoder.evaluation.classification",
        "CrossEncoderClassificationEvaluator",
        "cross_encoder.evaluation",
    ),
    (
        "cross_encoder.evaluation.correlation",
        "CrossEncoderCorrelationEvaluator",
        "cross_encoder.evaluation",
    ),
    ("cross_encoder.evaluation.nano_beir", "CrossEncoderNanoBEIREvaluator", "cross_encoder.evaluation"),
    (
        "cross_encoder.evaluation.older",
        "CEBinaryAccuracyEvaluator CEBinaryClassificationEvaluator CECorrelationEvaluator CEF1Evaluator "
        "CERerankingEvaluator CESoftmaxAccuracyEvaluator",
        "cross_encoder.evaluation",
    ),
    (
        "cross_encoder.evaluation.reranking",
        "CrossEncoderRerankingEvaluator",
        "cross_encoder.evaluation",
    ),
    # Losses of cross-encoders
    ("cross_encoder.losses.adr_mse", "ADRMSELoss", "cross_encoder.losses"),
    (
        "cross_encoder.losses.lambda_loss",
        "LambdaLoss LambdaRankScheme NDCGLoss1Scheme NDCGLoss2PPScheme NDCGLoss2Scheme NoWeightingScheme "
        "RankNetLoss",
        "cross_encoder.losses",
    ),
    ("cross_encoder.losses.list_net", "ListNetLoss", "cross_encoder.losses"),
    ("cross_encoder.losses.margin_mse", "MarginMSELoss", "cross_encoder.losses"),
    (
        "cross_encoder.losses.multiple_negatives_ranking",
        "CachedMultipleNegativesRankingLoss MultipleNegativesRankingLoss",
        "cross_encoder.losses",
    ),
    (
        "cross_encoder.losses.plist_mle",
        "ListMLELoss PListMLELambdaWeight PListMLELoss",
        "cross_encoder.losses",
    ),
    (
        "cross_encoder.losses.pointwise",
        "BinaryCrossEntropyLoss CrossEntropyLoss MSELoss",
        "cross_encoder.losses",
    ),
    # Search
    ("search.clustering", "community_detection", "util util.retrieval"),
    ("search.bitext", "bitext_mining", "util"),
    ("search.hard_negatives", "mine_hard_negatives", ". util util.hard_negatives"),
    (
        "search.retrieval",
        "information_retrieval paraphrase_mining paraphrase_mining_embeddings semantic_search",
        "util util.retrieval",
    ),
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
        "search.quantized",
        "semantic_search_faiss semantic_search_usearch",
        "quantization util.quantization",
    ),
    ("search.quantized", "semantic_search_quantized", "quantization util util.quantization"),
    (
        "tensors.distributed",
        "all_gather all_gather_padded all_gather_with_grad get_rank get_world_size",
        "util util.distributed",
    ),
    ("tensors.distributed", "is_dist_initialized", "util util.environment"),
    ("inference.ranks", "distributed_evaluation", "util util.distributed"),
    ("training.id_columns", "resolve_ids", ". util util.dataset"),
    ("tensors.teacher_targets", "check_teacher_targets", "util util.misc"),
    # Graphs of models
    (
        "backend.onnx_optimize",
        "export_dynamic_quantized_onnx_model export_optimized_onnx_model",
        ". backend",
    ),
    ("backend.pipeline_graph", "export_pipeline_onnx", "backend"),
    ("inference.onnx_pipeline", "OnnxPipeline", "backend"),
    ("backend.openvino_quantize", "export_static_quantized_openvino_model", ". backend"),
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
    ("losses.cached", "CachedLossMixin", "base.losses"),
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
    for home, names in LOSSES:
        for name in names.split():
            for module in ("losses", "sentence_transformer.losses", f"losses.{name}"):
                table.setdefault(f"{PACKAGE}.{module}", {})[name] = f"{PACKAGE}.losses.{home}:{name}"
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
