from __future__ import annotations

import pytest
import torch

from sentence_transformers.modules.layer_norm import LayerNorm


def test_embeddings_are_shifted_and_scaled_by_their_own_mean_and_variance():
    part = LayerNorm(8)
    with torch.no_grad():
        part.norm.weight.fill_(2.0)
        part.norm.bias.fill_(1.0)
    embedding = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    mean = embedding.mean(dim=1, keepdim=True)
    variance = embedding.var(dim=1, keepdim=True, unbiased=False)
    expected = 2 * (embedding - mean) / (variance + 1e-5).sqrt() + 1
    torch.testing.assert_close(part({"sentence_embedding": embedding})["sentence_embedding"], expected)


@pytest.mark.parametrize("safe_serialization", [True, False])
def test_saved_and_loaded_equal(safe_serialization, tmp_path):
    part = LayerNorm(dimension=3)
    with torch.no_grad():
        part.norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    part.save(str(tmp_path), safe_serialization)
    loaded = LayerNorm.load(str(tmp_path))
    torch.testing.assert_close(loaded.norm.weight, part.norm.weight)
    assert loaded.get_config_dict() == {"dimension": 3}
    assert loaded.get_embedding_dimension() == loaded.get_sentence_embedding_dimension() == 3


def test_weights_of_another_width_are_reported(tmp_path):
    LayerNorm(3).save(str(tmp_path))
    (tmp_path / "config.json").write_text('{"dimension": 4}')
    with pytest.raises(ValueError, match="do not fit this LayerNorm"):
        LayerNorm.load(str(tmp_path))


def test_packed_rows_need_no_unpacking():
    assert LayerNorm.reads_packed
