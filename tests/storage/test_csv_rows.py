import csv

import pytest

from sentence_transformers.storage.csv_rows import append_to_last_row


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_values_are_added_to_the_last_row(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text('a,b\n1,2\n"3,5",4\n', encoding="utf-8")
    assert append_to_last_row(path, ["x,y", 0.5])
    assert rows_of(path) == [["a", "b"], ["1", "2"], ["3,5", "4", "x,y", "0.5"]]


@pytest.mark.parametrize("content", ["", "a,b\n"])
def test_a_file_without_a_row_below_its_header_is_left_alone(tmp_path, content):
    path = tmp_path / "results.csv"
    path.write_text(content, encoding="utf-8")
    assert not append_to_last_row(str(path), [1])
    assert path.read_text(encoding="utf-8") == content


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        append_to_last_row(tmp_path / "none.csv", [1])
