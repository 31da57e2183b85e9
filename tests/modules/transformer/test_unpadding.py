"""Padding taken out of a batch, and put back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.modules.transformer import unpadding

IDS = torch.tensor([[5, 6, 7, 0], [8, 0, 0, 0], [0, 0, 0, 0], [9, 10, 11, 12]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
FEATURES = {"input_ids": IDS, "attention_mask": MASK}


def test_tokens_lie_one_after_another_the_shortest_row_first():
    packed, layout, places = unpadding.pack(FEATURES, offset=2)
    assert packed["input_ids"].tolist() == [[8, 5, 6, 7, 9, 10, 11, 12]]
    assert packed["position_ids"].tolist() == [[2, 2, 3, 4, 2, 3, 4, 5]]
    assert packed["cu_seq_lens_q"].tolist() == [0, 0, 1, 4, 8]
    assert layout.lengths == tuple(packed["row_lengths"]) == (0, 1, 3, 4)
    assert places.tolist() == [4, 0, 1, 2, 12, 13, 14, 15]


def test_token_types_go_with_their_tokens():
    kinds = torch.arange(16).view(4, 4)
    packed, _, places = unpadding.pack({**FEATURES, "token_type_ids": kinds}, offset=0)
    assert packed["token_type_ids"].tolist() == [places.tolist()]
    assert "token_type_ids" not in unpadding.pack(FEATURES, offset=0)[0]


def test_rows_padded_on_the_left_are_read_from_their_first_token_on():
    features = {
        "input_ids": torch.tensor([[0, 0, 5, 6], [7, 8, 9, 10]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
    }
    packed, _, places = unpadding.pack(features, offset=0)
    assert packed["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10]]
    assert packed["position_ids"].tolist() == [[0, 1, 0, 1, 2, 3]]
    assert places.tolist() == [2, 3, 4, 5, 6, 7]


@given(
    st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=6),
    st.sampled_from([torch.int64, torch.bool, torch.float32]),
)
def test_every_token_comes_back_to_its_place_and_padding_is_zero(rows, dtype):
    mask = torch.tensor(rows)
    ids = torch.arange(1, mask.numel() + 1).view(mask.shape)
    packed, layout, places = unpadding.pack({"input_ids": ids, "attention_mask": mask.to(dtype)}, offset=0)
    assert layout.total == int(mask.sum())
    tokens = packed["input_ids"][0][:, None].float()
    spread = unpadding.spread(tokens, places, mask.shape)
    assert spread.shape == (*mask.shape, 1)
    assert torch.equal(spread[..., 0], (ids * mask).float())


def test_gradients_go_back_to_the_tokens_alone():
    _, layout, places = unpadding.pack(FEATURES, offset=0)
    tokens = torch.randn(layout.total, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda tokens: unpadding.spread(tokens, places, MASK.shape), tokens)


@pytest.mark.parametrize(
    ("features", "kwargs", "expected"),
    [
        (FEATURES, {}, True),
        ({**FEATURES, "token_type_ids": IDS, "task": "query", "prompt_length": 2}, {}, True),
        (FEATURES, {"output_hidden_states": True}, True),
        (FEATURES, {"output_attentions": True}, False),
        ({"input_ids": IDS}, {}, False),
        ({"attention_mask": MASK}, {}, False),
        ({**FEATURES, "position_ids": IDS}, {}, False),
        ({**FEATURES, "inputs_embeds": IDS}, {}, False),
        ({"input_ids": IDS, "attention_mask": MASK[:, None, None]}, {}, False),
    ],
)
def test_only_padded_texts_are_unpadded(features, kwargs, expected):
    assert unpadding.applies_to(features, kwargs) is expected


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:DeprecationWarning")
def test_what_is_traced_is_left_alone():
    seen = []

    def look(ids):
        seen.append(unpadding.applies_to({"input_ids": ids, "attention_mask": ids}, {}))
        return ids

    torch.jit.trace(look, IDS, check_trace=False)
    assert seen
    assert not any(seen)
