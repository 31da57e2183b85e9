"""Rows come one at a time and in order, from whatever holds them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest

from sentence_transformers.inputs.row_streams import row_stream

TEXTS = ["first", "", 'with "quotes", commas\tand tabs', "naïve π", " two\u2028separated "]
RECORDS = [{"key": number, "text": text, "other": "x"} for number, text in enumerate(TEXTS)]


def texts(*arguments, **how):
    return [item for _, item in row_stream(*arguments, **how).rows]


def rows(*arguments, **how):
    return list(row_stream(*arguments, **how).rows)


def written(path, text, encoding="utf-8"):
    opens = gzip.open if path.suffix == ".gz" else open
    with opens(path, "wt", encoding=encoding, newline="") as handle:
        handle.write(text)
    return path


def separated(delimiter):
    handle = io.StringIO()
    writer = csv.DictWriter(handle, ["key", "text", "other"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(RECORDS)
    return handle.getvalue()


JSON_LINES = "".join(json.dumps(record) + "\n\n" for record in RECORDS)


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    ("ending", "content"),
    [(".jsonl", JSON_LINES), (".ndjson", JSON_LINES), (".csv", separated(",")), (".tsv", separated("\t"))],
)
def test_tables_give_the_text_column_and_any_other(tmp_path, ending, content, packed):
    path = written(tmp_path / f"rows{ending}{packed}", content)
    assert texts(path) == TEXTS
    assert texts(str(path), column="other") == ["x"] * 5
    found = rows(path, id_column="key")
    assert [str(one) for one, _ in found] == list("01234")


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_every_line_is_a_row_also_an_empty_one(tmp_path, packed):
    path = written(tmp_path / f"rows.txt{packed}", "\r\n".join(TEXTS), encoding="utf-8-sig")
    assert texts(path) == TEXTS


def test_parquet_files_and_folders_of_them_give_their_columns(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = pa.Table.from_pylist(RECORDS)
    for name, part in (("a", table.slice(0, 3)), ("b", table.slice(3))):
        pyarrow.parquet.write_table(part, tmp_path / f"{name}.parquet")
    assert texts(tmp_path) == TEXTS
    assert rows(tmp_path / "b.parquet", id_column="key", column="other") == [(3, "x"), (4, "x")]
    assert row_stream(tmp_path).count() == 5


def test_lists_generators_arrays_and_open_files_are_read_as_they_are():
    for inputs in (TEXTS, iter(TEXTS), np.array(TEXTS), dict.fromkeys(TEXTS).keys()):
        assert texts(inputs) == TEXTS
    assert texts(io.StringIO("a\nb\n")) == ["a", "b"]
    assert texts(io.StringIO(JSON_LINES), column="text") == TEXTS
    assert texts(RECORDS, column="text") == TEXTS


def test_data_sets_and_data_frames_give_a_column():
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(RECORDS)
    assert texts(data) == TEXTS
    assert texts(data["text"]) == TEXTS
    assert rows(data.to_iterable_dataset(), id_column="key", column="other")[-1] == (4, "x")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(RECORDS)
    assert texts(frame) == TEXTS
    assert rows(frame, id_column="key")[1] == (1, "")
    assert texts(frame["text"]) == TEXTS


def test_rows_are_counted_where_that_costs_little(tmp_path):
    assert row_stream(TEXTS).count() == 5
    assert row_stream(iter(TEXTS)).count() is None
    for text, lines in (("", 0), ("a", 1), ("a\n", 1), ("a\n\nb", 3)):
        path = written(tmp_path / "rows.txt", text)
        assert row_stream(path).count() == lines == len(texts(path))
    assert row_stream(written(tmp_path / "rows.txt.gz", "a\n")).count() is None


def test_nothing_is_read_before_it_is_asked_for():
    taken = []
    stream = row_stream(taken.append(text) or text for text in TEXTS)
    next(stream.rows)
    assert taken == TEXTS[:1]


def test_ids_go_with_their_rows():
    assert rows(["a", "b"], ids=iter([5, "x"])) == [(5, "a"), ("x", "b")]
    assert rows(["a"], ids=np.array([7])) == [(7, "a")]
    assert row_stream(["a"], ids=[1]).has_ids
    assert not row_stream(["a"]).has_ids


@pytest.mark.parametrize(
    ("inputs", "how", "error", "told"),
    [
        ("no such file.txt", {}, ValueError, "no file 'no such file.txt'"),
        (7, {}, ValueError, "rows from int"),
        ({"a": "b"}, {}, ValueError, "rows from dict"),
        (["a"], {"ids": [1], "id_column": "key"}, ValueError, "ids are given twice"),
        (["a", None], {}, ValueError, "Row 1 is None"),
        (["a", float("nan")], {}, ValueError, "Row 1 is nan"),
        (["a", b"b"], {}, ValueError, "Row 1 is b'b'"),
        (["a", "b"], {"ids": [1]}, ValueError, "only 1 ids"),
        (["a"], {"ids": [1, 2]}, ValueError, "more ids than inputs, of which there are 1"),
        (["a"], {"ids": [1.5]}, TypeError, "id of row 0 is 1.5"),
        (["a"], {"ids": [None]}, TypeError, "id of row 0 is None"),
        (RECORDS, {"column": "nope"}, ValueError, "no column 'nope'. There are: 'key', 'text', 'other'"),
        ([{"a": "1", "b": "2"}], {"id_column": "c"}, ValueError, "no column 'c'"),
        ([{"a": "1"}, {"b": "2"}], {"column": "a"}, ValueError, "Row 1 has no column 'a'"),
        (["a"], {"column": "a"}, ValueError, "Row 0 is str without columns"),
        (io.StringIO("{'a'"), {"column": "a"}, ValueError, "Line 1 is not valid JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_read_is_said_to_be_so(inputs, how, error, told):
    with pytest.raises(error, match=told):
        rows(inputs, **how)


@pytest.mark.parametrize(
    ("name", "content", "how", "told"),
    [
        ("rows.pdf", "x", {}, "Known endings: .txt, .jsonl"),
        ("rows.txt", "x", {"column": "text"}, "holds lines, which have no columns"),
        ("rows.csv", "a,b\n1,2\n", {}, "unclear which column to encode. Pass column=…, one of 'a', 'b'"),
        ("rows.jsonl", '{"a": 1, "b": 2}\n', {}, "unclear which column"),
        ("rows.jsonl", '{"text": "x"}\n{"text": \n', {}, "Line 2 is not valid JSON"),
        ("rows.jsonl", "[1]\n", {}, "Row 0 is list without columns"),
    ],
)
def test_files_that_cannot_be_read_are_said_to_be_so(tmp_path, name, content, how, told):
    with pytest.raises(ValueError, match=told):
        rows(written(tmp_path / name, content), **how)


def test_other_encodings_are_not_guessed(tmp_path):
    (tmp_path / "rows.txt").write_bytes("naïve\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        rows(tmp_path / "rows.txt")


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no Parquet files"):
        row_stream(Path(tmp_path))


def test_long_documents_fit_into_a_csv_field(tmp_path):
    path = written(tmp_path / "rows.csv", "text\n" + "long " * 100_000 + "\n")
    assert len(texts(path)[0]) == 500_000
