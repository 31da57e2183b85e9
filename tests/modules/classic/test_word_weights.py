from __future__ import annotations

import torch

from sentence_transformers.modules.classic.word_weights import WordWeights

VOCAB = ["PADDING_TOKEN", "hello", "World", "day"]


def weighted() -> WordWeights:
    return WordWeights(VOCAB, {"hello": 0.5, "world": 2, "DAY": 3, "zzz": 1}, unknown_word_weight=7)


def batch() -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.tensor([[1, 2, 3], [3, 0, 0], [0, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]]),
        "token_embeddings": torch.tensor(
            [[[2.0, 3], [4, 5], [6, 7]], [[6, 7], [0, 1], [0, 1]], [[0, 1]] * 3]
        ),
    }


def test_tokens_are_multiplied_by_the_weights_of_their_words_and_padding_becomes_zero():
    features = weighted()(batch())
    # Recorded from the reference, releases 3.4.1 and 6.2.0.
    expected = [[[1, 1.5], [8, 10], [42, 49]], [[42, 49], [0, 0], [0, 0]], [[0, 0]] * 3]
    torch.testing.assert_close(features["token_embeddings"], torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(features["token_weights_sum"], torch.tensor([9.5, 7.0, 0.0]))


def test_weights_can_be_trained_and_are_saved_as_trained(tmp_path):
    part = weighted()
    part(batch())["token_embeddings"].sum().backward()
    with torch.no_grad():
        part.emb_layer.weight -= part.emb_layer.weight.grad
    part.save(str(tmp_path))
    torch.testing.assert_close(WordWeights.load(str(tmp_path)).emb_layer.weight, part.emb_layer.weight)


def test_folders_of_older_releases_without_weights_take_them_from_the_configuration(tmp_path):
    weighted().save(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    loaded = WordWeights.load(str(tmp_path))
    assert loaded.emb_layer.weight.squeeze(1).tolist() == [7.0, 0.5, 2.0, 7.0]
    assert loaded.get_config_dict() == weighted().get_config_dict()
