"""What is read off losses."""

from __future__ import annotations

from torch import nn

from sentence_transformers.model_card.loss_facts import get_losses, loss_citation, loss_settings


class Inner(nn.Module):
    citation = "\n@article{inner}\n"

    def get_config_dict(self) -> dict[str, float]:
        return {"scale": 20.0}


class Wrapper(nn.Module):
    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss


def test_wrapped_losses_come_after_their_wrapper():
    inner = Inner()
    middle = Wrapper(inner)
    outer = Wrapper(middle)
    assert get_losses(outer) == [outer, middle, inner]


def test_losses_by_name_are_all_found_once():
    shared, other = Inner(), Inner()
    wrapper = Wrapper(shared)
    assert get_losses({"a": wrapper, "b": shared, "c": other}) == [wrapper, shared, other]


def test_a_loss_that_is_a_function_inside_another_is_no_loss_module():
    loss = Inner()
    loss.loss = len
    assert get_losses(loss) == [loss]


def test_settings_and_citation_are_read_where_a_loss_has_them():
    assert loss_settings(Inner()) == {"scale": 20.0}
    assert loss_citation(Inner()) == "@article{inner}"
    assert loss_settings(Wrapper(Inner())) == {}
    assert loss_citation(Wrapper(Inner())) is None
