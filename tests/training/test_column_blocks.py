from __future__ import annotations

import io

from datasets import Dataset, Features, Image, Value

from sentence_transformers.training.column_blocks import column_blocks, column_names

ROWS = [{"a": f"text {number}", "n": number} for number in range(5)]


def everything(name: str) -> bool:
    return True


def test_a_dataset_and_a_list_of_dictionaries_read_alike():
    for dataset in (ROWS, Dataset.from_list(ROWS)):
        blocks = list(column_blocks(dataset, everything, rows_per_block=2))
        assert [len(block["a"]) for block in blocks] == [2, 2, 1]
        assert [number for block in blocks for number in block["n"]] == [0, 1, 2, 3, 4]
        assert column_names(dataset) == ["a", "n"]


def test_only_columns_that_are_asked_for_are_read():
    for dataset in (ROWS, Dataset.from_list(ROWS)):
        assert [list(block) for block in column_blocks(dataset, lambda name: name == "n")] == [["n"]]


def test_shuffled_rows_come_in_their_new_order():
    shuffled = Dataset.from_list(ROWS).shuffle(seed=1)
    read = [number for block in column_blocks(shuffled, everything) for number in block["n"]]
    assert read == shuffled["n"][:]


def test_another_format_has_no_effect_and_a_transform_has():
    dataset = Dataset.from_list(ROWS)
    in_torch = next(column_blocks(dataset.with_format("torch"), everything))
    assert in_torch["n"] == [0, 1, 2, 3, 4]
    transformed = dataset.with_transform(lambda block: {"upper": [text.upper() for text in block["a"]]})
    assert next(column_blocks(transformed, everything)) == {"upper": [row["a"].upper() for row in ROWS]}


def test_images_stay_as_they_are_stored():
    from PIL import Image as PillowImage

    file = io.BytesIO()
    PillowImage.new("RGB", (2, 2), "red").save(file, "PNG")
    dataset = Dataset.from_dict(
        {"image": [{"bytes": file.getvalue(), "path": None}], "text": ["red"]},
        features=Features({"image": Image(), "text": Value("string")}),
    )
    assert next(column_blocks(dataset, everything))["image"][0]["bytes"] == file.getvalue()


def test_an_empty_data_set_has_no_block():
    assert list(column_blocks([], everything)) == []
    assert list(column_blocks(Dataset.from_dict({"a": []}), everything)) == []
    assert column_names([]) == []
