from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from sentence_transformers import SentenceTransformer, export_static_quantized_openvino_model
from tiny import sample_texts

pytest.importorskip("openvino")

TEXTS = ["a much longer sentence about the treatment of the disease", "short", "of middling length", "a"]


@pytest.fixture(scope="module")
def folder(graph_folders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(graph_folders["openvino"], folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return SentenceTransformer(str(folder), backend="openvino", device="cpu")


@pytest.mark.slow
def test_an_int8_graph_stays_close_and_lies_beside_the_first(model, folder):
    pytest.importorskip("nncf")
    texts = [text[:200] for text in sample_texts()][:20]
    export_static_quantized_openvino_model(model, None, str(folder), calibration_texts=texts)
    name = "openvino_model_qint8_quantized"
    assert (folder / "openvino" / f"{name}.bin").is_file()
    quantized = SentenceTransformer(
        str(folder), backend="openvino", device="cpu", model_kwargs={"file_name": f"{name}.xml"}
    )
    cosines = (quantized.encode(TEXTS) * model.encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.95


def test_a_data_set_is_named_whole_or_not_at_all(model, folder):
    with pytest.raises(ValueError, match=r"dataset_split, column_name is missing"):
        export_static_quantized_openvino_model(model, None, str(folder), "glue", "sst2")


def test_models_of_another_backend_are_refused(torch_model, tmp_path):
    with pytest.raises(ValueError, match="backend='openvino'"):
        export_static_quantized_openvino_model(torch_model, None, str(tmp_path))


def test_without_nncf_the_command_that_installs_it_is_named(model, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ImportError, match="pip install"):
        export_static_quantized_openvino_model(model, None, str(folder), calibration_texts=TEXTS)


def test_settings_of_openvino_are_passed_on(graph_folders, model):
    other = SentenceTransformer(
        str(graph_folders["openvino"]),
        backend="openvino",
        device="cpu",
        model_kwargs={"ov_config": {"INFERENCE_NUM_THREADS": 1}},
    )
    assert other[0].auto_model.compiled_model.get_property("INFERENCE_NUM_THREADS") == 1
    np.testing.assert_allclose(other.encode(TEXTS), model.encode(TEXTS), atol=1e-5)
