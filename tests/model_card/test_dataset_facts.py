"""What is read off data sets."""

from __future__ import annotations

import pytest

from sentence_transformers.model_card.dataset_facts import (
    SAMPLED_ROWS,
    column_statistics,
    dataset_origin,
    dataset_size,
    example_rows,
    first_rows,
)

datasets = pytest.importorskip(
    "datasets", reason='needs datasets: pip install "sentence-transformers[train]"'
)


def test_statistics_say_what_a_column_holds():
    rows = {
        "text": ["ab", "abcd"],
        "score": [0.5, 1.0],
        "label": [0, 0],
        "number": list(range(20)),
        "vector": [[1, 2], [1, 2, 3, 4]],
        "thing": [object()],
    }
    statistics = column_statistics(rows)
    assert statistics["text"] == {
        "type": "string",
        "min": "2 characters",
        "mean": "3.0 characters",
        "max": "4 characters",
    }
    assert statistics["score"] == {"type": "float", "min": "0.5", "mean": "0.75", "max": "1.0"}
    assert statistics["label"] == {"type": "int", "values": "0: 100.0%"}
    assert statistics["number"]["max"] == "19"
    assert statistics["vector"]["mean"] == "3.0 elements"
    assert statistics["thing"] == {"type": "object"}


def test_texts_are_measured_in_tokens_when_they_can_be_counted():
    statistics = column_statistics(
        {"text": ["a b", "a b c d"]}, lambda texts: [len(text.split()) for text in texts]
    )
    assert statistics["text"]["max"] == "4 tokens"


def test_only_the_first_rows_are_read():
    data = datasets.Dataset.from_dict({"text": [str(number) for number in range(SAMPLED_ROWS + 5)]})
    rows = first_rows(data)
    assert len(rows["text"]) == SAMPLED_ROWS
    assert dataset_size(data) == SAMPLED_ROWS + 5
    assert example_rows(rows, 2) == [{"text": "0"}, {"text": "1"}]


def test_a_streamed_data_set_is_not_read():
    def never():
        raise AssertionError("read")
        yield {}

    data = datasets.IterableDataset.from_generator(never)
    assert first_rows(data) == {}
    assert dataset_size(data) is None


def test_columns_that_would_have_to_be_decoded_are_not_read():
    features = datasets.Features({"picture": datasets.Image(), "text": datasets.Value("string")})
    data = datasets.Dataset.from_dict(
        {"picture": [{"path": "not/there.png"}], "text": ["a"]}, features=features
    )
    assert first_rows(data) == {"text": ["a"]}


def test_the_origin_is_read_from_the_addresses_of_the_downloaded_files():
    data = datasets.Dataset.from_dict({"text": ["a"]})
    data.info.download_checksums = {"hf://datasets/owner/some-set@0123abcd/pair/train.parquet": {}}
    data.info.dataset_name = "some-set"
    assert dataset_origin(data) == {"id": "owner/some-set", "revision": "0123abcd", "name": "some-set"}
    assert dataset_origin(["a", "b"]) == {}
