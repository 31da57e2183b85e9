"""How much of the float embeddings' quality quantised ones keep, on real questions and texts."""

import importlib.util
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "examples" / "embedding_quantization" / "quantization_demo.py"


@pytest.fixture(scope="module")
def demo():
    """The example whose table says the same."""
    spec = importlib.util.spec_from_file_location("quantization_demo", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def ndcg(demo, minilm, shared_data, tmp_path_factory):
    """nDCG@10 on Cranfield, whose texts are hard to tell apart, by how the corpus is stored and searched."""
    data = demo.read_folder(shared_data / "cranfield")
    queries = minilm.encode(list(data.queries.values()), normalize_embeddings=True)
    corpus = minilm.encode(list(data.documents.values()), normalize_embeddings=True)
    folder = tmp_path_factory.mktemp("vectors")
    return {way.label: demo.measure(way, data, queries, corpus, folder)[0] for way in demo.WAYS}


@pytest.mark.slow
def test_float32_has_the_known_quality(ndcg):
    assert 100 * ndcg["float32"] == pytest.approx(39.60, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "kept"),
    [
        ("int8", 0.99),
        ("int8, rescored", 0.99),
        ("binary, rescored", 0.9),
        ("binary, rescored by int8 on disk", 0.98),
        ("binary, rescored by float32 on disk", 0.98),
    ],
)
def test_quantised_embeddings_keep_most_of_it(ndcg, way, kept):
    assert ndcg[way] >= kept * ndcg["float32"]


@pytest.mark.slow
def test_rescoring_wins_back_what_the_bits_lost(ndcg):
    assert ndcg["binary"] < ndcg["binary, rescored"] < ndcg["binary, rescored by int8 on disk"]
