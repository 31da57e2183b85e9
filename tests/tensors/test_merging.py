"""Every merge method agrees with its definition, written out entry by entry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sentence_transformers.tensors.merging import METHODS, merger


def tensors(count: int, *shape: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape or (6, 5), generator=generator) for _ in range(count)]


def merged(method: str, models: list[Tensor], base: Tensor | None = None, **parameters: object) -> Tensor:
    merge = merger(method, parameters, models=len(models))
    return merge(models) if base is None else merge(models, base)


def inputs_of(method: str, models: list[Tensor], base: Tensor) -> list:
    return [models, base] if METHODS[method].base == "needed" else [models]


# ---- linear


def test_linear_is_the_average_unless_weights_are_given():
    a, b, c = tensors(3)
    torch.testing.assert_close(merged("linear", [a, b, c]), (a + b + c) / 3)
    torch.testing.assert_close(merged("linear", [a, b], weight=[0.6, 0.4]), 0.6 * a + 0.4 * b)


def test_linear_divides_by_the_sum_of_the_weights_unless_told_otherwise():
    a, b = tensors(2)
    torch.testing.assert_close(merged("linear", [a, b], weight=[3, 1]), (3 * a + b) / 4)
    torch.testing.assert_close(merged("linear", [a, b], weight=[3, 1], normalize=False), 3 * a + b)
    torch.testing.assert_close(merged("linear", [a, b], weight=0.5, normalize=False), (a + b) / 2)


def test_weights_that_sum_up_to_zero_cannot_be_normalised():
    with pytest.raises(ValueError, match=r"\[1, -1\] sum up to 0"):
        merged("linear", tensors(2), weight=[1, -1])
    a, b = tensors(2)
    torch.testing.assert_close(merged("linear", [a, b], weight=[1, -1], normalize=False), a - b)


# ---- slerp


def test_slerp_of_two_directions_keeps_to_the_arc():
    start, end = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    for t in (0.0, 0.25, 0.5, 1.0):
        expected = torch.tensor([math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)])
        torch.testing.assert_close(merged("slerp", [start, end], t=t), expected)


def test_slerp_sees_a_matrix_as_one_long_vector():
    a, b = tensors(2)
    angle = math.acos(float((a * b).sum() / (a.norm() * b.norm())))
    expected = (math.sin(0.7 * angle) * a + math.sin(0.3 * angle) * b) / math.sin(angle)
    torch.testing.assert_close(merged("slerp", [a, b], t=0.3), expected)


@pytest.mark.parametrize("factor", [2.0, -2.0, 0.0, 1.0001])
def test_slerp_takes_the_straight_line_where_the_arc_has_no_direction(factor):
    (a,) = tensors(1)
    torch.testing.assert_close(merged("slerp", [a, factor * a], t=0.3), (0.7 + 0.3 * factor) * a)


def test_slerp_of_long_half_precision_tensors_does_not_overflow():
    a, b = (100 * tensor.half() for tensor in tensors(2, 300, 300))
    expected = merged("slerp", [a.float(), b.float()], t=0.3)
    torch.testing.assert_close(merged("slerp", [a, b], t=0.3).float(), expected, rtol=2e-3, atol=0.2)


# ---- changes to a base


def test_task_arithmetic_adds_weighted_changes():
    base, a, b = tensors(3)
    torch.testing.assert_close(merged("task_arithmetic", [a, b], base), a + b - base)
    by_definition = base + 2 * (0.3 * (a - base) - 0.5 * (b - base))
    weights = {"weight": [0.3, -0.5], "lambda": 2}
    torch.testing.assert_close(merged("task_arithmetic", [a, b], base, **weights), by_definition)
    by_definition = base + (0.3 * (a - base) + 0.5 * (b - base)) / 0.8
    weights = {"weight": [0.3, 0.5], "normalize": True}
    torch.testing.assert_close(merged("task_arithmetic", [a, b], base, **weights), by_definition)


def elected(values: list[float], weight: list[float], normalize: bool) -> float:
    """The disjoint mean of one entry's changes."""
    total = sum(w * value for w, value in zip(weight, values, strict=True))
    agreeing = [(w, v) for w, v in zip(weight, values, strict=True) if w * v * total > 0]
    summed = sum(w * value for w, value in agreeing)
    return summed / sum(w for w, _ in agreeing) if normalize and agreeing else summed


def trimmed(change: Tensor, density: float) -> list[float]:
    """The changes in a row, those too small for the density set to zero."""
    values = change.flatten().tolist()
    kept = sorted(range(len(values)), key=lambda place: -abs(values[place]))[: int(density * len(values))]
    return [value if place in kept else 0.0 for place, value in enumerate(values)]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("density", [1.0, 0.5, 0.2, 0.0])
@pytest.mark.parametrize("weight", [[1.0, 1.0, 1.0], [0.3, 0.5, 0.1]])
def test_ties_agrees_with_its_definition(weight, density, normalize):
    base, *models = tensors(4)
    rows = [trimmed(model - base, density) for model in models]
    by_entry = [elected(list(values), weight, normalize) for values in zip(*rows, strict=True)]
    expected = base + 0.8 * torch.tensor(by_entry).view(base.shape)
    parameters = {"weight": weight, "density": density, "normalize": normalize, "lambda": 0.8}
    torch.testing.assert_close(merged("ties", models, base, **parameters), expected)


def test_ties_takes_a_density_for_each_model():
    base, a, b = tensors(3)
    none_of_a = merged("ties", [a, b], base, density=[0.0, 0.5])
    torch.testing.assert_close(none_of_a, merged("ties", [b], base, density=0.5))


