"""Make an int8 graph for OpenVINO of a float32 one.

Weights and activations have fixed scales; those of the activations are seen on sample texts. The arithmetic is
that of OpenVINO's own package nncf. The result is written beside the graph it was made of.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentence_transformers.backend.export_place import graph_of, save_or_push
from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.onnx_export import quiet_exporter
from sentence_transformers.backend.openvino_model import import_openvino
from sentence_transformers.backend.signal_stack import kept_signal_stack

USUAL_DATASET = {
    "dataset_name": "nyu-mll/glue",
    "dataset_config_name": "sst2",
    "dataset_split": "train",
    "column_name": "sentence",
}
"""Sentences of film reviews, as the reference takes them."""

USUAL_SAMPLES = 300
"""Texts to look at."""


def export_static_quantized_openvino_model(
    model: Any,
    quantization_config: Any,
    model_name_or_path: str,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    dataset_split: str | None = None,
    column_name: str | None = None,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str = "qint8_quantized",
    *,
    calibration_texts: Sequence[str] | None = None,
) -> None:
    """Write a copy of a model's OpenVINO graph that computes with int8.

    Args:
        model: A model that was loaded with `backend="openvino"`.
        quantization_config: None; or a dictionary, or an object with such attributes, with `num_samples`, how
            many texts to look at (300).
        model_name_or_path: The model's folder, or its repository with `push_to_hub`.
        dataset_name: Data set whose texts are looked at, for the package datasets; all four of these arguments or
            none of them. None for the sentences of GLUE's SST-2, which come from the hub.
        dataset_config_name: Its configuration.
        dataset_split: Its split.
        column_name: Its column with texts.
        push_to_hub: Upload the files instead of writing them into a folder.
        create_pr: Open a pull request instead of committing.
        file_suffix: The files are `openvino/openvino_model_<file_suffix>.xml` and `.bin`.
        calibration_texts: Texts to look at, in place of a data set: some hundred like those the model will read.

    Raises:
        ValueError: If the model is not of that backend, only some of the four arguments are given, or there are
            no texts.
        ImportError: If OpenVINO or nncf is not installed.
    """
    exported = graph_of(model, "openvino", "export_static_quantized_openvino_model")
    dataset = dict(zip(USUAL_DATASET, (dataset_name, dataset_config_name, dataset_split, column_name)))
    missing = [name for name, value in dataset.items() if value is None]
    if 0 < len(missing) < len(dataset):
        raise ValueError(
            f"Of the data set to calibrate with, {', '.join(missing)} is missing. Pass all of "
            f"{', '.join(dataset)}, or none of them."
        )
    import_nncf()
    samples = int(setting(quantization_config, "num_samples") or USUAL_SAMPLES)
    if calibration_texts is None:
        calibration_texts = dataset_texts(USUAL_DATASET if missing else dataset, samples)
    texts = list(calibration_texts)[:samples]
    if not texts:
        raise ValueError("There are no texts to calibrate with. Pass some hundred as calibration_texts.")
    features = [model.preprocess([text]) for text in texts]
    save_or_push(
        lambda path: quantize_graph(exported, path, features),
        backend="openvino",
        suffix=file_suffix,
        model_name_or_path=model_name_or_path,
        push_to_hub=push_to_hub,
        create_pr=create_pr,
        made_by=f"export_static_quantized_openvino_model(model, ..., {model_name_or_path!r})",
    )


def setting(config: Any, name: str) -> Any:
    """An entry of a dictionary, or an attribute; None if there is none."""
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)


def dataset_texts(dataset: dict[str, Any], count: int) -> list[str]:
    """The first texts of a data set."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImportError(
            "Reading texts to calibrate with from a data set needs the package datasets: pip install datasets. Or "
            "pass calibration_texts.",
            name="datasets",
        ) from error
    found = load_dataset(
        dataset["dataset_name"], dataset["dataset_config_name"], split=dataset["dataset_split"]
    )
    if dataset["column_name"] not in found.column_names:
        raise ValueError(
            f"The data set has no column {dataset['column_name']!r}, but {', '.join(found.column_names)}."
        )
    return list(found[: min(count, len(found))][dataset["column_name"]])


def quantize_graph(exported: ExportedModel, target: Path, features: Sequence[dict[str, Any]]) -> None:
    """Write an int8 copy of a graph.

    Args:
        exported: The model with the graph.
        target: The `.xml` file.
        features: Inputs to see the range of activations on.
    """
    nncf, openvino = import_nncf(), import_openvino()
    inputs = [exported._arrays(one, one["input_ids"]) for one in features]
    with quiet_exporter(), quiet_nncf(), kept_signal_stack():
        quantized = nncf.quantize(
            openvino.Core().read_model(exported.graph),
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
        )
        openvino.save_model(quantized, target, compress_to_fp16=False)


class quiet_nncf:
    """Silence the reports of nncf."""

    def __enter__(self) -> None:
        self._logger = logging.getLogger("nncf")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *details: Any) -> None:
        self._logger.setLevel(self._level)


def import_nncf() -> Any:
    """The package nncf.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        with quiet_exporter():
            import nncf
    except ImportError as error:
        raise ImportError(
            "Quantising a model for OpenVINO needs the package nncf: pip install 'sentence-transformers[openvino-int8]'.",
            name="nncf",
        ) from error
    return nncf
