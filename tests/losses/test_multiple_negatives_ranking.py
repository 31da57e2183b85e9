"""In-batch negatives against their written-out definition, and against what release 6.2.0 gives."""

from __future__ import annotations

import json
import logging
import math
from itertools import combinations, product

import pytest
import torch
from torch import nn

from pair_loss_cases import measured
from ranking_loss_cases import ALL_DIRECTIONS, CASES, HARDNESS_MODES, RECORDED
from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.late_interaction import maxsim
from tiny import tiny_checkpoint

RESULTS = json.loads(RECORDED.read_text(encoding="utf-8"))
ROWS, WIDTH = 5, 4

SETTINGS = [
    {"directions": ("query_to_doc", *others), "partition_mode": partition, "hardness_mode": mode}
    for count in range(4)
    for others in combinations(ALL_DIRECTIONS[1:], count)
    for partition, mode in product(("joint", "per_direction"), (None, *HARDNESS_MODES))
    if partition == "joint" or set(others) <= {"doc_to_query"}
]


def skewed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A similarity for which the order of the two matters, (A, B)."""
    return (a * torch.linspace(1, 2, WIDTH, dtype=a.dtype)) @ b.roll(1, dims=1).T


def made(columns: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64) for _ in range(columns)]


def value_of(
    loss: losses.MultipleNegativesRankingLoss, columns: list[torch.Tensor], rows=None
) -> torch.Tensor:
    (part,) = loss.parts([Embeddings(column) for column in columns], None, rows=rows)
    return part.value


def by_definition(
    columns, similarity, *, scale, directions, partition_mode, hardness_mode, hardness_strength
) -> float:
    """Row by row, candidate by candidate."""

    def similar(a, b) -> float:
        """Of two rows, each given by the number of its column and its own."""
        return float(similarity(columns[a[0]], columns[b[0]])[a[1], b[1]])

    rows = range(len(columns[0]))
    total = 0.0
    for row in rows:
        own = scale * similar((0, row), (1, row))
        candidates = {direction: [] for direction in directions}
        for other, column in product(rows, range(1, len(columns))):
            logit = scale * similar((0, row), (column, other))
            weighted = {
                None: False,
                "in_batch_negatives": other != row,
                "hard_negatives": other == row and column > 1,
                "all_negatives": (column, other) != (1, row),
            }[hardness_mode]
            if weighted:
                logit += hardness_strength * similar((0, row), (column, other))
            candidates["query_to_doc"].append(logit)
            if "doc_to_doc" in directions and other != row:
                candidates["doc_to_doc"].append(scale * similar((column, other), (1, row)))
        for other in rows:
            if "query_to_query" in directions and other != row:
                candidates["query_to_query"].append(scale * similar((0, row), (0, other)))
            if "doc_to_query" in directions:
                candidates["doc_to_query"].append(scale * similar((0, other), (1, row)))
        if partition_mode == "joint":
            sums = [sum(math.exp(logit) for logits in candidates.values() for logit in logits)]
        else:
            sums = [sum(math.exp(logit) for logit in logits) for logits in candidates.values()]
        total += sum(math.log(each) - own for each in sums) / len(sums)
    return total / len(rows)


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_the_value_is_the_definition_s(columns):
    for settings in SETTINGS:
        arguments = {"scale": 1.5, "hardness_strength": 0.7, **settings}
        loss = losses.MultipleNegativesRankingLoss(nn.Identity(), similarity_fct=skewed, **arguments)
        expected = by_definition(made(columns), skewed, **arguments)
        assert value_of(loss, made(columns)).item() == pytest.approx(expected, rel=1e-12), settings


def test_a_loss_of_one_row_without_negatives_is_zero():
    loss = losses.MultipleNegativesRankingLoss(nn.Identity())
    assert value_of(loss, [column[:1] for column in made(2)]).item() == 0.0


def test_the_gradients_are_those_of_small_differences():
    # Hardness is left out: no gradient flows through it, so that small differences show another one.
    for settings in SETTINGS:
        if settings["hardness_mode"] is None:
            loss = losses.MultipleNegativesRankingLoss(nn.Identity(), scale=2.0, **settings)
            leaves = [column[:3].requires_grad_() for column in made(3)]
            assert torch.autograd.gradcheck(lambda *columns, loss=loss: value_of(loss, list(columns)), leaves)


def test_no_gradient_flows_through_hardness():
    columns = [column.requires_grad_() for column in made(3)]
    loss = losses.MultipleNegativesRankingLoss(
        nn.Identity(), scale=2.0, hardness_mode="all_negatives", hardness_strength=3.0
    )
    queries, positives, negatives = columns
    similarities = torch.cat([loss.similarity_fct(queries, other) for other in (positives, negatives)], dim=1)
    is_negative = torch.ones_like(similarities).fill_diagonal_(0)
    logits = 2.0 * similarities + 3.0 * similarities.detach() * is_negative
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(ROWS))
    torch.testing.assert_close(
        torch.autograd.grad(value_of(loss, columns), columns), torch.autograd.grad(expected, columns)
    )


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[-1]], ids=["default", "everything"])
def test_the_mean_over_some_rows_knows_all_rows(settings):
    loss = losses.MultipleNegativesRankingLoss(nn.Identity(), hardness_strength=0.5, **settings)
    columns = made(3)
    single = [value_of(loss, columns, slice(row, row + 1)) for row in range(ROWS)]
    torch.testing.assert_close(torch.stack(single).mean(), value_of(loss, columns))
    torch.testing.assert_close(torch.stack(single[1:4]).mean(), value_of(loss, columns, slice(1, 4)))


def test_token_embeddings_are_scored_by_maxsim():
    generator = torch.Generator().manual_seed(0)
    columns = [
        Embeddings(
            torch.randn(3, tokens, WIDTH, generator=generator, dtype=torch.float64),
            torch.arange(tokens) < torch.tensor([[tokens], [2], [1]]),
        )
        for tokens in (3, 4, 5)
    ]
    loss = losses.MultipleNegativesRankingLoss(nn.Identity(), 1.0, maxsim, directions=ALL_DIRECTIONS)
    (part,) = loss.parts(columns, None)

    def similarity(a: int, i: int, b: int, j: int) -> float:
        first, second = (columns[c].values[r][columns[c].mask[r]] for c, r in ((a, i), (b, j)))
        return float((first @ second.T).max(dim=1).values.sum())

    total = 0.0
    for row in range(3):
        logits = [similarity(0, row, column, other) for column in (1, 2) for other in range(3)]
        logits += [similarity(0, other, 1, row) for other in range(3)]
        logits += [similarity(0, row, 0, other) for other in range(3) if other != row]
        logits += [
            similarity(column, other, 1, row) for column in (1, 2) for other in range(3) if other != row
        ]
        total += math.log(sum(math.exp(logit) for logit in logits)) - similarity(0, row, 1, row)
    assert part.value.item() == pytest.approx(total / 3, rel=1e-9)


def test_the_symmetric_loss_is_the_mean_of_both_directions():
    queries, documents = made(2)
    one_way = losses.MultipleNegativesRankingLoss(nn.Identity())
    both = losses.MultipleNegativesSymmetricRankingLoss(nn.Identity())
    expected = (value_of(one_way, [queries, documents]) + value_of(one_way, [documents, queries])) / 2
    torch.testing.assert_close(value_of(both, [queries, documents]), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"directions": ()}, "one or more"),
        ({"directions": "query_to_doc"}, "tuple"),
        ({"directions": ("query_to_doc", "doc_to_dog")}, "doc_to_dog"),
        ({"directions": ("doc_to_query",)}, "lacks 'query_to_doc'"),
        ({"partition_mode": "both"}, "'both'"),
        (
            {"directions": ("query_to_doc", "doc_to_doc"), "partition_mode": "per_direction"},
            "do not include the query's own document",
        ),
        ({"hardness_mode": "hard"}, "'hard'"),
        ({"hardness_mode": "hard_negatives", "hardness_strength": -1.0}, "hardness_strength=-1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        losses.MultipleNegativesRankingLoss(nn.Identity(), **arguments)


@pytest.mark.parametrize("arguments", [{"mini_batch_size": 0}, {"mini_batch_num_tokens": -1}])
def test_an_empty_mini_batch_is_refused(arguments):
    with pytest.raises(ValueError, match="embeds nothing"):
        losses.CachedMultipleNegativesRankingLoss(nn.Identity(), **arguments)


def test_hardness_of_no_strength_is_pointed_out(caplog):
    with caplog.at_level(logging.WARNING):
        losses.MultipleNegativesRankingLoss(nn.Identity(), hardness_mode="hard_negatives")
    assert "hardness_strength" in caplog.text


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_checkpoint("bert", tmp_path_factory.mktemp("model"))
    return SentenceTransformer(str(folder), device="cpu").eval()


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{number}-{CASES[number].loss}")
def test_values_gradients_and_settings_are_the_recorded_ones(number, model):
    case, expected = CASES[number], RESULTS[number]
    assert case.loss == expected["loss"]
    result = measured(case, losses, model)
    assert result["value"] == pytest.approx(expected["value"], rel=1e-5, abs=1e-5)
    assert result["gradients"] == pytest.approx(expected["gradients"], rel=1e-4, abs=1e-5)
    assert json.loads(json.dumps(result["settings"])) == expected["settings"]


def test_every_case_is_recorded():
    assert len(RESULTS) == len(CASES)
