from __future__ import annotations

import json

import pytest
import torch

from sentence_transformers.modules.classic.lstm import LSTM


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 6, 2])
    return {
        "token_embeddings": torch.randn(3, 6, 4, generator=generator),
        "attention_mask": (torch.arange(6) < lengths.unsqueeze(1)).long(),
        "sentence_lengths": lengths,
    }


@pytest.mark.parametrize("bidirectional", [True, False])
def test_each_row_is_read_as_torch_reads_it_alone_and_padding_gives_zeros(bidirectional):
    part = LSTM(4, 5, num_layers=2, bidirectional=bidirectional).eval()
    features = batch()
    states = part(dict(features))["token_embeddings"]
    for row, length in enumerate(features["sentence_lengths"].tolist()):
        alone, _ = part.encoder(features["token_embeddings"][row : row + 1, :length])
        torch.testing.assert_close(states[row, :length], alone[0])
        assert states[row, length:].eq(0).all()
    assert states.shape[2] == part.get_embedding_dimension() == (10 if bidirectional else 5)
    assert part.get_word_embedding_dimension() == part.get_embedding_dimension()


def test_lengths_are_read_off_the_mask_where_they_are_not_given():
    part = LSTM(4, 5)
    expected = part(batch())["token_embeddings"]
    features = batch()
    del features["sentence_lengths"]
    torch.testing.assert_close(part(features)["token_embeddings"], expected)


def test_without_mask_every_token_counts():
    part = LSTM(4, 5)
    tokens = batch()["token_embeddings"]
    torch.testing.assert_close(
        part({"token_embeddings": tokens})["token_embeddings"], part.encoder(tokens)[0]
    )


def test_rows_keep_the_width_of_their_mask_when_all_are_shorter():
    features = batch()
    features["sentence_lengths"] = torch.tensor([3, 4, 2])
    assert LSTM(4, 5)(features)["token_embeddings"].shape == (3, 6, 10)


@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 3, 4)])
def test_no_tokens_give_no_states(shape):
    features = {
        "token_embeddings": torch.zeros(shape),
        "sentence_lengths": torch.zeros(shape[0], dtype=torch.long),
    }
    assert LSTM(4, 5)(features)["token_embeddings"].shape == (*shape[:2], 10)


def test_an_empty_row_among_others_does_not_change_them():
    part = LSTM(4, 5)
    expected = part(batch())["token_embeddings"]
    features = batch()
    features["sentence_lengths"] = torch.tensor([3, 6, 0])
    torch.testing.assert_close(part(features)["token_embeddings"][:2], expected[:2])


def test_the_older_name_of_the_width_is_accepted():
    assert LSTM(word_embedding_dimension=4, hidden_dim=2).embedding_dimension == 4


@pytest.mark.parametrize("safe_serialization", [True, False])
def test_saved_and_loaded_equal(safe_serialization, tmp_path):
    part = LSTM(4, 5, num_layers=2, dropout=0.25, bidirectional=False).eval()
    part.save(str(tmp_path), safe_serialization)
    loaded = LSTM.load(str(tmp_path)).eval()
    assert loaded.get_config_dict() == part.get_config_dict()
    torch.testing.assert_close(loaded(batch())["token_embeddings"], part(batch())["token_embeddings"])


@pytest.mark.parametrize("key", ["word_embedding_dimension", "embedding_dimension"])
def test_configurations_of_both_releases_are_read(key, tmp_path):
    part = LSTM(4, 5)
    part.save(str(tmp_path))
    config = {key: 4, "hidden_dim": 5, "num_layers": 1, "dropout": 0, "bidirectional": True}
    (tmp_path / "lstm_config.json").write_text(json.dumps(config))
    torch.testing.assert_close(
        LSTM.load(str(tmp_path))(batch())["token_embeddings"], part(batch())["token_embeddings"]
    )


def test_tokenize_points_to_the_first_part():
    with pytest.raises(NotImplementedError, match="first part"):
        LSTM(4, 5).tokenize("text")
