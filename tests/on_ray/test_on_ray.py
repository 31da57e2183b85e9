"""Encoding on a cluster of two machines, both of them here: the results of one process, and errors at the door."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import tempfile

import numpy as np
import pytest
import torch

from sentence_transformers import CrossEncoder, SentenceTransformer, quantize_embeddings
from sentence_transformers.on_ray import encode, encode_dataset, predict, predict_dataset
from sentence_transformers.on_ray.actors import ColumnActor, Task
from tiny import sample_texts, tiny_checkpoint

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="needs ray: pip install 'sentence-transformers[ray]'",
)

pytestmark = [
    pytest.mark.slow,
    # Ray's own: sockets and files that it leaves to the garbage collector, and announcements of changes to come.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TEXTS = [f"{text} {number}" for number in range(2) for text in sample_texts()]
SMALLEST_STORE = 80 * 2**20


@pytest.fixture(scope="module")
def cluster():
    """Ray with two machines of one core each, which are processes here."""
    # Sockets lie in there, whose paths must be short.
    files = tempfile.mkdtemp(prefix="ray-")
    on_term = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", files)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray.cluster_utils import Cluster
        from ray.data import DataContext

        started = Cluster()
        try:
            for number in range(2):
                options = {"include_dashboard": False} if number == 0 else {}
                started.add_node(num_cpus=1, object_store_memory=SMALLEST_STORE, **options)
            ray.init(address=started.address, log_to_driver=False, logging_level="error")
            DataContext.get_current().enable_progress_bars = False
            yield ray
        finally:
            ray.shutdown()
            started.shutdown()
            signal.signal(signal.SIGTERM, on_term)  # Ray leaves its own
            shutil.rmtree(files, ignore_errors=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model = SentenceTransformer(str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))), device="cpu")
    model.prompts["query"] = "a query: "
    path = tmp_path_factory.mktemp("model")
    model.save(str(path))
    return path


@pytest.fixture(scope="module")
def model(folder):
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def reranker_folder(tmp_path_factory):
    model = CrossEncoder(str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))), num_labels=1)
    path = tmp_path_factory.mktemp("reranker")
    model.save(str(path))
    return path


@pytest.fixture
def one_thread():
    """Here as in the actors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def actor(folder):
    task = Task(method="encode", model=str(folder), model_options={}, device="cpu", threads=None, options={})
    return ColumnActor(task, ("text",), "embedding")


@pytest.fixture
def data_set(cluster):
    rows = [{"number": number, "text": text, "words": text.split()[:2]} for number, text in enumerate(TEXTS)]
    return cluster.data.from_items(rows, override_num_blocks=4)


def column_of(done, name):
    """A column in the order of the rows' numbers, and the rows."""
    rows = sorted(done.take_all(), key=lambda row: row["number"])
    return np.stack([row[name] for row in rows]), rows


@needs_ray
def test_a_data_set_gets_the_embeddings_of_one_process_and_keeps_its_other_columns(
    data_set, folder, model, one_thread
):
    asked = {"normalize_embeddings": True, "truncate_dim": 16, "deterministic": True}
    # Half a core each, so that some is left to other tasks.
    done = encode_dataset(data_set, folder, actors=2, num_cpus=0.5, task="query", rows_per_call=8, **asked)
    vectors, rows = column_of(done, "embedding")
    assert np.array_equal(vectors, model.encode_query(TEXTS, **asked))
    assert vectors.dtype == np.float32
    assert [row["text"] for row in rows] == TEXTS
    assert [list(row["words"]) for row in rows] == [text.split()[:2] for text in TEXTS]


@needs_ray
def test_a_model_is_sent_as_it_is_now_and_codes_have_the_given_ranges(data_set, folder):
    changed = SentenceTransformer(str(folder), device="cpu")
    with torch.no_grad():
        changed.transformers_model.embeddings.word_embeddings.weight.mul_(0.5)
    plain = changed.encode(TEXTS)
    ranges = np.stack([plain.min(axis=0), plain.max(axis=0)])
    done = encode_dataset(data_set, changed, output_column="code", precision="int8", ranges=ranges)
    codes, _ = column_of(done, "code")
    assert codes.dtype == np.int8
    expected = quantize_embeddings(plain, "int8", ranges)
    assert np.abs(codes.astype(int) - expected.astype(int)).max() <= 1  # a rounded last digit is one step


