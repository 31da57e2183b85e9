"""Normalised vectors have length one in every precision, and zeros stay zeros."""

from __future__ import annotations

import json

import pytest
import torch

from sentence_transformers.modules.normalize import Normalize


def test_vectors_get_length_one_and_keep_their_direction():
    vectors = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
    result = Normalize()({"sentence_embedding": vectors})["sentence_embedding"]
    torch.testing.assert_close(result, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


def test_a_vector_of_zeros_stays_as_it_is():
    assert Normalize()({"sentence_embedding": torch.zeros(1, 3)})["sentence_embedding"].tolist() == [
        [0, 0, 0]
    ]


@pytest.mark.parametrize("size", [1e4, 1e-4])
def test_half_precision_neither_overflows_nor_vanishes(size):
    vectors = torch.full((1, 4), size, dtype=torch.float16)
    result = Normalize()({"sentence_embedding": vectors})["sentence_embedding"]
    assert result.dtype == torch.float16
    assert result.tolist() == [[0.5, 0.5, 0.5, 0.5]]


def test_token_embeddings_are_normalised_one_by_one():
    features = {"token_embeddings": torch.randn(2, 3, 4), "sentence_embedding": torch.ones(2, 4)}
    result = Normalize("token_embeddings")(dict(features))
    torch.testing.assert_close(result["token_embeddings"].norm(dim=-1), torch.ones(2, 3))
    assert result["sentence_embedding"].equal(torch.ones(2, 4))


def test_usual_settings_leave_an_empty_folder_and_others_a_file(tmp_path):
    Normalize().save(str(tmp_path))
    assert not list(tmp_path.iterdir())
    Normalize("token_embeddings", "other").save(str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "module_input_name": "token_embeddings",
        "module_output_name": "other",
    }
    loaded = Normalize.load(str(tmp_path))
    assert (loaded.module_input_name, loaded.module_output_name) == ("token_embeddings", "other")


def test_a_missing_or_empty_folder_means_the_usual_settings(tmp_path):
    for folder in (str(tmp_path), str(tmp_path / "missing"), ""):
        assert Normalize.load(folder).module_input_name == "sentence_embedding"
