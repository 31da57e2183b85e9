"""What every backend promises, over a graph that stands in place of a transformers model."""

from __future__ import annotations

import copy
import logging
import pickle
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.encoder.computing import is_shared_by_threads
from sentence_transformers.modules.transformer.module import Transformer
from tiny import tiny_checkpoint

TEXTS = ["a much longer sentence about the treatment of the disease", "short", "of middling length", "a"]
PAIRS = [("what is it?", "a much longer text about the disease"), ("short", "a"), ("of middling", "length")]


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_embeddings_are_those_of_torch(graph_model, torch_model):
    np.testing.assert_allclose(graph_model.encode(TEXTS), torch_model.encode(TEXTS), atol=1e-5)
    for value in graph_model.encode(TEXTS, output_value="token_embeddings"):
        assert value.shape[1] == 32


def test_pairs_keep_their_token_types(graph_model, torch_model):
    np.testing.assert_allclose(graph_model.encode(PAIRS), torch_model.encode(PAIRS), atol=1e-5)


def test_a_saved_graph_stands_in_for_the_weights(graph_model, graph_folders):
    backend = graph_model.get_backend()
    saved = files(graph_folders[backend])
    graph = {
        "onnx": {"onnx/model.onnx"},
        "openvino": {"openvino/openvino_model.xml", "openvino/openvino_model.bin"},
    }
    assert graph[backend] | {"config.json", "modules.json", "tokenizer.json"} <= saved
    assert not {"model.safetensors", "pytorch_model.bin"} & saved


def test_batches_hold_hardly_any_padding(graph_model, monkeypatch):
    sizes = []
    graph = graph_model[0]._model
    compute = graph._compute
    monkeypatch.setitem(
        graph.__dict__,
        "_compute",
        lambda inputs, *alone: (sizes.append(inputs["attention_mask"]), compute(inputs, *alone))[1],
    )
    graph_model.encode([f"{number} " + "word " * (number % 40) for number in range(400)], batch_size=16)
    assert sum(mask.sum() for mask in sizes) / sum(mask.size for mask in sizes) > 0.9


def test_the_transformer_is_callable_and_knows_its_configuration(graph_model):
    inner = graph_model[0].auto_model
    features = graph_model.preprocess(TEXTS)
    outputs = inner(**features)
    assert outputs.last_hidden_state.shape == (*features["input_ids"].shape, 32)
    assert outputs[0] is outputs["last_hidden_state"]
    assert type(inner.config).__name__ == "BertConfig"
    assert graph_model.get_sentence_embedding_dimension() == 12


def test_copies_and_pickles_compute_the_same(graph_model):
    expected = graph_model.encode(TEXTS)
    np.testing.assert_array_equal(copy.deepcopy(graph_model).encode(TEXTS), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(graph_model)).encode(TEXTS), expected)


