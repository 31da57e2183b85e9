"""A plain checkpoint becomes a transformer and the average of its tokens."""

from __future__ import annotations

import numpy as np
import torch

from sentence_transformers.encoder.default_modules import transformer_with_mean_pooling
from tiny import WIDTH, tiny_checkpoint


def test_a_checkpoint_gets_mean_pooling_of_its_width(tmp_path):
    folder = tiny_checkpoint("bert", tmp_path)
    modules = transformer_with_mean_pooling(folder, {"processor_kwargs": {"model_max_length": 9}})
    assert list(modules) == ["0", "1"]
    transformer, pooling = modules.values()
    assert (pooling.pooling_mode, pooling.word_embedding_dimension) == ("mean", WIDTH)
    assert transformer.max_seq_length == 9
    features = transformer.preprocess(["What causes asthma?"])
    with torch.inference_mode():
        pooled = pooling(transformer(features))
    expected = pooled["token_embeddings"][0].mean(dim=0)
    np.testing.assert_allclose(pooled["sentence_embedding"][0], expected, atol=1e-6)
