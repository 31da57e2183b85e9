from __future__ import annotations

import logging

import pytest

from sentence_transformers.backend.graph_files import ONNX, OPENVINO, copy_graph, find_graph


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_the_usual_file_is_found_in_the_folder_of_its_backend_and_in_the_root(tmp_path):
    put(tmp_path, "model.onnx")
    assert find_graph(tmp_path, ONNX) == tmp_path / "model.onnx"
    put(tmp_path, "onnx/model.onnx", "openvino/openvino_model.xml")
    assert find_graph(tmp_path, ONNX) == tmp_path / "onnx" / "model.onnx"
    assert find_graph(tmp_path, OPENVINO) == tmp_path / "openvino" / "openvino_model.xml"


@pytest.mark.parametrize("name", ["model_O3.onnx", "onnx/model_O3.onnx"])
def test_a_file_is_found_by_its_name_with_and_without_folder(tmp_path, name, caplog):
    put(tmp_path, "onnx/model.onnx", "onnx/model_O3.onnx")
    assert find_graph(tmp_path, ONNX, file_name=name) == tmp_path / "onnx" / "model_O3.onnx"
    assert not caplog.records


def test_a_subfolder_takes_the_place_of_the_usual_one(tmp_path):
    put(tmp_path, "onnx/model.onnx", "faster/model.onnx")
    assert find_graph(tmp_path, ONNX, subfolder="faster") == tmp_path / "faster" / "model.onnx"


def test_several_files_are_listed_in_one_warning(tmp_path, caplog):
    put(tmp_path, "onnx/model.onnx", "onnx/model_O3.onnx")
    with caplog.at_level(logging.WARNING):
        assert find_graph(tmp_path, ONNX) == tmp_path / "onnx" / "model.onnx"
    assert len(caplog.records) == 1
    assert "onnx/model.onnx, onnx/model_O3.onnx" in caplog.text


def test_a_folder_without_graphs_has_none_whatever_name_is_asked_for(tmp_path):
    assert find_graph(tmp_path, ONNX) is None
    assert find_graph(tmp_path, ONNX, file_name="model_O3.onnx") is None


def test_a_wrong_name_says_which_there_are(tmp_path):
    put(tmp_path, "onnx/model.onnx")
    with pytest.raises(FileNotFoundError, match=r"'model_O9.onnx'.*onnx/model.onnx"):
        find_graph(tmp_path, ONNX, file_name="model_O9.onnx")


def test_without_the_usual_file_a_single_one_is_taken_and_of_several_one_has_to_be_named(tmp_path):
    put(tmp_path, "onnx/model_O2.onnx")
    assert find_graph(tmp_path, ONNX) == tmp_path / "onnx" / "model_O2.onnx"
    put(tmp_path, "onnx/model_O3.onnx")
    with pytest.raises(ValueError, match="file_name"):
        find_graph(tmp_path, ONNX)


def test_a_copied_graph_keeps_its_name_and_what_belongs_to_it(tmp_path):
    put(
        tmp_path,
        "a/onnx/model_O3.onnx",
        "a/onnx/model_O3.onnx_data",
        "b/openvino_model.xml",
        "b/openvino_model.bin",
    )
    copy_graph(tmp_path / "a" / "onnx" / "model_O3.onnx", ONNX, tmp_path / "saved")
    copy_graph(tmp_path / "b" / "openvino_model.xml", OPENVINO, tmp_path / "saved")
    assert sorted(path.relative_to(tmp_path / "saved").as_posix() for path in tmp_path.glob("saved/*/*")) == [
        "onnx/model_O3.onnx",
        "onnx/model_O3.onnx_data",
        "openvino/openvino_model.bin",
        "openvino/openvino_model.xml",
    ]
