from __future__ import annotations

import json

import pytest
import torch

from sentence_transformers.modules.weighted_layer_pooling import WeightedLayerPooling


def layers(number: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 4, generator=generator) for _ in range(number)]


def pooled(part: WeightedLayerPooling, hidden: list[torch.Tensor]) -> torch.Tensor:
    return part({"all_layer_embeddings": hidden, "token_embeddings": hidden[-1]})["token_embeddings"]


def test_tokens_become_the_weighted_mean_of_the_layers_that_count():
    weights = [1.0, 2.0, 0.5, 3.0]
    part = WeightedLayerPooling(4, num_hidden_layers=5, layer_start=2, layer_weights=weights)
    hidden = layers()
    expected = (1.0 * hidden[2] + 2.0 * hidden[3] + 0.5 * hidden[4] + 3.0 * hidden[5]) / 6.5
    torch.testing.assert_close(pooled(part, hidden), expected)


def test_without_weights_all_layers_count_the_same():
    part = WeightedLayerPooling(4, num_hidden_layers=5, layer_start=3)
    torch.testing.assert_close(pooled(part, layers()), torch.stack(layers()[3:]).mean(dim=0))


@pytest.mark.parametrize("weights", [[1.0, 2.0], torch.tensor([1.0, 2.0]), torch.nn.Parameter(torch.ones(2))])
def test_given_weights_of_any_kind_are_trained_and_saved(weights, tmp_path):
    part = WeightedLayerPooling(4, 3, 2, weights)
    pooled(part, layers(4)).sum().backward()
    assert part.layer_weights.grad is not None
    part.save(str(tmp_path))
    torch.testing.assert_close(WeightedLayerPooling.load(str(tmp_path)).layer_weights, part.layer_weights)


def test_the_caller_keeps_their_own_weights():
    mine = torch.tensor([1.0, 2.0])
    part = WeightedLayerPooling(4, 3, 2, mine)
    with torch.no_grad():
        part.layer_weights.zero_()
    assert mine.tolist() == [1.0, 2.0]


def test_missing_layers_are_reported_with_the_setting_that_gives_them():
    with pytest.raises(ValueError, match="output_hidden_states"):
        WeightedLayerPooling(4)({"token_embeddings": torch.zeros(1, 1, 4)})


def test_another_number_of_layers_is_reported():
    with pytest.raises(ValueError, match="num_hidden_layers=12, but the transformer gives 5"):
        pooled(WeightedLayerPooling(4), layers())


@pytest.mark.parametrize("start", [-1, 4])
def test_a_start_that_leaves_no_layer_is_refused(start):
    with pytest.raises(ValueError, match=f"layer_start={start}"):
        WeightedLayerPooling(4, num_hidden_layers=3, layer_start=start)


def test_another_number_of_weights_than_layers_is_refused():
    with pytest.raises(ValueError, match="pass 2 weights"):
        WeightedLayerPooling(4, num_hidden_layers=3, layer_start=2, layer_weights=[1.0])


def test_the_width_is_answered_under_its_older_names():
    part = WeightedLayerPooling(word_embedding_dimension=4)
    assert (
        part.embedding_dimension == part.get_word_embedding_dimension() == part.get_embedding_dimension() == 4
    )


@pytest.mark.parametrize("key", ["word_embedding_dimension", "embedding_dimension"])
def test_configurations_of_both_releases_are_read(key, tmp_path):
    part = WeightedLayerPooling(4, 3, 1, [1.0, 2.0, 3.0])
    part.save(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({key: 4, "layer_start": 1, "num_hidden_layers": 3}))
    loaded = WeightedLayerPooling.load(str(tmp_path))
    assert loaded.get_config_dict() == part.get_config_dict()
    torch.testing.assert_close(pooled(loaded, layers(4)), pooled(part, layers(4)))
