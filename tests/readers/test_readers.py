"""What the readers of one kind of file give; each is a few lines over `text_files`."""

from __future__ import annotations

import csv
import gzip

import pytest

from sentence_transformers.readers import (
    LabelSentenceReader,
    NLIDataReader,
    PairedFilesReader,
    STSBenchmarkDataReader,
    STSDataReader,
    TripletReader,
)


@pytest.fixture
def write(tmp_path):
    """Write a text file, packed if the name says so."""

    def written(name, text):
        open_file = gzip.open if name.endswith(".gz") else open
        with open_file(tmp_path / name, "wt", encoding="utf-8", newline="") as file:
            file.write(text)
        return tmp_path / name

    return written


def contents(examples):
    return [(example.guid, example.texts, example.label) for example in examples]


def test_labels_are_numbered_as_they_appear(tmp_path, write):
    write("train.tsv", "pos\tgood one\nneg\tbad “one”\n\npos\tnice \n")
    write("test.tsv", "neg\tugh\nnone\tso so\n")
    reader = LabelSentenceReader(tmp_path)
    assert contents(reader.get_examples("train.tsv")) == [
        ("train.tsv-0", ["good one"], 0),
        ("train.tsv-1", ["bad “one”"], 1),
        ("train.tsv-2", ["nice"], 0),
    ]
    assert [example.label for example in reader.get_examples("test.tsv")] == [1, 2]
    assert reader.label_map == {"pos": 0, "neg": 1, "none": 2}


def test_columns_and_their_separator_can_be_chosen(tmp_path, write):
    write("train.csv", "1;good;pos\n")
    reader = LabelSentenceReader(str(tmp_path), label_col_idx=2, sentence_col_idx=1, separator=";")
    assert contents(reader.get_examples("train.csv")) == [("train.csv-0", ["good"], 0)]


@pytest.mark.parametrize("name", ["sts.tsv", "sts.tsv.gz"])
def test_scores_are_mapped_to_the_unit_interval(name, tmp_path, write):
    write(name, 'a\tb\t2.5\n"q\tw\t5\ne\tf\t0\n')
    assert contents(STSDataReader(tmp_path).get_examples(name)) == [
        (f"{name}0", ["a", "b"], 0.5),
        (f"{name}1", ['"q', "w"], 1.0),
        (f"{name}2", ["e", "f"], 0.0),
    ]
    scores = [example.label for example in STSDataReader(tmp_path, normalize_scores=False).get_examples(name)]
    assert scores == [2.5, 5.0, 0.0]
    shifted = STSDataReader(tmp_path, min_score=1, max_score=3).get_examples(name)
    assert [example.label for example in shifted] == [0.75, 2.0, -0.5]


def test_quotes_count_where_the_file_has_them(tmp_path, write):
    write("sts.csv", '"one, two",b,5\n')
    reader = STSDataReader(tmp_path, delimiter=",", quoting=csv.QUOTE_MINIMAL)
    assert contents(reader.get_examples("sts.csv")) == [("sts.csv0", ["one, two", "b"], 1.0)]


def test_the_benchmark_has_its_own_columns(tmp_path, write):
    write(
        "sts-dev.csv",
        "main\tf\t2012\t0001\t5.0\tA plane.\tAn air plane.\nmain\tf\t2012\t4\t2.5\tX\tY\tmore\n",
    )
    assert contents(STSBenchmarkDataReader(tmp_path).get_examples("sts-dev.csv")) == [
        ("sts-dev.csv0", ["A plane.", "An air plane."], 1.0),
        ("sts-dev.csv1", ["X", "Y"], 0.5),
    ]


def test_triplets_are_read_below_a_header(tmp_path, write):
    write("triplets.tsv", 'anchor\tlike\tunlike\na\tb\tc\n"d\te\tf\n')
    examples = TripletReader(tmp_path, has_header=True).get_examples("triplets.tsv")
    assert contents(examples) == [("", ["a", "b", "c"], 0), ("", ['"d', "e", "f"], 0)]
    assert len(TripletReader(tmp_path).get_examples("triplets.tsv")) == 3
    turned = TripletReader(tmp_path, s1_col_idx=2, s3_col_idx=0, has_header=True)
    assert turned.get_examples("triplets.tsv", 1)[0].texts == ["c", "b", "a"]


@pytest.mark.parametrize("name", ["train", "train.gz"])
def test_inference_data_is_read_from_three_files(name, tmp_path, write):
    write(f"s1.{name}", "one\ntwo\nthree\n")
    write(f"s2.{name}", "eins\r\nzwei\r\ndrei\r\n")
    write(f"labels.{name}", "contradiction\nentailment\nneutral\n")
    assert contents(NLIDataReader(tmp_path).get_examples(name)) == [
        (f"{name}-0", ["one", "eins"], 0),
        (f"{name}-1", ["two", "zwei"], 1),
        (f"{name}-2", ["three", "drei"], 2),
    ]
    assert NLIDataReader(tmp_path).get_num_labels() == 3


def test_an_unknown_label_is_told(tmp_path):
    with pytest.raises(ValueError, match="Unknown label 'maybe'"):
        NLIDataReader(tmp_path).map_label("maybe")


def test_lines_of_several_files_belong_together(write):
    paths = [write("en", "one\ntwo\nthree\n"), write("de.gz", "eins\nzwei\n"), write("fr", "un\ndeux\n")]
    assert contents(PairedFilesReader(paths).get_examples()) == [
        ("0", ["one", "eins", "un"], 1),
        ("1", ["two", "zwei", "deux"], 1),
    ]


def test_every_reader_stops_at_the_number_asked_for(tmp_path, write):
    table = write("table.tsv", "1\t2\t3\t4\t5\t6\t7\n" * 5)
    for reader in (
        LabelSentenceReader(tmp_path),
        STSDataReader(tmp_path),
        STSBenchmarkDataReader(tmp_path),
        TripletReader(tmp_path),
    ):
        assert len(reader.get_examples("table.tsv", 2)) == 2
        assert len(reader.get_examples("table.tsv", max_examples=0)) == 5
    assert len(PairedFilesReader([table, table]).get_examples(2)) == 2
    for part in ("s1", "s2", "labels"):
        write(f"{part}.x", "neutral\n" * 5)
    assert len(NLIDataReader(tmp_path).get_examples("x", 2)) == 2


@pytest.mark.parametrize(
    "reader",
    [LabelSentenceReader, STSDataReader, STSBenchmarkDataReader, TripletReader],
    ids=lambda r: r.__name__,
)
def test_a_row_with_too_few_columns_is_told_with_its_place(reader, tmp_path, write):
    write("table.tsv", "0\t1\t2\t3\t4\t5\t6\nalone\n")
    with pytest.raises(ValueError, match=r"table\.tsv, line 2: column \d is asked for.*has 1 column"):
        reader(tmp_path).get_examples("table.tsv")
