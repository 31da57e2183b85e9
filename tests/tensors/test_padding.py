import pytest
import torch

from sentence_transformers.tensors.padding import (
    batch_to_device,
    cat_padded_token_embeddings,
    repad_flattened_features,
    stack_padded_token_embeddings,
)


def test_only_the_tensors_of_a_batch_are_moved():
    batch = {"input_ids": torch.ones(2, 3), "text": ["a"], "prompt_length": 3}
    moved = batch_to_device(batch, torch.device("meta"))
    assert moved is batch
    assert moved["input_ids"].device.type == "meta"
    assert (moved["text"], moved["prompt_length"]) == (["a"], 3)


def test_joined_batches_are_padded_with_zeros_to_the_longest():
    embeddings, mask = cat_padded_token_embeddings(
        [torch.ones(1, 2, 3), torch.full((2, 1, 3), 2.0)], [torch.ones(1, 2), torch.ones(2, 1)]
    )
    assert embeddings[:, :, 0].tolist() == [[1, 1], [2, 0], [2, 0]]
    assert mask.tolist() == [[1, 1], [1, 0], [1, 0]]


def test_stacked_batches_stand_side_by_side_for_each_row():
    embeddings, mask = stack_padded_token_embeddings(
        [torch.ones(2, 2, 3), torch.full((2, 1, 3), 2.0)], [torch.ones(2, 2), torch.ones(2, 1)]
    )
    assert embeddings.shape == (2, 2, 2, 3)
    assert embeddings[:, :, :, 0].tolist() == [[[1, 1], [2, 0]]] * 2
    assert mask.tolist() == [[[1, 1], [1, 0]]] * 2


def test_masks_of_different_types_can_be_joined():
    _, mask = cat_padded_token_embeddings(
        [torch.ones(1, 1, 2), torch.ones(1, 1, 2)], [torch.ones(1, 1).bool(), torch.ones(1, 1).long()]
    )
    assert mask.dtype == torch.int64


def test_nothing_to_join_and_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="got 0"):
        cat_padded_token_embeddings([], [])
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        stack_padded_token_embeddings(
            [torch.ones(1, 2, 3), torch.ones(2, 1, 3)], [torch.ones(1, 2), torch.ones(2, 1)]
        )


def packed_features():
    starts = torch.tensor([0, 2, 6, 7], dtype=torch.int32)
    return {
        "input_ids": torch.arange(1, 8)[None],
        "token_type_ids": torch.ones(1, 7, dtype=torch.long),
        "token_embeddings": torch.arange(1.0, 15.0).reshape(1, 7, 2),
        "all_layer_embeddings": (torch.ones(1, 7, 2),),
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": 4,
        "max_length_k": 4,
        "position_ids": torch.tensor([[0, 1, 0, 1, 2, 3, 0]]),
        "seq_idx": torch.zeros(1, 7),
        "sentence_embedding": torch.ones(3, 7),
        "prompt_length": 1,
    }


def test_packed_rows_become_padded_ones():
    features = repad_flattened_features(packed_features())
    assert features["input_ids"].tolist() == [[1, 2, 0, 0], [3, 4, 5, 6], [7, 0, 0, 0]]
    assert features["token_type_ids"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert features["token_embeddings"][0].tolist() == [[1, 2], [3, 4], [0, 0], [0, 0]]
    assert features["token_embeddings"][2, 0].tolist() == [13, 14]
    assert features["all_layer_embeddings"][0].shape == (3, 4, 2)
    assert features["attention_mask"].tolist() == [
        [True, True, False, False],
        [True, True, True, True],
        [True, False, False, False],
    ]


def test_what_only_packed_rows_have_is_gone_and_everything_else_stays():
    features = repad_flattened_features(packed_features())
    assert sorted(features) == [
        "all_layer_embeddings",
        "attention_mask",
        "input_ids",
        "prompt_length",
        "sentence_embedding",
        "token_embeddings",
        "token_type_ids",
    ]
    assert features["sentence_embedding"].shape == (3, 7)


def test_gradients_flow_through_repadding():
    tokens = torch.ones(1, 7, 2, requires_grad=True)
    features = repad_flattened_features({**packed_features(), "token_embeddings": tokens})
    features["token_embeddings"].sum().backward()
    assert tokens.grad.tolist() == torch.ones(1, 7, 2).tolist()


def test_padded_features_are_left_alone():
    features = {"input_ids": torch.ones(2, 3)}
    assert repad_flattened_features(features) is features
    assert list(features) == ["input_ids"]
