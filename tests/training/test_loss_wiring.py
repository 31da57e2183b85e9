"""Losses and the model that is trained: its wrappers, its optimizer, its files."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sentence_transformers.losses import (
    CachedMultipleNegativesRankingLoss,
    GISTEmbedLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)
from sentence_transformers.training import loss_wiring
from tiny import WIDTH


class Other(nn.Module):
    """A loss of another program, with the model and more in it."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.head = nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


class Wrapper(nn.Module):
    """As distributed training wraps a model, only that it counts its calls."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.calls = 0

    def forward(self, *args, **kwargs):
        self.calls += 1
        return self.module(*args, **kwargs)


# -- which model a loss uses -------------------------------------------------------------------------------


def test_a_loss_and_those_inside_it_are_pointed_at_the_model_that_is_trained(model, original):
    loss = MatryoshkaLoss(
        original, MatryoshkaLoss(original, MultipleNegativesRankingLoss(original), [8]), [8]
    )
    loss_wiring.point_at(loss, model)
    assert loss.model is loss.loss.model is loss.loss.loss.model is model


def test_a_guide_stays_what_it_is(model, original):
    guide = copy.deepcopy(original)
    loss = GISTEmbedLoss(original, guide)
    loss_wiring.point_at(loss, model)
    assert loss.model is model
    assert loss.guide is guide


def test_a_model_of_another_kind_is_left_in_place(model):
    inner = nn.Linear(2, 2)
    loss = Other(inner)
    loss_wiring.point_at(loss, model)
    assert loss.model is inner


def test_a_loss_calls_the_model_through_its_wrapper_for_a_while(model, monkeypatch):
    wrapper = Wrapper(model)
    monkeypatch.setattr(loss_wiring, "unwrapped", lambda given: getattr(given, "module", given))
    loss = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [8])
    with loss_wiring.wrapped_model(loss, wrapper):
        assert loss.model is loss.loss.model is wrapper
        loss([model.preprocess(["heart", "gout"]), model.preprocess(["a heart", "a gout"])])
    assert wrapper.calls == 2
    assert loss.model is loss.loss.model is model
    with pytest.raises(KeyError), loss_wiring.wrapped_model(loss, wrapper):
        raise KeyError
    assert loss.loss.model is model


def test_a_model_without_a_wrapper_is_called_as_it_is(model):
    loss = MultipleNegativesRankingLoss(model)
    columns = [model.preprocess(["heart", "gout"]), model.preprocess(["a heart", "a gout"])]
    model.eval()
    assert loss_wiring.computed(loss, model, columns, None) == loss(columns)


@pytest.fixture
def group(tmp_path):
    """A distributed run of this process alone."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("loss", [MultipleNegativesRankingLoss, CachedMultipleNegativesRankingLoss])
@pytest.mark.usefixtures("group")
def test_gradients_through_distributed_training_s_wrapper_are_the_model_s(loss, model):
    model.eval()
    columns = [model.preprocess(["heart", "gout", "flu"]), model.preprocess(["a heart", "a gout", "a flu"])]
    loss(model)(columns).backward()
    expected = {name: part.grad for name, part in model.named_parameters() if part.grad is not None}
    model.zero_grad()
    wrapper = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    loss_wiring.computed(loss(model), wrapper, columns, None).backward()
    for name, gradient in expected.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient, atol=1e-6, rtol=1e-5)


def test_a_loss_is_in_evaluation_mode_for_a_while_and_a_teacher_always(model):
    loss = Other(model)
    loss.teacher = nn.Linear(2, 2).eval()
    loss.train()
    loss.teacher.eval()
    model.eval()
    with loss_wiring.evaluating([loss], model):
        assert not any(module.training for module in loss.modules())
    assert loss.training
    assert loss.head.training
    assert not loss.teacher.training
    assert not model.training


# -- parameters of a loss ----------------------------------------------------------------------------------


def test_what_is_trained_in_a_loss_and_is_not_the_model_s_is_its_own(model):
    assert set(loss_wiring.own_parameters(Other(model), model)) == {"head.weight", "head.bias"}
    assert not loss_wiring.own_parameters(MultipleNegativesRankingLoss(model), model)


def test_they_join_the_optimizer_once_and_only_matrices_decay(model):
    losses = [Other(model), SoftmaxLoss(model, WIDTH, 2)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    loss_wiring.add_parameters(optimizer, model, losses, 0.25)
    loss_wiring.add_parameters(optimizer, model, losses, 0.25)
    _, decaying, others = optimizer.param_groups
    assert {id(part) for part in decaying["params"]} == {
        id(losses[0].head.weight),
        id(losses[1].classifier.weight),
    }
    assert {id(part) for part in others["params"]} == {id(losses[0].head.bias), id(losses[1].classifier.bias)}
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.25, 0.0)
    assert decaying["lr"] == others["lr"] == 0.1


def test_the_first_expression_that_is_found_gives_the_rate(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    count = len(optimizer.param_groups[0]["params"])
    loss_wiring.set_rates(optimizer, model, [], {"layer.1.*bias": 0.3, "bias": 0.2})
    names = {id(part): name for name, part in model.named_parameters()}
    rates = {names[id(part)]: group["lr"] for group in optimizer.param_groups for part in group["params"]}
    assert len(rates) == count
    for name, rate in rates.items():
        assert rate == (0.3 if "layer.1" in name and "bias" in name else 0.2 if "bias" in name else 0.1)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.5}


def test_an_expression_that_finds_nothing_is_refused(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"\['decoder'\]"):
        loss_wiring.set_rates(optimizer, model, [], {"bias": 0.1, "decoder": 0.2})


# -- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_a_loss_s_own_parameters_are_saved_and_loaded(several, model, tmp_path):
    def made():
        return {"a": Other(model), "b": SoftmaxLoss(model, WIDTH, 2)} if several else Other(model)

    saved, loaded = made(), made()
    loss_wiring.save_own_parameters(saved, tmp_path)
    loss_wiring.load_own_parameters(loaded, tmp_path)
    expected, found = loss_wiring.saved_state(saved), loss_wiring.saved_state(loaded)
    assert len(expected) == (4 if several else 2)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_loss_without_parameters_leaves_no_file(model, tmp_path):
    loss = MultipleNegativesRankingLoss(model)
    loss_wiring.save_own_parameters(loss, tmp_path)
    assert not list(tmp_path.iterdir())
    loss_wiring.load_own_parameters(loss, tmp_path)


def test_weights_are_loaded_into_a_model_of_the_same_structure_only(model, original, checkpoint, tmp_path):
    original.save_pretrained(str(tmp_path))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    loss_wiring.load_weights(model, str(tmp_path))
    for name, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    with pytest.raises(ValueError, match="another model"):
        loss_wiring.load_weights(type(model)(modules=[*model, nn.Linear(2, 2)], device="cpu"), str(tmp_path))


def test_arguments_that_cannot_be_pickled_are_left_out(tmp_path, caplog):
    loss_wiring.save_arguments({"sampler": lambda: None}, tmp_path)
    assert not list(tmp_path.iterdir())
    assert "training_args.bin is not written" in caplog.text
    loss_wiring.save_arguments({"sampler": "name"}, tmp_path)
    assert torch.load(tmp_path / "training_args.bin") == {"sampler": "name"}
