"""Results written to their places, whatever order and container."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.inference.engine import first_occurrences
from sentence_transformers.inference.sinks import ArraySink, ListSink, TensorSink

ROWS = torch.arange(24, dtype=torch.float32).reshape(8, 3)


def content(sink):
    if isinstance(sink, ListSink):
        return torch.stack(sink.items).numpy()
    return sink.array if isinstance(sink, ArraySink) else sink.tensor.numpy()


@given(
    st.permutations(range(8)),
    st.lists(st.integers(1, 8), max_size=3),
    st.sampled_from([ArraySink, TensorSink, ListSink]),
)
def test_rows_that_come_in_any_order_and_in_batches_of_any_size_get_to_their_places(order, cuts, kind):
    sink = kind(8)
    for batch in np.split(np.array(order), sorted(cuts)):
        if len(batch):
            sink.put(batch.tolist(), ROWS[batch])
    np.testing.assert_array_equal(content(sink), ROWS.numpy())


@given(
    st.lists(st.sampled_from("abc"), min_size=2, max_size=12),
    st.sampled_from([ArraySink, TensorSink, ListSink]),
)
def test_repeated_rows_get_what_their_first_one_got(texts, kind):
    first = first_occurrences(texts)
    if first is None:
        return
    sink = kind(len(texts))
    for number in np.flatnonzero(first == np.arange(len(first))):
        sink.put([number], ROWS["abc".index(texts[number])][None])
    sink.repeat(first)
    np.testing.assert_array_equal(content(sink), ROWS[["abc".index(text) for text in texts]].numpy())


@pytest.mark.parametrize("kind", [ArraySink, TensorSink])
def test_many_repeated_rows_are_copied_in_several_pieces(kind):
    sink = kind(200_000)
    sink.put([0, 1], torch.tensor([3.0, 4.0]))
    sink.repeat(np.array([0, 1] * 100_000))
    np.testing.assert_array_equal(content(sink), [3.0, 4.0] * 100_000)


def test_an_array_keeps_the_type_of_the_results_save_for_one_that_numpy_lacks():
    for given_type, kept in (
        (torch.float32, "float32"),
        (torch.float16, "float16"),
        (torch.bfloat16, "float32"),
    ):
        sink = ArraySink(8)
        sink.put(range(8), ROWS.to(given_type))
        assert sink.array.dtype == kept
        np.testing.assert_array_equal(sink.array, ROWS.numpy())


def test_a_tensor_keeps_the_type_of_the_results():
    for kept in (torch.float32, torch.float16, torch.bfloat16, torch.int8):
        sink = TensorSink(8)
        sink.put(range(8), ROWS.to(kept))
        assert sink.tensor.dtype == kept


def test_results_without_a_width_make_a_flat_array():
    for kind in (ArraySink, TensorSink):
        sink = kind(3)
        sink.put([2, 0], torch.tensor([7.0, 5.0]))
        sink.put([1], torch.tensor([6.0]))
        np.testing.assert_array_equal(content(sink), [5, 6, 7])


def test_room_is_made_once_and_filled_in_place():
    sink = ArraySink(8)
    sink.put([3], ROWS[3:4])
    room = sink.array
    sink.put([0, 1], ROWS[:2])
    assert sink.array is room
    assert room.shape == (8, 3)


def test_what_was_made_in_inference_mode_can_be_changed_and_trained_on_afterwards():
    listed, stacked = ListSink(3), TensorSink(2)
    with torch.inference_mode():
        rows = torch.ones(2, 3)
        stacked.put([0, 1], rows)
        listed.put([0], [rows[0]])
        listed.put([1], [{"token_embeddings": rows, "all_layer_embeddings": [rows, rows], "task": "query"}])
        listed.put([2], [rows[1]])
    found = [stacked.tensor, listed.items[0], listed.items[2], listed.items[1]["token_embeddings"]]
    for tensor in [*found, *listed.items[1]["all_layer_embeddings"]]:
        assert not tensor.is_inference()
        tensor.add_(1)
    assert listed.items[1]["task"] == "query"


def test_a_listed_row_does_not_keep_its_whole_batch_alive():
    sink = ListSink(1)
    with torch.inference_mode():
        batch = torch.ones(1000, 4)
        sink.put([0], [batch[5]])
    assert sink.items[0].untyped_storage().nbytes() == 16


def test_repeated_entries_of_a_list_are_copies():
    sink = ListSink(3)
    sink.put([0], [{"token_embeddings": torch.ones(2, 3)}])
    sink.repeat(np.array([0, 0, 0]))
    sink.items[0]["token_embeddings"].zero_()
    assert sink.items[1]["token_embeddings"].sum() == 6
    assert sink.items[2]["token_embeddings"].sum() == 6


def test_a_sink_without_results_stays_empty():
    for sink in (ArraySink(0), TensorSink(0), ListSink(0)):
        sink.repeat(np.array([], dtype=np.int64))
    assert ArraySink(0).array is None
    assert TensorSink(0).tensor is None
    assert ListSink(0).items == []
