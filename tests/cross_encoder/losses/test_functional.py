"""Losses over lists of documents against their definitions, written out in plain numbers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sentence_transformers.cross_encoder.losses import functional as listwise
from sentence_transformers.cross_encoder.losses import lambda_loss as schemes

SIZES = (3, 1, 5, 2)


def made(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, labels and mask, (4, 5); what stands in places without document must not matter."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 5, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, 4, (4, 5), generator=generator).double()
    mask = torch.arange(5) < torch.tensor(SIZES)[:, None]
    return scores, labels, mask


def rows(*matrices: torch.Tensor) -> list[tuple[list[float], ...]]:
    """The documents of each query as plain numbers."""
    return [tuple(matrix[row, :size].tolist() for matrix in matrices) for row, size in enumerate(SIZES)]


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def test_list_net_is_its_definition():
    scores, labels, mask = made()
    terms = [
        -sum(p * math.log(q) for p, q in zip(softmax(wanted), softmax(given)))
        for given, wanted in rows(scores, labels)
    ]
    assert listwise.list_net_loss(scores, labels, mask).item() == pytest.approx(sum(terms) / 4, rel=1e-9)


def drawn_in_order(scores: list[float], weights: list[float]) -> float:
    """Weighted surprise at each document when they are drawn in this order."""
    return -sum(weight * math.log(softmax(scores[place:])[0]) for place, weight in enumerate(weights))


def test_list_mle_is_its_definition():
    scores, _, mask = made()
    terms = [drawn_in_order(given, [1.0] * len(given)) for (given,) in rows(scores)]
    assert listwise.list_mle_loss(scores, mask).item() == pytest.approx(sum(terms) / 4, rel=1e-9)


def test_the_probabilities_of_all_orders_add_up_to_one():
    scores, mask = torch.tensor([[0.3, -1.0, 2.0, 0.7]]), torch.ones(1, 4, dtype=torch.bool)
    orders = itertools.permutations(range(4))
    total = sum(math.exp(-listwise.list_mle_loss(scores[:, list(order)], mask).item()) for order in orders)
    assert total == pytest.approx(1, rel=1e-5)


def test_position_aware_list_mle_is_its_definition():
    scores, _, mask = made()
    terms = []
    for (given,) in rows(scores):
        weights = [2.0 ** (len(given) - place) - 1 for place in range(1, len(given) + 1)]
        terms.append(drawn_in_order(given, [weight / max(sum(weights), 1e-10) for weight in weights]))
    value = listwise.list_mle_loss(scores, mask, listwise.position_weights)
    assert value.item() == pytest.approx(sum(terms) / 4, rel=1e-9)


def test_position_weights_fall_to_zero_at_the_end_of_each_list():
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    assert listwise.position_weights(mask).tolist() == [[7, 3, 1, 0], [1, 0, 0, 0]]


def nothing(i: int, j: int, gains: list[float]) -> float:
    return 1.0


def first_bound(i: int, j: int, gains: list[float]) -> float:
    return gains[i] / math.log2(i + 2)


def second_bound(i: int, j: int, gains: list[float]) -> float:
    apart = abs(i - j)
    return abs(1 / math.log2(apart + 1) - 1 / math.log2(apart + 2)) * abs(gains[i] - gains[j])


def exchange(i: int, j: int, gains: list[float]) -> float:
    return abs(1 / math.log2(i + 2) - 1 / math.log2(j + 2)) * abs(gains[i] - gains[j])


def both(i: int, j: int, gains: list[float]) -> float:
    return 10 * second_bound(i, j, gains) + exchange(i, j, gains)


SCHEMES = [
    (schemes.NoWeightingScheme(), nothing),
    (schemes.NDCGLoss1Scheme(), first_bound),
    (schemes.NDCGLoss2Scheme(), second_bound),
    (schemes.LambdaRankScheme(), exchange),
    (schemes.NDCGLoss2PPScheme(), both),
]
every_scheme = pytest.mark.parametrize(
    ("scheme", "by_hand"), SCHEMES, ids=lambda value: getattr(value, "__name__", type(value).__name__)
)


@every_scheme
@pytest.mark.parametrize("k", [None, 1, 2, 9])
@pytest.mark.parametrize("sigma", [1.0, 0.4])
def test_lambda_loss_is_its_definition(scheme, by_hand, k, sigma):
    scores, labels, mask = made()
    total, count = 0.0, 0
    for given, wanted in rows(scores, labels):
        order = sorted(range(len(given)), key=lambda number: -given[number])
        given, wanted = [given[number] for number in order], [wanted[number] for number in order]
        ideal = sorted(wanted, reverse=True)[:k]
        best = sum((2**label - 1) / math.log2(place + 2) for place, label in enumerate(ideal))
        gains = [(2**label - 1) / max(best, 1e-10) for label in wanted]
        for i, j in itertools.product(range(len(given)), repeat=2):
            if k is not None and min(i, j) >= k:
                continue
            if scheme.weighs_every_pair or wanted[i] > wanted[j]:
                surprise = math.log2(1 + math.exp(-sigma * (given[i] - given[j])))
                total += by_hand(i, j, gains) * surprise
                count += 1
    value = listwise.lambda_loss(
        scores, labels, mask, scheme, k=k, sigma=sigma, every_pair=scheme.weighs_every_pair
    )
    assert value.item() == pytest.approx(total / count, rel=1e-9)


def test_natural_logarithms_give_the_same_times_a_constant():
    scores, labels, mask = made()
    scheme = schemes.LambdaRankScheme()
    binary = listwise.lambda_loss(scores, labels, mask, scheme)
    natural = listwise.lambda_loss(scores, labels, mask, scheme, base=math.e)
    torch.testing.assert_close(natural, binary * math.log(2))


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_adr_mse_is_its_definition(alpha):
    scores, labels, mask = made()
    terms = []
    for given, wanted in rows(scores, labels):
        for i, label in enumerate(wanted):
            others = [j for j in range(len(given)) if j != i]
            smooth = 1 + sum(1 / (1 + math.exp(alpha * (given[i] - given[j]))) for j in others)
            rank = 1 + sum((wanted[j] > label) + (wanted[j] == label) / 2 for j in others)
            terms.append((rank - smooth) ** 2 / math.log2(rank + 1))
    value = listwise.adr_mse_loss(scores, labels, mask, alpha=alpha)
    assert value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)


LOSSES = {
    "ListNet": listwise.list_net_loss,
    "ListMLE": lambda scores, labels, mask: listwise.list_mle_loss(scores, mask),
    "PListMLE": lambda scores, labels, mask: listwise.list_mle_loss(scores, mask, listwise.position_weights),
    "ADR-MSE": listwise.adr_mse_loss,
    **{
        type(scheme).__name__: lambda scores, labels, mask, scheme=scheme: listwise.lambda_loss(
            scores, labels, mask, scheme, every_pair=scheme.weighs_every_pair
        )
        for scheme, _ in SCHEMES
    },
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@every_loss
def test_gradients_are_those_of_small_differences(loss):
    scores, labels, mask = made()
    assert torch.autograd.gradcheck(lambda given: loss(given, labels, mask), scores.requires_grad_())


@every_loss
def test_what_stands_in_places_without_document_does_not_matter(loss):
    scores, labels, mask = made()
    others, _, _ = made(1)
    expected = loss(scores, labels, mask)
    torch.testing.assert_close(
        loss(scores.where(mask, others * 100), labels.where(mask, others), mask), expected
    )
    wider = [torch.nn.functional.pad(each, (0, 2)) for each in (scores, labels, mask)]
    torch.testing.assert_close(loss(*wider), expected)


@every_loss
def test_the_order_of_queries_does_not_matter(loss):
    given = made()
    torch.testing.assert_close(loss(*(each.flip(0) for each in given)), loss(*given))


@every_loss
def test_queries_with_one_document_or_none_have_finite_gradients(loss):
    scores = torch.tensor([[0.5, 9.0], [9.0, 9.0], [1.0, -1.0]], requires_grad=True)
    mask = torch.tensor([[1, 0], [0, 0], [1, 1]]).bool()
    value = loss(scores, torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]), mask)
    value.backward()
    assert value.isfinite()
    assert scores.grad.isfinite().all()
    assert scores.grad[~mask].eq(0).all()


@every_loss
def test_scores_far_apart_have_finite_gradients(loss):
    scores = torch.tensor([[500.0, -500.0, 0.0]], requires_grad=True)
    value = loss(scores, torch.tensor([[0.0, 3.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool))
    value.backward()
    assert value.isfinite()
    assert scores.grad.isfinite().all()


def test_without_pairs_that_differ_there_is_nothing_to_learn():
    scores = torch.randn(2, 3, requires_grad=True)
    mask = torch.ones(2, 3, dtype=torch.bool)
    value = listwise.lambda_loss(scores, torch.ones(2, 3), mask, schemes.NoWeightingScheme())
    value.backward()
    assert value == 0
    assert scores.grad.eq(0).all()
