"""Adapters go onto the transformers model inside, and can be switched on and off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sentence_transformers.encoder.adapters import PeftAdapterMixin
from tiny import tiny_model

peft = pytest.importorskip("peft", reason='needs peft: pip install "sentence-transformers[train]"')

IDS = torch.tensor([[1, 40, 50, 60, 2], [1, 70, 80, 90, 2]])


class Model(nn.Sequential, PeftAdapterMixin):
    """As little of a model as the mixin asks for."""

    @property
    def transformers_model(self):
        return getattr(self[0], "auto_model", None)


class Part(nn.Module):
    def __init__(self, auto_model: nn.Module) -> None:
        super().__init__()
        self.auto_model = auto_model


def lora(**settings: object):
    return peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=4, lora_alpha=8, **settings)


@pytest.fixture
def model() -> Model:
    return Model(Part(tiny_model("bert")))


def output(model: Model) -> Tensor:
    with torch.no_grad():
        return model[0].auto_model.eval()(IDS).last_hidden_state


def change_adapters(model: Model) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1)


def test_a_new_adapter_changes_nothing_until_it_is_trained(model):
    before = output(model)
    model.add_adapter(lora())
    torch.testing.assert_close(output(model), before)
    change_adapters(model)
    assert (output(model) - before).abs().max() > 0.01


def test_only_the_weights_of_a_new_adapter_are_trained(model):
    model.add_adapter(lora())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)


def test_disabling_adapters_gives_the_original_output_and_enabling_the_adapted_one(model):
    before = output(model)
    model.add_adapter(lora())
    change_adapters(model)
    adapted = output(model)
    model.disable_adapters()
    torch.testing.assert_close(output(model), before)
    model.enable_adapters()
    torch.testing.assert_close(output(model), adapted)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
def test_of_several_adapters_the_one_that_was_set_is_active(model):
    model.add_adapter(lora(), "first")
    model.add_adapter(lora(), "second")
    model.set_adapter("first")
    assert model.active_adapters() == ["first"]
    assert model.active_adapter() == "first"
    model.set_adapter("second")
    assert model.active_adapter() == "second"


def test_a_deleted_adapter_is_gone_and_the_original_output_is_back(model):
    before = output(model)
    model.add_adapter(lora(), "one")
    change_adapters(model)
    model.delete_adapter("one")
    torch.testing.assert_close(output(model), before)


def test_a_saved_adapter_can_be_loaded_into_a_fresh_model(model, tmp_path: Path):
    model.add_adapter(lora())
    change_adapters(model)
    state = model.get_adapter_state_dict()
    assert state
    assert all("lora_" in name for name in state)
    model.transformers_model.save_pretrained(tmp_path)

    other = Model(Part(tiny_model("bert")))
    other.load_adapter(str(tmp_path))
    torch.testing.assert_close(output(other), output(model))


def test_a_model_without_a_transformer_is_told_so():
    plain = Model(nn.Linear(2, 2))
    assert not plain.has_peft_compatible_model()
    for call in (plain.active_adapters, plain.disable_adapters, lambda: plain.add_adapter(lora())):
        with pytest.raises(ValueError, match="cannot take adapters"):
            call()


def test_a_missing_peft_is_reported_with_the_command_that_installs_it(model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "sentence-transformers\[train\]"'):
        model.add_adapter(None)
