from __future__ import annotations

import csv
import gzip
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from sentence_transformers import (
    CrossEncoder,
    SentenceTransformer,
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
)
from sentence_transformers.backend.onnx_optimize import (
    INSTRUCTIONS,
    LEVELS,
    optimization_named,
    quantization_named,
)

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TEXTS = ["a much longer sentence about the treatment of the disease", "short", "of middling length", "a"]


@pytest.fixture(scope="module")
def folder(graph_folders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("optimised") / "model"
    shutil.copytree(graph_folders["onnx"], folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return SentenceTransformer(str(folder), backend="onnx", device="cpu")


def loaded(folder, file_name):
    return SentenceTransformer(
        str(folder), backend="onnx", device="cpu", model_kwargs={"file_name": file_name}
    )


@pytest.mark.parametrize(("level", "tolerance"), [("O1", 1e-5), ("O2", 1e-5), ("O3", 5e-3), ("O4", 2e-2)])
def test_each_level_computes_nearly_the_same_and_has_its_own_file(model, folder, level, tolerance):
    export_optimized_onnx_model(model, level, str(folder))
    assert (folder / "onnx" / f"model_{level}.onnx").is_file()
    np.testing.assert_allclose(
        loaded(folder, f"model_{level}.onnx").encode(TEXTS), model.encode(TEXTS), atol=tolerance
    )


def test_attention_is_fused(model, folder):
    import onnx

    export_optimized_onnx_model(model, "O2", str(folder), file_suffix="fused")
    kinds = {node.op_type for node in onnx.load(folder / "onnx" / "model_fused.onnx").graph.node}
    assert {"Attention", "SkipLayerNormalization"} <= kinds


@pytest.mark.parametrize("processor", INSTRUCTIONS)
def test_int8_weights_stay_close_and_their_file_names_the_processor(model, folder, processor):
    export_dynamic_quantized_onnx_model(model, processor, str(folder))
    quantized = loaded(folder, f"model_{INSTRUCTIONS[processor][0]}.onnx")
    cosines = (quantized.encode(TEXTS) * model.encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.98


def test_a_suffix_names_the_file(model, folder):
    export_optimized_onnx_model(model, "O1", str(folder), file_suffix="abc")
    export_dynamic_quantized_onnx_model(model, "avx2", str(folder), file_suffix="abd")
    assert (folder / "onnx" / "model_abc.onnx").is_file()
    assert (folder / "onnx" / "model_abd.onnx").is_file()


def test_unknown_levels_and_processors_are_refused_with_those_there_are(model, folder):
    with pytest.raises(ValueError, match="'O1', 'O2', 'O3', 'O4'"):
        export_optimized_onnx_model(model, "O5", str(folder))
    with pytest.raises(ValueError, match="'arm64', 'avx2', 'avx512', 'avx512_vnni'"):
        export_dynamic_quantized_onnx_model(model, "sse", str(folder))


def test_models_of_another_backend_are_refused(torch_model, tmp_path):
    for function, choice in (
        (export_optimized_onnx_model, "O1"),
        (export_dynamic_quantized_onnx_model, "avx2"),
    ):
        with pytest.raises(ValueError, match="backend='onnx'"):
            function(torch_model, choice, str(tmp_path))


def test_objects_with_the_attributes_of_optimum_are_understood():
    level = SimpleNamespace(optimization_level=99, enable_gelu_approximation=True, fp16=True)
    assert optimization_named(level) == LEVELS["O4"]
    config = SimpleNamespace(weights_dtype="QuantType.QUInt8", per_channel=True, reduce_range=True)
    suffix, chosen = quantization_named(config)
    assert suffix == "quint8_quantized"
    assert chosen == INSTRUCTIONS["avx2"][1]
    with pytest.raises(ValueError, match="is_static"):
        quantization_named(SimpleNamespace(weights_dtype="QInt8", is_static=True))


def test_cross_encoders_are_quantised_too(tmp_path):
    from cross_encoder_cases import tiny_classifier

    # A kind that does not saturate on any processor, and a head that is the same every time.
    model = CrossEncoder(
        str(tiny_classifier("bert", tmp_path / "model", labels=1)), backend="onnx", device="cpu"
    )
    model.save_pretrained(str(tmp_path / "model"))
    export_dynamic_quantized_onnx_model(model, "avx2", str(tmp_path / "model"))
    (file_name,) = (path.name for path in (tmp_path / "model" / "onnx").glob("*_avx2.onnx"))
    quantized = CrossEncoder(
        str(tmp_path / "model"), backend="onnx", device="cpu", model_kwargs={"file_name": file_name}
    )
    pairs = [("what is it?", "the disease"), ("short", "a")]
    np.testing.assert_allclose(quantized.predict(pairs), model.predict(pairs), atol=0.05)


@pytest.mark.slow
def test_int8_loses_less_than_half_a_point_of_the_real_model(minilm, minilm_path, shared_data, tmp_path):
    from scipy import stats

    with gzip.open(shared_data / "stsb" / "en" / "test.tsv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[::3]
    texts = [row[name] for name in ("sentence1", "sentence2") for row in rows]
    ratings = [float(row["score"]) for row in rows]
    model = SentenceTransformer(str(minilm_path), backend="onnx", device="cpu")
    exact, real = model.encode(texts), minilm.encode(texts)
    np.testing.assert_allclose(exact, real, atol=1e-5)
    model.save_pretrained(str(tmp_path))
    export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(tmp_path))
    rounded = loaded(tmp_path, "model_qint8_avx512_vnni.onnx").encode(texts)
    cosines = (rounded * exact).sum(axis=1) / np.linalg.norm(rounded, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.mean() > 0.98

    def score(vectors):
        first, second = np.split(vectors, 2)
        cosine = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
        return 100 * stats.spearmanr(cosine, ratings)[0]

    assert score(exact) - score(rounded) < 0.5
