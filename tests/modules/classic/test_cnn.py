from __future__ import annotations

import json

import pytest
import torch

from sentence_transformers.modules.classic.cnn import CNN


def batch(rows: int = 2, width: int = 6, dimension: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "token_embeddings": torch.randn(rows, width, dimension, generator=generator),
        "attention_mask": torch.ones(rows, width, dtype=torch.long),
    }


def test_a_convolution_is_the_sum_over_its_window():
    part = CNN(4, out_channels=3, kernel_sizes=[3])
    features = batch()
    tokens = torch.nn.functional.pad(features["token_embeddings"], (0, 0, 1, 1))
    kernel, bias = part.convs[0].weight, part.convs[0].bias  # (out, in, 3), (out,)
    expected = torch.stack(
        [
            torch.stack(
                [(tokens[row, start : start + 3].T * kernel).sum(dim=(1, 2)) + bias for start in range(6)]
            )
            for row in range(2)
        ]
    )
    torch.testing.assert_close(part(features)["token_embeddings"], expected)


def test_the_results_of_all_kernels_stand_side_by_side():
    part = CNN(4, out_channels=3)
    features = batch()
    channels = features["token_embeddings"].transpose(1, 2)
    expected = torch.cat([conv(channels) for conv in part.convs], dim=1).transpose(1, 2)
    torch.testing.assert_close(part(features)["token_embeddings"], expected)
    assert part.get_embedding_dimension() == part.get_word_embedding_dimension() == expected.shape[2] == 9


def test_a_row_gives_the_same_alone_and_padded():
    part = CNN(4, out_channels=3)
    features = batch()
    features["attention_mask"][1, 4:] = 0
    alone = {name: value[1:, :4] for name, value in features.items()}
    padded = part(dict(features))["token_embeddings"][1, :4]
    torch.testing.assert_close(padded, part(alone)["token_embeddings"][0])


@pytest.mark.parametrize(
    ("kernels", "strides", "kept"),
    [([1, 3], [2, 2], [0, 2, 4]), ([2, 4], None, [0, 1, 2, 3, 4])],
)
def test_the_mask_follows_when_tokens_become_fewer(kernels, strides, kept):
    features = batch()
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    features.update(attention_mask=mask, sentence_lengths=mask.sum(dim=1))
    result = CNN(4, 3, kernels, strides)(features)
    assert result["token_embeddings"].shape[1] == len(kept)
    assert torch.equal(result["attention_mask"], mask[:, kept])
    assert torch.equal(result["sentence_lengths"], mask[:, kept].sum(dim=1))


def test_strides_that_do_not_fit_together_are_reported():
    with pytest.raises(ValueError, match=r"\[6, 3\] tokens"):
        CNN(4, 3, [1, 3], [1, 2])(batch())


def test_another_number_of_strides_than_kernels_is_refused():
    with pytest.raises(ValueError, match="pass 2 strides"):
        CNN(4, kernel_sizes=[1, 3], stride_sizes=[1])


def test_the_older_name_of_the_width_is_accepted():
    assert CNN(in_word_embedding_dimension=5).in_embedding_dimension == 5


@pytest.mark.parametrize("safe_serialization", [True, False])
def test_saved_and_loaded_equal(safe_serialization, tmp_path):
    part = CNN(4, 3, [1, 3], [2, 2])
    part.save(str(tmp_path), safe_serialization=safe_serialization)
    loaded = CNN.load(str(tmp_path))
    assert loaded.get_config_dict() == part.get_config_dict()
    torch.testing.assert_close(loaded(batch())["token_embeddings"], part(batch())["token_embeddings"])


@pytest.mark.parametrize(
    "config",
    [
        {"in_word_embedding_dimension": 4, "out_channels": 3, "kernel_sizes": [1, 3]},
        {"in_embedding_dimension": 4, "out_channels": 3, "kernel_sizes": [1, 3], "stride_sizes": [1, 1]},
    ],
    ids=["3.4.1", "6.2.0"],
)
def test_configurations_of_both_releases_are_read(config, tmp_path):
    part = CNN(4, 3, [1, 3])
    part.save(str(tmp_path))
    (tmp_path / "cnn_config.json").write_text(json.dumps(config))
    torch.testing.assert_close(
        CNN.load(str(tmp_path))(batch())["token_embeddings"], part(batch())["token_embeddings"]
    )


def test_tokenize_points_to_the_first_part():
    with pytest.raises(NotImplementedError, match="first part"):
        CNN(4).tokenize("text")