def test_threads_may_encode_at_once(graph_model):
    expected = graph_model.encode(TEXTS)
    results = {}
    threads = [
        threading.Thread(target=lambda number=number: results.update({number: graph_model.encode(TEXTS)}))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results.values():
        np.testing.assert_array_equal(result, expected)


def test_the_number_of_threads_follows_torch(graph_model):
    inner, before = graph_model[0]._model, torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        graph_model.encode(TEXTS)
        assert inner._threads == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def two_threads(monkeypatch):
    """Two threads for PyTorch, whatever the machine has, and lanes for few tokens."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr("sentence_transformers.inference.lanes.FEWEST_TOKENS", 8)
    yield
    torch.set_num_threads(before)


MANY = [f"text number {number} " + "and more " * (number % 7) for number in range(60)]


def test_batches_side_by_side_share_a_second_opening_with_one_thread_each(
    graph_folders, torch_model, two_threads
):
    for backend, folder in graph_folders.items():
        model = SentenceTransformer(str(folder), backend=backend, device="cpu")
        graph = model[0]._model
        opened = graph._opened
        model.encode(MANY[0])
        assert graph._opened_for_one is None
        found = model.encode(MANY)
        np.testing.assert_allclose(found, torch_model.encode(MANY), atol=1e-5)
        second = graph._opened_for_one
        assert second is not None
        if backend == "onnx":
            assert second.get_session_options().intra_op_num_threads == 1
        else:
            assert second.compiled.get_property("NUM_STREAMS") == 2
        np.testing.assert_allclose(model.encode(MANY), found, atol=1e-6)
        np.testing.assert_allclose(model.encode(MANY[3]), found[3], atol=1e-6)
        assert graph._opened is opened
        assert graph._opened_for_one is second
        np.testing.assert_allclose(pickle.loads(pickle.dumps(model)).encode(MANY), found, atol=1e-6)
        np.testing.assert_allclose(copy.deepcopy(model).encode(MANY), found, atol=1e-6)


def test_a_large_graph_is_opened_once(graph_folders, torch_model, two_threads, monkeypatch):
    monkeypatch.setattr("sentence_transformers.backend.exported.LARGEST_OPENED_TWICE", 1000)
    for backend, folder in graph_folders.items():
        model = SentenceTransformer(str(folder), backend=backend, device="cpu")
        np.testing.assert_allclose(model.encode(MANY), torch_model.encode(MANY), atol=1e-5)
        assert model[0]._model._opened_for_one is None
        assert not is_shared_by_threads(model)


def test_where_it_cannot_be_opened_again_all_threads_compute_together(
    graph_folders, torch_model, two_threads, tmp_path, caplog
):
    shutil.copytree(graph_folders["onnx"], tmp_path / "model")
    model = SentenceTransformer(str(tmp_path / "model"), backend="onnx", device="cpu")
    shutil.rmtree(tmp_path / "model")
    np.testing.assert_allclose(model.encode(MANY), torch_model.encode(MANY), atol=1e-5)
    assert [record for record in caplog.records if "all threads together" in record.getMessage()]
    caplog.clear()
    model.encode(MANY)
    assert not caplog.records


def test_a_thread_beside_others_takes_their_session_from_none(graph_folders, two_threads):
    model = SentenceTransformer(str(graph_folders["onnx"]), backend="onnx", device="cpu")
    graph, found = model[0]._model, {}
    opened = graph._opened
    expected = model.encode(TEXTS)

    def worker():
        torch.get_num_threads()
        torch.set_num_threads(1)
        found[0] = model.encode(TEXTS)

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    torch.set_num_threads(2)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert graph._opened is opened
    assert graph._opened_for_one is not None


def test_a_graph_is_not_trained(graph_model):
    with pytest.raises(ValueError, match="cannot be trained"):
        graph_model.train()
    assert not graph_model.training or graph_model.eval()


def test_a_trainer_refuses_a_graph(graph_model, tmp_path):
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    arguments = SentenceTransformerTrainingArguments(output_dir=str(tmp_path), report_to="none")
    with pytest.raises(ValueError, match="backend='torch'"):
        SentenceTransformerTrainer(model=graph_model, args=arguments)


def test_layers_cannot_be_looked_into(graph_model):
    features = {**graph_model.preprocess(TEXTS), "output_hidden_states": True}
    with pytest.raises(ValueError, match="output_hidden_states"):
        graph_model(features)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_model_without_graph_is_exported_with_a_warning_and_saved_beside_its_weights(
    torch_folder, torch_model, tmp_path, backend, caplog
):
    folder = tmp_path / "model"
    shutil.copytree(torch_folder, folder)
    with caplog.at_level(logging.WARNING):
        model = SentenceTransformer(
            str(folder), backend=backend, device="cpu", model_kwargs={"file_name": "model_O9.onnx"}
        )
    assert [record for record in caplog.records if "save_pretrained" in record.getMessage()]
    np.testing.assert_allclose(model.encode(TEXTS), torch_model.encode(TEXTS), atol=1e-5)
    model.save_pretrained(str(folder))
    assert "model.safetensors" in files(folder)
    caplog.clear()
    again = SentenceTransformer(str(folder), backend=backend, device="cpu")
    assert not caplog.records
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    np.testing.assert_allclose(
        SentenceTransformer(str(folder), device="cpu").encode(TEXTS), torch_model.encode(TEXTS), atol=1e-6
    )


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_cross_encoders_score_as_with_torch(tmp_path, backend):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    checkpoint = str(tiny_checkpoint("roberta", tmp_path / "checkpoint"))
    plain = CrossEncoder(checkpoint, num_labels=1, device="cpu")
    plain.save_pretrained(str(tmp_path / "torch"))
    model = CrossEncoder(str(tmp_path / "torch"), backend=backend, device="cpu")
    np.testing.assert_allclose(model.predict(PAIRS), plain.predict(PAIRS), atol=1e-5)
    model.save_pretrained(str(tmp_path / "graph"))
    again = CrossEncoder(str(tmp_path / "graph"), backend=backend, device="cpu")
    assert again.num_labels == 1
    np.testing.assert_array_equal(again.predict(PAIRS), model.predict(PAIRS))


def test_a_graph_of_another_task_is_refused(graph_folders):
    with pytest.raises(ValueError, match="sequence-classification"):
        Transformer(str(graph_folders["onnx"]), backend="onnx", transformer_task="sequence-classification")


def test_tasks_without_a_graph_are_refused(graph_folders):
    with pytest.raises(ValueError, match="text-generation"):
        Transformer(str(graph_folders["onnx"]), backend="onnx", transformer_task="text-generation")


def test_a_graph_that_must_not_be_made_has_to_be_there(torch_folder):
    pytest.importorskip("onnxruntime")
    with pytest.raises(FileNotFoundError, match="holds no onnx file"):
        SentenceTransformer(str(torch_folder), backend="onnx", model_kwargs={"export": False})


@pytest.mark.parametrize(("backend", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    graph_folders, monkeypatch, backend, package
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'sentence-transformers\[{backend}\]'"):
        SentenceTransformer(str(graph_folders[backend]), backend=backend)


@pytest.mark.parametrize(
    ("backend", "name"), [("onnx", "onnx/model.onnx"), ("openvino", "openvino/openvino_model.xml")]
)
def test_a_damaged_graph_is_told_from_a_wrong_one(graph_folders, tmp_path, backend, name):
    shutil.copytree(graph_folders[backend], tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(b"half a")
    with pytest.raises(ValueError, match="damaged"):
        SentenceTransformer(str(tmp_path / "model"), backend=backend)


def test_a_graph_is_found_in_the_cache_of_the_hub(torch_folder, graph_folders, torch_model, tmp_path, caplog):
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--someone--tiny"
    shutil.copytree(torch_folder, place / "snapshots" / commit)
    shutil.copytree(graph_folders["onnx"] / "onnx", place / "snapshots" / commit / "onnx")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    model = SentenceTransformer("someone/tiny", backend="onnx", cache_folder=str(tmp_path), device="cpu")
    assert not caplog.records
    np.testing.assert_allclose(model.encode(TEXTS), torch_model.encode(TEXTS), atol=1e-5)


def test_opening_a_saved_graph_imports_no_transformers(minilm_path, tmp_path):
    code = (
        "import sys; from sentence_transformers import SentenceTransformer;"
        f"SentenceTransformer({str(tmp_path)!r}, backend='onnx', device='cpu').encode(['a']);"
        "print(sorted({'transformers', 'torch.onnx', 'onnx', 'onnxscript'} & set(sys.modules)))"
    )
    SentenceTransformer(str(minilm_path), backend="onnx", device="cpu").save_pretrained(str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
