"""Rows are cut, joined and put together again without any of them being lost or changed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sentence_transformers.losses.cached import put_together
from sentence_transformers.losses.features import can_slice, cut, embed_columns, join, row_count, take_rows
from sentence_transformers.tensors.embeddings import Embeddings


class Bag(nn.Module):
    """Embeds a text as the sum of its ids and of the squares of its ids; notes how large its batches were."""

    def __init__(self, computes_no_padding: bool = True) -> None:
        super().__init__()
        self.computes_no_padding = computes_no_padding
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, given):
        self.shapes.append(tuple(given["input_ids"].shape))
        if "offsets" in given:
            rows = [
                ids.double() for ids in torch.tensor_split(given["input_ids"], given["offsets"][1:].cpu())
            ]
            sums = torch.stack([torch.stack([ids.sum(), (ids**2).sum()]) for ids in rows])
        else:
            ids = given["input_ids"].double() * given["attention_mask"]
            sums = torch.stack([ids.sum(dim=1), (ids**2).sum(dim=1)], dim=1)
        return {**given, "sentence_embedding": sums * (2 if given.get("task") == "query" else 1)}


def padded(rows: list[list[int]], side: str = "right", **settings):
    """Padded texts; where the padding stands, ids are garbage."""
    longest = max((len(row) for row in rows), default=0)
    ids, mask = torch.full((len(rows), longest), 99), torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(longest - len(row), longest)
        ids[number, place], mask[number, place] = torch.tensor(row, dtype=torch.long), 1
    return {"input_ids": ids, "attention_mask": mask, **settings}


def flat(rows: list[list[int]], **settings):
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.tensor([number for row in rows for number in row], dtype=torch.long)
    return {"input_ids": ids, "offsets": lengths.cumsum(0) - lengths, **settings}


def sums(rows: list[list[int]], factor: int = 1) -> torch.Tensor:
    """What `Bag` makes of them."""
    made = [[factor * sum(row), factor * sum(number**2 for number in row)] for row in rows]
    return torch.tensor(made, dtype=torch.double).reshape(len(rows), 2)


def some_rows(count: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (count,), generator=generator).tolist()
    return [torch.randint(1, 50, (length,), generator=generator).tolist() for length in lengths]


def cut_and_put_together(columns, model=None, **limits) -> list[torch.Tensor]:
    models = [model or Bag()] * len(columns)
    pieces = list(cut(models, columns, **limits))
    results = [Embeddings.read(piece.model(piece.features)) for piece in pieces]
    return [column.values for column in put_together(pieces, results, len(columns))]


ROWS = st.lists(st.lists(st.integers(1, 90), max_size=6), min_size=1, max_size=9)
LIMITS = st.sampled_from(
    [{"max_rows": 1}, {"max_rows": 4}, {"max_rows": None, "max_tokens": 5}, {"max_rows": 2, "max_tokens": 30}]
)


@given(
    st.lists(ROWS, min_size=1, max_size=3), LIMITS, st.sampled_from(["right", "left", "flat"]), st.booleans()
)
def test_pieces_put_together_are_the_columns(columns, limits, form, joined):
    made = [flat(rows) if form == "flat" else padded(rows, form) for rows in columns]
    found = cut_and_put_together(made, Bag(joined), **limits)
    for rows, embedded in zip(columns, found):
        torch.testing.assert_close(embedded, sums(rows))


@given(ROWS, st.randoms(use_true_random=False), st.sampled_from(["right", "left", "flat"]))
def test_rows_are_taken_in_the_order_asked_for(rows, random, form):
    numbers = random.choices(range(len(rows)), k=4)
    made = flat(rows) if form == "flat" else padded(rows, form)
    taken = take_rows(made, torch.tensor(numbers))
    assert row_count(taken) == 4
    torch.testing.assert_close(Bag()(taken)["sentence_embedding"], sums([rows[number] for number in numbers]))


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_that_no_row_needs_is_cut_off(side):
    column = padded([[1], [2, 3, 4, 5], [6, 7]], side)
    assert take_rows(column, torch.tensor([0, 2]))["input_ids"].shape == (2, 2)
    assert take_rows(column, torch.tensor([1]))["input_ids"].shape == (1, 4)


def test_a_text_without_tokens_is_a_row_like_others():
    column = padded([[], [5, 6], []])
    torch.testing.assert_close(cut_and_put_together([column], max_rows=2)[0], sums([[], [5, 6], []]))
    alone = take_rows(column, torch.tensor([0, 2]))
    assert row_count(alone) == 2


def test_a_piece_keeps_to_its_number_of_rows():
    model = Bag()
    cut_and_put_together([padded(some_rows(10)), padded(some_rows(9, seed=1))], model, max_rows=4)
    assert [rows for rows, _ in model.shapes] == [4, 4, 4, 4, 3]


def test_a_piece_keeps_to_its_number_of_tokens_instead_where_that_is_given():
    model = Bag()
    rows = [[1] * length for length in (30, 3, 3, 1, 9, 2, 1, 1, 1)]
    cut_and_put_together([padded(rows)], model, max_rows=1, max_tokens=12)
    assert sorted(model.shapes, reverse=True) == [(4, 3), (3, 1), (1, 30), (1, 9)]


def test_rows_that_have_no_tokens_to_count_keep_to_the_number_of_rows():
    column = {"pixel_values": torch.arange(10.0).reshape(5, 2)}
    pieces = cut([nn.Identity()], [column], max_rows=2, max_tokens=100)
    assert [len(piece.features["pixel_values"]) for piece in pieces] == [2, 2, 1]


@pytest.mark.parametrize("limits", [{"max_rows": 0}, {"max_rows": 3, "max_tokens": 0}])
def test_a_limit_below_one_is_refused(limits):
    with pytest.raises(ValueError, match="embeds nothing"):
        list(cut([Bag()], [padded([[1]])], **limits))


def test_columns_go_through_a_model_at_once_only_if_it_computes_no_padding():
    columns = [padded(some_rows(3)), padded(some_rows(4, seed=1)), padded(some_rows(2, seed=2))]
    for computes_no_padding, calls in ((True, 1), (False, 3)):
        model = Bag(computes_no_padding)
        embed_columns([model] * 3, columns)
        assert len(model.shapes) == calls


def test_columns_of_different_tasks_prompts_or_entries_stay_apart():
    rows = some_rows(3)
    token_types = {"token_type_ids": torch.zeros(3, max(map(len, rows)), dtype=torch.long)}
    columns = [
        padded(rows, task="query"),
        padded(rows, task="document"),
        padded(rows, task="query"),
        padded(rows, task="query", prompt_length=2),
        padded(rows, task="query", **token_types),
    ]
    model = Bag()
    embedded = embed_columns([model] * 5, columns)
    assert [shape[0] for shape in model.shapes] == [6, 3, 3, 3]
    for column, factor in zip(embedded, (2, 1, 2, 2, 2)):
        torch.testing.assert_close(column.values, sums(rows, factor))
    for column, factor in zip(cut_and_put_together(columns, max_rows=2), (2, 1, 2, 2, 2)):
        torch.testing.assert_close(column, sums(rows, factor))


def test_columns_of_different_models_stay_apart():
    first, second = Bag(), Bag()
    columns = [padded(some_rows(3)), padded(some_rows(2, seed=1)), padded(some_rows(4, seed=2))]
    embed_columns([first, second, first], columns)
    assert ([shape[0] for shape in first.shapes], [shape[0] for shape in second.shapes]) == ([7], [2])


@pytest.mark.parametrize(
    "settings",
    [
        {"modality": ("text", "image")},
        {"modality": ["text", "image", "audio"]},
        {"prompt_length": torch.tensor([2, 2, 2])},
        {"prompt_length": torch.tensor(2)},
        {"task": None},
    ],
    ids=str,
)
def test_settings_of_a_column_are_no_rows(settings):
    column = padded(some_rows(3), **settings)
    assert can_slice(column)
    taken = take_rows(column, torch.tensor([0]))
    assert all(taken[name] is value for name, value in settings.items())
    assert join([column, column])[next(iter(settings))] is next(iter(settings.values()))


def test_lists_with_an_entry_for_each_row_are_cut_and_never_joined():
    rows = some_rows(3)
    column = padded(rows, sources=["a", "b", "c"])
    assert take_rows(column, torch.tensor([2, 0]))["sources"] == ["c", "a"]
    model = Bag()
    embed_columns([model] * 2, [column, column])
    assert len(model.shapes) == 2


@pytest.mark.parametrize(
    "column",
    [
        # Patches of all images one after another, and how many each has.
        {**padded(some_rows(3)), "pixel_values": torch.zeros(17, 4), "image_grid_thw": torch.ones(3, 3)},
        {
            "input_ids": torch.ones(1, 9),
            "row_lengths": [2, 3, 4],
            "cu_seq_lens_q": torch.tensor([0, 2, 5, 9]),
        },
    ],
    ids=["patches", "packed"],
)
def test_a_column_whose_rows_cannot_be_told_apart_stays_whole(column):
    (piece,) = cut([nn.Identity()], [column], max_rows=1)
    assert piece.features is column
    assert piece.owners[0][1].tolist() == [0, 1, 2]


def test_features_without_rows_are_refused():
    with pytest.raises(ValueError, match="no tensor with rows"):
        row_count({"task": "query", "prompt_length": torch.tensor([1, 2])})