def test_dare_keeps_the_share_of_changes_it_is_told_and_rescales_them():
    base, a = tensors(2, 200, 200)
    change = merged("dare_linear", [a], base, density=0.25) - base
    kept = change.abs() > 1e-7
    assert kept.float().mean().item() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(change[kept], 4 * (a - base)[kept], rtol=1e-4, atol=1e-5)
    unscaled = merged("dare_linear", [a], base, density=0.25, rescale=False)
    torch.testing.assert_close(unscaled[kept], a[kept])
    torch.testing.assert_close(unscaled[~kept], base[~kept])


def test_dare_drops_each_models_changes_independently():
    base = torch.zeros(100, 100)
    change = merged("dare_linear", [base + 1, base + 10], base, density=0.5, rescale=False)
    values, counts = change.unique(return_counts=True)
    assert values.tolist() == [0, 1, 10, 11]
    assert counts.min() > 2300


def test_dare_without_dropping_is_the_method_it_builds_on():
    base, a, b = tensors(3)
    weight = [0.3, 0.5]
    torch.testing.assert_close(
        merged("dare_linear", [a, b], base, weight=weight),
        merged("task_arithmetic", [a, b], base, weight=weight),
    )
    torch.testing.assert_close(
        merged("dare_ties", [a, b], base, weight=weight),
        merged("ties", [a, b], base, weight=weight, normalize=False),
    )


def test_dare_ties_elects_signs_among_what_was_kept():
    base = torch.zeros(100, 100)
    values = merged("dare_ties", [base + 1, base - 10], base, density=0.5, rescale=False).unique()
    assert values.tolist() == [-10, 0, 1]


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_repeats_itself_for_one_seed_and_leaves_everybodys_random_numbers_alone(method):
    base, a, b = tensors(3)
    before = torch.get_rng_state()
    once = merged(method, [a, b], base, density=0.5, seed=7)
    again = merged(method, [a, b], base, density=0.5, seed=7)
    assert torch.equal(once, again)
    assert not torch.equal(once, merged(method, [a, b], base, density=0.5, seed=8))
    assert torch.equal(torch.get_rng_state(), before)


def test_dare_drops_something_else_in_the_next_tensor():
    base, a = tensors(2)
    merge = merger("dare_linear", {"density": 0.5}, models=1)
    assert not torch.equal(merge([a], base), merge([a], base))


# ---- every method


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), first=st.floats(0.1, 10), second=st.floats(0.1, 10))
def test_a_model_merged_with_itself_is_itself(method, seed, first, second):
    base, model = tensors(2, seed=seed)
    known = METHODS[method].parameters
    wanted = {"weight": [first, second], "normalize": True, "t": first}
    parameters = {key: value for key, value in wanted.items() if key in known}
    merge = merger(method, parameters, models=2)
    result = merge(*inputs_of(method, [model, model.clone()], base))
    torch.testing.assert_close(result, model, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3, 4)], ids=str)
def test_shape_and_type_are_kept_and_inputs_unchanged(method, dtype, shape):
    base, *models = [torch.full(shape, number, dtype=dtype) for number in (1.0, 2.0, 4.0)]
    result = merger(method, None, models=2)(*inputs_of(method, models, base))
    assert (result.shape, result.dtype) == (shape, dtype)
    for tensor, number in ((base, 1.0), (models[0], 2.0), (models[1], 4.0)):
        assert torch.equal(tensor, torch.full(shape, number, dtype=dtype))


@pytest.mark.parametrize("method", METHODS)
def test_the_result_is_a_tensor_of_its_own(method):
    base, *models = tensors(3)
    parameters = {"t": 0.0} if method == "slerp" else {"weight": [1, 0]}
    result = merger(method, parameters, models=2)(*inputs_of(method, models, base))
    assert result.data_ptr() not in [tensor.data_ptr() for tensor in (base, *models)]


# ---- what does not fit


def test_an_unknown_method_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"Unknown merge method 'mean'\. Known: .*linear.*slerp.*ties"):
        merger("mean", None, models=2)


@pytest.mark.parametrize(
    ("method", "parameters", "kind", "said"),
    [
        ("slerp", {"weight": 1.0}, TypeError, r"'slerp' has no parameter 'weight'\. It has: t\."),
        ("linear", {"weight": [1, 2, 3]}, ValueError, "has 3 values, and the number of models .* is 2"),
        ("linear", {"weight": "high"}, TypeError, "weight='high' is str"),
        ("linear", {"weight": [1, True]}, TypeError, "weight=True is bool"),
        ("linear", {"weight": math.nan}, ValueError, "weight=nan"),
        ("linear", {"normalize": 1}, TypeError, "normalize=1 is int"),
        ("slerp", {"t": [0.1, 0.2]}, TypeError, "all models share one value"),
        ("ties", {"density": 1.5}, ValueError, "density=1.5. Pass a share from 0 to 1"),
        ("dare_ties", {"density": [0.5, -1]}, ValueError, "density=-1. Pass a share from 0 to 1"),
        ("dare_linear", {"seed": 0.5}, TypeError, "seed=0.5 is float"),
        ("dare_linear", {"seed": True}, TypeError, "seed=True is bool"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(method, parameters, kind, said):
    with pytest.raises(kind, match=said):
        merger(method, parameters, models=2)


def test_numbers_out_of_arrays_are_numbers():
    a, b = tensors(2)
    weight = list(np.array([3, 1], dtype=np.float32))
    torch.testing.assert_close(merged("linear", [a, b], weight=weight), (3 * a + b) / 4)


def test_slerp_takes_exactly_two_models():
    with pytest.raises(ValueError, match="'slerp' takes 2 models, and got 3"):
        merger("slerp", None, models=3)
