from __future__ import annotations

import pytest
import torch

from sentence_transformers.modules.dropout import Dropout


def test_nothing_is_dropped_in_eval_mode():
    embedding = torch.arange(6.0).reshape(2, 3)
    result = Dropout(0.9).eval()({"sentence_embedding": embedding, "other": 1})
    assert torch.equal(result["sentence_embedding"], embedding)
    assert result["other"] == 1


def test_values_are_dropped_and_the_others_scaled_up_while_training():
    torch.manual_seed(0)
    dropped = Dropout(0.75).train()({"sentence_embedding": torch.ones(50, 50)})["sentence_embedding"]
    assert set(dropped.unique().tolist()) == {0.0, 4.0}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.15)


def test_saved_and_loaded_equal(tmp_path):
    Dropout(0.35).save(str(tmp_path))
    loaded = Dropout.load(str(tmp_path))
    assert loaded.get_config_dict() == {"dropout": 0.35}
    assert loaded.dropout_layer.p == 0.35


def test_packed_rows_need_no_unpacking():
    assert Dropout.reads_packed
