"""`encode_to`: what `encode` gives, on the disk, with every option."""

from __future__ import annotations

import copy
import gzip
import io

import numpy as np
import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.inference.to_disk import load_embeddings
from tiny import sample_texts, tiny_checkpoint

TEXTS = [f"{text} {number}" for number in range(2) for text in sample_texts()]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))
    return SentenceTransformer(
        str(folder), device="cpu", prompts={"query": "query: ", "passage": "passage: "}
    )


def written(model, path, inputs=TEXTS, **options):
    model.encode_to(path, inputs, rows_per_shard=30, **options)
    return load_embeddings(path).embeddings


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize_embeddings": True},
        {"truncate_dim": 8, "batch_size": 7},
        {"prompt": "What is meant by: "},
        {"prompt_name": "query"},
        {"precision": "binary"},
        {"precision": "ubinary", "truncate_dim": 12},
    ],
    ids=str,
)
def test_the_rows_on_the_disk_are_those_of_encode(model, tmp_path, options):
    found = written(model, tmp_path / "out.npy", iter(TEXTS), **options)
    expected = model.encode(TEXTS, **options)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_task_brings_its_prompt(model, tmp_path):
    for task, expected in (("query", model.encode_query(TEXTS)), ("document", model.encode_document(TEXTS))):
        np.testing.assert_allclose(written(model, tmp_path / f"{task}.npy", task=task), expected, atol=1e-5)


def test_half_precision_is_half_as_large(model, tmp_path):
    found = written(model, tmp_path / "out.npy", dtype="float16")
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=2e-3, rtol=2e-3)


def test_scalar_precision_uses_the_ranges_that_are_given(model, tmp_path):
    vectors = model.encode(TEXTS)
    ranges = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    found = written(model, tmp_path / "out.npy", precision="int8", ranges=ranges)
    expected = model.encode(TEXTS, precision="int8")
    assert found.dtype == np.int8
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_texts_can_be_kept(model, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    model.encode_to(tmp_path / "out", TEXTS, keep_texts=True, rows_per_shard=30)
    assert parquet.read_table(tmp_path / "out").column("text").to_pylist() == TEXTS


def test_files_of_every_kind_give_the_same(model, tmp_path):
    with gzip.open(tmp_path / "texts.txt.gz", "wt", encoding="utf-8") as handle:
        handle.writelines(text + "\n" for text in TEXTS)
    expected = model.encode(TEXTS)
    for number, inputs in enumerate([tmp_path / "texts.txt.gz", io.StringIO("\n".join(TEXTS)), tuple(TEXTS)]):
        np.testing.assert_allclose(written(model, tmp_path / f"{number}.npy", inputs), expected, atol=1e-5)


def test_pairs_are_inputs_too(model, tmp_path):
    pairs = list(zip(TEXTS, reversed(TEXTS)))
    np.testing.assert_allclose(written(model, tmp_path / "out.npy", pairs), model.encode(pairs), atol=1e-5)


def test_what_was_computed_before_changes_no_bit(minilm, tmp_path):
    # A layer that has met small batches often computes the next one with a copy of its weights, a bit differently.
    fresh = copy.deepcopy(minilm)
    rows = [f"{text} {number}" for number in range(2) for text in sample_texts()]
    fresh.encode_to(tmp_path / "fresh.npy", rows, rows_per_shard=7)
    for text in rows[:8]:
        fresh.encode(text)
    fresh.encode_to(tmp_path / "used.npy", rows, rows_per_shard=7)
    assert (tmp_path / "fresh.npy").read_bytes() == (tmp_path / "used.npy").read_bytes()


@pytest.mark.slow
def test_processes_write_what_one_process_writes(model, tmp_path):
    whole = written(model, tmp_path / "one.npy")
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    try:
        several = written(model, tmp_path / "several.npy", iter(TEXTS), pool=pool)
        np.testing.assert_allclose(several, whole, atol=1e-5)
        with pytest.raises(ValueError, match="Row 70 is None"):
            model.encode_to(tmp_path / "half.npy", [*TEXTS[:70], None], rows_per_shard=10, pool=pool)
        # The pool is as good as before.
        report = model.encode_to(tmp_path / "half.npy", TEXTS, rows_per_shard=10, pool=pool)
        assert report.tokens is None
        np.testing.assert_allclose(load_embeddings(tmp_path / "half.npy").embeddings, whole, atol=1e-5)
    finally:
        model.stop_multi_process_pool(pool)


def test_progress_counts_rows_and_tokens(model, tmp_path):
    told = []
    with pytest.raises(ValueError, match="Row 40"):
        model.encode_to(tmp_path / "out.npy", [*TEXTS[:40], None], rows_per_shard=30)
    report = model.encode_to(tmp_path / "out.npy", TEXTS, rows_per_shard=30, on_progress=told.append)
    assert (told[0].rows, told[0].total, told[0].resumed_from) == (30, 100, 30)
    assert (told[-1].rows, told[-1].total, told[-1].resumed_from) == (100, 100, 30)
    assert [one.rows for one in told] == sorted(one.rows for one in told)
    assert told[-1].tokens == report.tokens == sum(model[0].read_rows(TEXTS[30:]).lengths)


def test_another_model_does_not_go_on(model, tmp_path):
    with pytest.raises(ValueError, match="Row 40"):
        model.encode_to(tmp_path / "out.npy", [*TEXTS[:40], None], rows_per_shard=30)
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).mul_(1.01)
    with pytest.raises(ValueError, match=r"model: '\w+' before, '\w+' now"):
        other.encode_to(tmp_path / "out.npy", TEXTS, rows_per_shard=30)
    model.encode_to(tmp_path / "out.npy", TEXTS, rows_per_shard=30)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"precision": "int8"}, "needs the range of each dimension"),
        ({"ranges": np.zeros((2, 32))}, "ranges belong to the precisions"),
        ({"dtype": "float64"}, "dtype='float64'"),
        ({"dtype": "float16", "precision": "binary"}, "dtype='float16' with precision='binary'"),
        ({"rows_per_shard": 0}, "rows_per_shard=0"),
        ({"format": "hdf5"}, "format='hdf5' is unknown"),
        ({"keep_texts": True}, "kept in Parquet files only"),
        ({"prompt_name": "none"}, "'none' not found"),
        ({"nonsense": 1}, "nonsense"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_before_anything_is_written(model, tmp_path, options, told):
    with pytest.raises(ValueError, match=told):
        model.encode_to(tmp_path / "out.npy", TEXTS, **options)
    assert not list(tmp_path.iterdir())


def test_an_ending_that_tells_no_format_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="does not tell its format"):
        model.encode_to(tmp_path / "out.bin", TEXTS)


@pytest.mark.parametrize(
    ("inputs", "told"), [("one text", "no file 'one text'"), (7, "rows from int"), ([7], "Row 0 is 7")]
)
def test_what_is_no_collection_of_inputs_is_refused(model, tmp_path, inputs, told):
    with pytest.raises(ValueError, match=told):
        model.encode_to(tmp_path / "out.npy", inputs)


def test_a_folder_is_not_read_and_written_at_once(model, tmp_path):
    pytest.importorskip("pyarrow")
    model.encode_to(tmp_path / "data", TEXTS, keep_texts=True)
    with pytest.raises(ValueError, match="read and written at once"):
        model.encode_to(tmp_path / "data", tmp_path / "data", overwrite=True)
    assert load_embeddings(tmp_path / "data").embeddings.shape == (100, 32)
