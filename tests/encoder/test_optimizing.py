"""`optimize` tries the ways to run a model on somebody's texts, and takes the fastest that stays near enough."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers import CrossEncoder, SentenceTransformer, models
from sentence_transformers.encoder.choosing import LEAST_GAIN
from sentence_transformers.encoder.way_report import Optimized, WayRow
from sentence_transformers.encoder.ways import WAYS, NotHereError, Way, Workshop, check_bfloat16, spread
from tiny import WIDTH, sample_texts, tiny_checkpoint

TEXTS = sample_texts()[:24]
PAIRS = [(TEXTS[number], TEXTS[-1 - number]) for number in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bi-encoder: BERT, mean pooling, a dense layer."""
    root = tmp_path_factory.mktemp("model")
    checkpoint = tiny_checkpoint("bert", root / "checkpoint")
    torch.manual_seed(0)
    parts = [models.Transformer(str(checkpoint)), models.Pooling(WIDTH, "mean"), models.Dense(WIDTH, 12)]
    SentenceTransformer(modules=parts, device="cpu").save_pretrained(str(root / "model"))
    return root / "model"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure as little as can be."""
    monkeypatch.setattr("sentence_transformers.encoder.choosing.LEAST_SECONDS", 0.0)


@pytest.fixture(scope="module")
def everything(folder: Path) -> Optimized:
    """All ways of a CPU, tried once, with a budget that all reach."""
    model = SentenceTransformer(str(folder), device="cpu")
    return model.optimize(TEXTS, "cpu", rounds=1, least_similarity=0.9, show_table=False)


@pytest.fixture
def model(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    """A cross-encoder; leave it as it is."""
    root = tmp_path_factory.mktemp("scorer")
    return CrossEncoder(str(tiny_checkpoint("roberta", root / "checkpoint")), num_labels=1, device="cpu")


def row_of(found: Optimized, way: str) -> WayRow:
    return next(row for row in found.rows if row.way == way)


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.array([a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(left, right)])


def noise(size: float, *, slow: bool = False) -> Way:
    """A way whose vectors are off, by about so much, always alike; and half as fast if `slow`."""

    class Off(torch.nn.Module):
        reads_packed = True

        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            values = features["sentence_embedding"]
            swing = torch.sin(torch.arange(values.shape[1]) + 1.0) * values.norm(dim=1, keepdim=True)
            return {**features, "sentence_embedding": values + size * swing}

        def save(self, path: str, **options: Any) -> None: ...

    def make(workshop: Workshop) -> Any:
        made = workshop.copied()
        made.add_module("off", Off())
        if slow:
            encode = made.encode

            def encode_twice(*args: Any, **kwargs: Any) -> Any:
                encode(*args, **kwargs)
                return encode(*args, **kwargs)

            object.__setattr__(made, "encode", encode_twice)
        return made

    return Way(make=make)


# -- what is measured --------------------------------------------------------------------------------------


def test_every_way_of_a_cpu_has_a_row_with_its_figures_or_a_reason(everything):
    found = everything
    assert [row.way for row in found.rows] == [name for name, way in WAYS.items() if "cpu" in way.targets]
    assert [row.verdict for row in found.rows].count("chosen") == 1
    assert row_of(found, found.way).verdict == "chosen"
    for row in found.rows:
        if row.verdict == "not here":
            assert row.reason
            assert row.texts_per_second is None
            continue
        assert row.texts_per_second > 0
        assert row.single_ms > 0
        assert row.megabytes > 0
        assert -1 <= row.least_cosine <= row.similarity <= 1 + 1e-9
        assert row.score is None


def test_the_table_is_printed_unless_it_is_not_wanted(model, capsys):
    found = model.optimize(TEXTS, ways=["int8"], rounds=1)
    assert capsys.readouterr().out == found.table() + "\n"
    lines = found.table().splitlines()
    assert [line.split()[0] for line in lines] == ["way", "float32", "int8"]
    assert f"{row_of(found, 'int8').similarity:.4f}" in lines[2]
    model.optimize(TEXTS, ways=["float32"], rounds=1, show_table=False)
    assert capsys.readouterr().out == ""


def test_figures_are_those_of_the_way(everything, model):
    expected = model.encode(TEXTS)
    workshop = Workshop(model, torch.device("cpu"), TEXTS, None)
    for way in ("int8", "onnx-O3"):
        row = row_of(everything, way)
        assert row.verdict != "not here", row.reason
        similar = cosines(expected, WAYS[way].make(workshop).encode(TEXTS))
        assert row.similarity == pytest.approx(similar.mean(), abs=1e-5)
        assert row.least_cosine == pytest.approx(similar.min(), abs=1e-5)


def test_the_chosen_model_gives_the_vectors_it_was_measured_with(everything, model):
    row, vectors = row_of(everything, everything.way), everything.model.encode(TEXTS)
    similar = cosines(model.encode(TEXTS), vectors)
    assert row.similarity == pytest.approx(similar.mean(), abs=1e-5)
    assert row.least_cosine == pytest.approx(similar.min(), abs=1e-5)


def test_the_model_itself_stays_as_it_is_and_shares_nothing_with_the_chosen_one(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    found = model.optimize(TEXTS, ways=["int8"], rounds=1, show_table=False)
    assert model.training
    assert not found.model.training
    with torch.no_grad():
        for tensor in found.model.parameters():
            if tensor.is_floating_point():
                tensor.zero_()
    after = model.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


def test_a_model_in_half_precision_is_held_against_float32_and_stays_in_half_precision(model):
    right = model.encode(TEXTS)
    model.to(torch.bfloat16)
    rounded = model.float().encode(TEXTS)
    model.to(torch.bfloat16)
    found = model.optimize(TEXTS, ways=["float32"], rounds=1, show_table=False)
    assert model.dtype == torch.bfloat16
    assert found.model.dtype == torch.float32
    np.testing.assert_allclose(found.model.encode(TEXTS), rounded, atol=1e-6)
    assert np.abs(rounded - right).max() > 1e-4


def test_prompts_are_part_of_what_is_measured(model, monkeypatch):
    model.prompts["query"] = "what is the treatment of "
    monkeypatch.setitem(WAYS, "onnx", noise(0.1))
    plain, prompted = (
        model.optimize(TEXTS, ways=["onnx"], rounds=1, show_table=False, prompt_name=name).rows[1].similarity
        for name in (None, "query")
    )
    assert plain != prompted


# -- what is chosen ----------------------------------------------------------------------------------------


def test_a_way_below_the_budget_is_too_far_and_never_chosen(model, monkeypatch):
    right = model.encode(TEXTS)
    monkeypatch.setitem(WAYS, "onnx", noise(0.3))
    found = model.optimize(TEXTS, ways=["onnx"], rounds=1, show_table=False)
    row = row_of(found, "onnx")
    off = WAYS["onnx"].make(Workshop(model, torch.device("cpu"), TEXTS, None)).encode(TEXTS)
    assert row.similarity == pytest.approx(cosines(right, off).mean(), abs=1e-6)
    assert row.similarity < 0.98
    assert (row.verdict, row.reason) == ("too far", "least_similarity is 0.98")
    assert found.way == "float32"
    np.testing.assert_allclose(found.model.encode(TEXTS), right, atol=1e-6)


def test_of_those_near_enough_the_fastest_is_chosen_and_float32_unless_one_is_worth_it(everything, model):
    at_once = model.optimize(TEXTS, ways=["int8"], rounds=1, show_table=False, fastest_at="latency")
    for found, figure in ((everything, "times_float32"), (at_once, "times_float32_single")):
        gains = {row.way: getattr(row, figure) for row in found.rows if row.verdict in ("slower", "chosen")}
        fastest = max(gains, key=lambda way: gains[way])
        assert found.way == (fastest if gains[fastest] > LEAST_GAIN else "float32")


def test_a_way_that_is_near_enough_but_slow_is_not_chosen(model, monkeypatch):
    monkeypatch.setitem(WAYS, "onnx", noise(0.001, slow=True))
    found = model.optimize(TEXTS, ways=["onnx"], show_table=False)
    row = row_of(found, "onnx")
    assert row.similarity > 0.999
    assert row.times_float32 < 0.9
    assert (row.verdict, found.way) == ("slower", "float32")


def test_an_evaluator_has_its_say(model, monkeypatch):
    from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator

    left, right = TEXTS[:12], TEXTS[12:]
    vectors = [model.encode(column) for column in (left, right)]
    wanted = cosines(*vectors).tolist()  # so that float32's correlation is 1
    evaluator = EmbeddingSimilarityEvaluator(left, right, wanted, main_similarity="cosine")
    monkeypatch.setitem(WAYS, "onnx", noise(0.5))
    found = model.optimize(
        TEXTS,
        ways=["onnx"],
        rounds=1,
        evaluator=evaluator,
        least_similarity=None,
        least_score_kept=0.99,
        show_table=False,
    )
    assert row_of(found, "float32").score == pytest.approx(1.0, abs=1e-6)
    off = WAYS["onnx"].make(Workshop(model, torch.device("cpu"), TEXTS, None))
    score = evaluator(off)[evaluator.primary_metric]
    row = row_of(found, "onnx")
    assert row.score == pytest.approx(score)
    assert row.score_kept == pytest.approx(score / row_of(found, "float32").score)
    assert row.score_kept < 0.99
    assert (row.verdict, row.reason) == ("too far", "least_score_kept is 0.99")
    assert "kept" in found.table().splitlines()[0]


# -- what cannot be had ------------------------------------------------------------------------------------


def test_what_is_not_installed_is_listed_with_the_command_that_installs_it(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = model.optimize(TEXTS, ways=["onnx", "openvino"], rounds=1, show_table=False)
    for way in ("onnx", "openvino"):
        row = row_of(found, way)
        assert row.verdict == "not here"
        assert f"pip install 'sentence-transformers[{way}]'" in row.reason
        assert row.reason in found.table()
    assert found.way == "float32"


def test_number_types_without_instructions_for_them_are_listed(model, monkeypatch):
    monkeypatch.setattr("sentence_transformers.encoder.ways.oneDNN_computes", lambda kind: False)
    with pytest.raises(NotHereError, match="no instructions for bfloat16"):
        check_bfloat16(torch.device("cpu"))
    found = model.optimize(TEXTS, ways=["bfloat16", "float16"], rounds=1, show_table=False)
    assert [row.verdict for row in found.rows] == ["slower", "not here", "not here"] or found.way == "float32"
    assert "bfloat16" in row_of(found, "bfloat16").reason


def test_half_precision_is_tried_where_there_are_instructions(model, monkeypatch):
    monkeypatch.setattr("sentence_transformers.encoder.ways.oneDNN_computes", lambda kind: True)
    row = row_of(model.optimize(TEXTS, ways=["bfloat16"], rounds=1, show_table=False), "bfloat16")
    assert 0.99 < row.similarity < 1
    assert row.megabytes == pytest.approx(
        sum(tensor.numel() * 2 for tensor in model.parameters()) / 1e6, rel=0.05
    )


def test_a_way_that_breaks_is_listed_with_what_it_said(model, monkeypatch):
    def broken(workshop: Workshop) -> Any:
        raise RuntimeError("the exporter stumbled\nin a long trace")

    monkeypatch.setitem(WAYS, "onnx", Way(make=broken))
    row = row_of(model.optimize(TEXTS, ways=["onnx"], rounds=1, show_table=False), "onnx")
    assert (row.verdict, row.reason) == ("not here", "RuntimeError: the exporter stumbled")


def test_a_model_without_transformer_is_only_float32_on_a_plain_cpu(tmp_path):
    from tiny import tiny_tokenizer

    static = models.StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=16)
    model = SentenceTransformer(modules=[static], device="cpu")
    found = model.optimize(TEXTS, "cpu", ways=["int8", "onnx"], rounds=1, show_table=False)
    assert [row.verdict for row in found.rows] == ["chosen", "not here", "not here"]


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there_is_an_error(model):
    with pytest.raises(RuntimeError, match="sees no GPU"):
        model.optimize(TEXTS, "gpu")
    with pytest.raises(RuntimeError, match="0 CUDA devices"):
        model.optimize(TEXTS, "cuda:1")


# -- files -------------------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_models_own_folder_is_left_alone_and_a_chosen_graph_outlives_the_search(
    model, folder, monkeypatch
):
    before = files(folder)
    monkeypatch.setattr("sentence_transformers.encoder.choosing.LEAST_GAIN", 0.0)
    found = model.optimize(TEXTS, ways=["onnx-O3"], rounds=1, show_table=False)
    assert found.way == "onnx-O3"
    assert found.model.get_backend() == "onnx"
    assert files(folder) == before
    graph = found.model[0].held_model.graph
    assert graph.is_file()
    np.testing.assert_allclose(found.model.encode(TEXTS), model.encode(TEXTS), atol=1e-2)
    found.model.save_pretrained(str(folder.with_name("later")))
    del found
    assert not graph.exists()


@pytest.mark.parametrize("way", ["float32", "int8", "bfloat16", "onnx-int8", "openvino"])
def test_the_chosen_model_is_saved_where_asked_and_loads_the_same(model, tmp_path, way, monkeypatch):
    monkeypatch.setattr("sentence_transformers.encoder.choosing.LEAST_GAIN", 0.0)
    monkeypatch.setattr("sentence_transformers.encoder.ways.oneDNN_computes", lambda kind: True)
    model.prompts["query"] = "query: "
    target = tmp_path / "fast"
    found = model.optimize(
        TEXTS, ways=[way], rounds=1, least_similarity=None, folder=target, show_table=False
    )
    assert found.way == way
    again = SentenceTransformer(str(target), device="cpu", **found.load_options)
    assert again.prompts["query"] == "query: "
    assert again.dtype == found.model.dtype
    np.testing.assert_allclose(again.encode(TEXTS), found.model.encode(TEXTS), atol=1e-6)


def test_a_folder_with_something_in_it_is_refused(model, folder):
    with pytest.raises(ValueError, match="not empty"):
        model.optimize(TEXTS, folder=folder)


# -- cross-encoders ----------------------------------------------------------------------------------------


def test_a_cross_encoder_is_held_against_its_scores(scorer):
    found = scorer.optimize(PAIRS, ways=["int8", "onnx"], rounds=1, show_table=False)
    right = scorer.predict(PAIRS)
    for way in ("int8", "onnx"):
        row = row_of(found, way)
        assert row.verdict != "not here", row.reason
        scores = WAYS[way].make(Workshop(scorer, torch.device("cpu"), PAIRS, None)).predict(PAIRS)
        assert row.similarity == pytest.approx(np.corrcoef(right, scores)[0, 1], abs=1e-4)
        assert row.greatest_difference == pytest.approx(np.abs(right - scores).max(), abs=1e-5)
        assert row.least_cosine is None
    head = found.table().splitlines()[0]
    assert "correlation" in head
    assert "pairs/s" in head


# -- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": "one text"}, "Pass a list"),
        ({"texts": TEXTS[:1]}, "texts has 1 of them"),
        ({"ways": ["fp4"]}, "no way 'fp4'.*float32"),
        ({"ways": "int8"}, "Pass a list of names"),
        ({"fastest_at": "all"}, "throughput, latency"),
        ({"least_similarity": 98}, "from 0 to 1"),
        ({"least_score_kept": 0.9}, "Pass an evaluator"),
        ({"evaluator": 3}, "cannot be called"),
        ({"rounds": 0}, "1 or more"),
        ({"target": "tpu9"}, "'cpu', 'gpu'"),
        ({"prompt_name": "nobody"}, "nobody"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        model.optimize(**{"texts": TEXTS, **options})


def test_an_evaluator_must_say_which_of_its_scores_counts(model):
    with pytest.raises(ValueError, match="primary_metric"):
        model.optimize(TEXTS, evaluator=lambda model: {"one": 1.0, "two": 2.0})


def test_a_graph_is_made_into_nothing_else(model, monkeypatch):
    monkeypatch.setattr("sentence_transformers.encoder.choosing.LEAST_GAIN", 0.0)
    graph = model.optimize(TEXTS, ways=["onnx"], rounds=1, show_table=False).model
    with pytest.raises(ValueError, match="backend='torch'"):
        graph.optimize(TEXTS)


def test_a_spread_choice_reaches_over_all_items():
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 4) == [0, 1, 2]
