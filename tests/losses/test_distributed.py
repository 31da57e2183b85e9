"""Two processes, each with its half of a batch, train like one process with the whole batch."""

from __future__ import annotations

import pytest
import torch
import torch.multiprocessing

from distributed_losses import CASES, PROCESSES, averaged_over_processes, columns_of, tiny_static_model
from sentence_transformers.losses.base import EmbeddingLoss, added_up, total


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process found: value and gradients of every case."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(averaged_over_processes, args=(folder,), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", CASES)
def test_the_mean_of_the_losses_and_the_averaged_gradients_are_those_of_one_process(name, found):
    case = CASES[name]
    model = tiny_static_model()
    loss = case.loss(model)
    set_uncached(loss)
    columns = columns_of(case, model, slice(0, 8))
    context = loss.context(columns)
    embeddings = loss.embed(columns, context)
    if loss.splits_rows:
        # Each process takes the mean over its own rows, so that with fewer rows each counts more.
        values = [
            total(added_up(loss.parts(embeddings, None, rows=rows, context=context))) for rows in case.rows
        ]
    else:
        values = [
            total(added_up(loss.parts([column[rows] for column in embeddings], None, context=context)))
            for rows in case.rows
        ]
    (sum(values) / PROCESSES).backward()
    expected = {key: parameter.grad for key, parameter in model.named_parameters()}
    for rank, (value, gradients) in enumerate(results[name] for results in found):
        torch.testing.assert_close(value, values[rank].detach())
        torch.testing.assert_close(gradients, expected)


def set_uncached(loss):
    for part in loss.modules():
        if isinstance(part, EmbeddingLoss) and not isinstance(type(part).mini_batch_size, property):
            part.mini_batch_size = None


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.rows[0].stop == 4])
def test_with_as_many_rows_each_the_mean_is_the_loss_of_the_whole_batch(name, found):
    case = CASES[name]
    model = tiny_static_model()
    loss = case.loss(model)
    whole = loss(columns_of(case, model, slice(0, 8)))
    mean = sum(results[name][0] for results in found) / PROCESSES
    torch.testing.assert_close(mean, whole.detach())