@needs_ray
def test_a_list_gets_the_embeddings_of_one_process_in_its_order(cluster, folder, model, one_thread):
    found = encode(TEXTS, folder, actors=2, chunk_size=5, prompt_name="query", deterministic=True)
    assert np.array_equal(found, model.encode(TEXTS, prompt_name="query", deterministic=True))
    assert encode([], folder).shape == model.encode([]).shape


@needs_ray
def test_pairs_get_the_scores_of_one_process(cluster, reranker_folder):
    pairs = list(zip(TEXTS, TEXTS[1:] + TEXTS[:1]))
    expected = CrossEncoder(str(reranker_folder), device="cpu").predict(pairs)
    np.testing.assert_allclose(predict(pairs, reranker_folder, actors=1), expected, atol=1e-5)
    rows = [{"number": number, "one": one, "two": two} for number, (one, two) in enumerate(pairs)]
    scored = predict_dataset(
        cluster.data.from_items(rows), CrossEncoder(str(reranker_folder)), columns=("one", "two")
    )
    scores, _ = column_of(scored, "score")
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@needs_ray
def test_what_is_wrong_is_said_before_anything_runs(cluster, data_set, folder, reranker_folder, model):
    wrong = {
        r"no column 'body'\. Its columns: 'number', 'text', 'words'": {"column": "body"},
        "a column 'words' already": {"output_column": "words"},
        "is no number to work with": {"actors": 0},
        "more at least than at most": {"actors": (3, 2)},
        "rows_per_call=0": {"rows_per_call": 0},
        "num_gpus=-1": {"num_gpus": -1},
        "needs the range of each dimension": {"precision": "int8"},
        "Precision 'int3' is not supported": {"precision": "int3"},
        "Prompt name 'song' not found": {"prompt_name": "song"},
        "Leave device out": {"model_options": {"device": "cpu"}},
    }
    for message, options in wrong.items():
        with pytest.raises(ValueError, match=message):
            encode_dataset(data_set, folder, **options)
    with pytest.raises(FileNotFoundError, match="not found"):
        encode_dataset(data_set, folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match="holds no model"):
        encode_dataset(data_set, folder.parent)
    with pytest.raises(ValueError, match=r"is a CrossEncoder, .* predict and predict_dataset"):
        encode_dataset(data_set, CrossEncoder(str(reranker_folder)))
    with pytest.raises(ValueError, match=r"is a SentenceTransformer, .* encode and encode_dataset"):
        predict_dataset(data_set, folder, columns=("text", "text"))
    with pytest.raises(ValueError, match="loaded already"):
        encode_dataset(data_set, model, model_options={"revision": "main"})
    with pytest.raises(ValueError, match="list is no Ray data set"):
        encode_dataset(TEXTS, folder)
    with pytest.raises(ValueError, match="one text"):
        encode("a text", folder)
    with pytest.raises(ValueError, match="one pair"):
        predict(("a text", "a text"), reranker_folder)


@needs_ray
def test_what_an_actor_raises_comes_out_with_its_type(cluster, folder):
    with pytest.raises(ValueError, match="of type object: unsupported input type"):
        encode(["a text", object()], folder, actors=1, chunk_size=1)


@needs_ray
def test_an_actor_says_what_is_wrong_with_rows(actor):
    import pyarrow

    with pytest.raises(ValueError, match="Column 'text' holds nothing in 1 of 2 rows"):
        actor(pyarrow.table({"text": ["a text", None]}))
    # Ray does not always know the columns before it has computed them.
    with pytest.raises(ValueError, match=r"no column 'text'\. Its columns: 'body'"):
        actor(pyarrow.table({"body": ["a text"]}))


@needs_ray
def test_a_table_without_rows_gets_a_column_of_the_same_type(actor):
    import pyarrow

    full = actor(pyarrow.table({"text": ["a text"]}))
    assert actor(pyarrow.table({"text": ["a text"]}).slice(0, 0)).schema == full.schema


def test_without_ray_one_is_told_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "ray" else found(name, *more)
    )
    for ask in (encode_dataset, encode, predict_dataset, predict):
        with pytest.raises(ImportError, match=r"pip install 'sentence-transformers\[ray\]'"):
            ask([], "all-MiniLM-L6-v2")
