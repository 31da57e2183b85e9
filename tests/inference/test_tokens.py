"""Inputs on their way to batches: read ahead, padded to rungs, or prepared by the model itself."""

from __future__ import annotations

import threading

import pytest
import torch

from sentence_transformers.inference.tokens import RawSource, RowSource, ahead
from sentence_transformers.inputs.rungs import RUNGS
from sentence_transformers.models import Transformer
from tiny import sample_texts, tiny_checkpoint


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_what_is_read_ahead_comes_in_order(count):
    assert list(ahead(lambda item: item * 10, list(range(count)))) == [item * 10 for item in range(count)]


def test_the_next_item_is_read_while_the_present_one_is_used():
    reading_second = threading.Event()

    def read(item):
        if item == 1:
            reading_second.set()
        return item

    results = ahead(read, [0, 1, 2])
    assert next(results) == 0
    assert reading_second.wait(timeout=10)
    assert list(results) == [1, 2]


def test_no_more_than_one_item_is_read_ahead():
    read_so_far = []
    results = ahead(lambda item: read_so_far.append(item), list(range(50)))
    for number, _ in enumerate(results):
        assert len(read_so_far) <= number + 2


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_an_error_while_reading_is_raised_where_its_item_would_come(bad):
    def read(item):
        if item == bad:
            raise ValueError(f"item {item}")
        return item

    results = ahead(read, [0, 1, 2, 3])
    assert [next(results) for _ in range(bad)] == list(range(bad))
    with pytest.raises(ValueError, match=f"item {bad}"):
        next(results)


def test_a_single_item_needs_no_thread():
    assert list(ahead(lambda item: threading.current_thread(), ["one"])) == [threading.main_thread()]


def test_the_reading_thread_ends_when_the_reader_stops_early():
    results = ahead(lambda item: item, [1, 2, 3])
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tokenise")]


def test_a_raw_source_hands_over_inputs_as_they_came_and_orders_them_by_their_characters():
    seen = []
    source = RawSource(lambda items: seen.append(items) or {"input_ids": torch.ones(len(items), 1)})
    rows = source.read(["aaaa" * 5, "b", ("cc", "dddddd"), object()])
    assert rows.lengths == [6, 1, 3, 1]
    features = source.collate(rows.take([2, 0]))
    assert seen == [[("cc", "dddddd"), "aaaa" * 5]]
    assert features["input_ids"].shape == (2, 1)


def test_inputs_whose_cost_nobody_knows_come_in_batches_of_the_documented_size():
    assert RawSource(dict).usual_rows == 32
    assert RowSource.usual_rows is None


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        family: Transformer(str(tiny_checkpoint(family, folder / family)))
        for family in ("bert", "roberta", "qwen3")
    }


@pytest.mark.parametrize("family", ["bert", "roberta", "qwen3"])
@pytest.mark.parametrize("limit", [100, 128])
def test_padding_to_a_rung_changes_no_embedding_and_stays_within_the_limit(modules, family, limit):
    module = modules[family]
    module.max_seq_length = limit
    plain = RowSource(module, packed=False, device=torch.device("cpu"))
    stepped = RowSource(module, packed=False, device=torch.device("mps"))
    texts = [*sample_texts()[:3], " ".join(sample_texts()[:6])]
    for chosen in (texts[:1], texts[:3], texts):
        rows = plain.read(chosen)
        narrow, wide = plain.collate(rows), stepped.collate(rows)
        assert wide["input_ids"].shape[1] in (*RUNGS, limit)
        assert wide["input_ids"].shape[1] <= limit
        assert wide["attention_mask"].sum(dim=1).tolist() == rows.lengths
        with torch.inference_mode():
            narrow, wide = module(narrow), module(wide)
        torch.testing.assert_close(
            wide["token_embeddings"][wide["attention_mask"].bool()],
            narrow["token_embeddings"][narrow["attention_mask"].bool()],
            atol=1e-5,
            rtol=0,
        )


def test_only_devices_on_which_shapes_are_dear_get_rungs(modules):
    module = modules["bert"]
    rows = module.read_rows(["a few words"])
    for device in ("cpu", "cuda"):
        collated = RowSource(module, packed=False, device=torch.device(device)).collate(rows)
        assert collated["input_ids"].shape[1] == rows.lengths[0]
