import logging

import pytest
import torch
import torch.multiprocessing

from sentence_transformers.tensors import distributed

PROCESSES = 2


def rows_of(rank):
    """Process 0 brings two rows, process 1 three: they need not be equally many."""
    return torch.arange(2.0 * (2 + rank)).reshape(-1, 2) + 10 * rank


def weights():
    return torch.arange(10.0).reshape(5, 2)


def work(rank, address, folder):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=PROCESSES)
    seen = {
        "place": (distributed.get_rank(), distributed.get_world_size(), distributed.is_dist_initialized())
    }
    for with_grad in (False, True):
        rows = rows_of(rank).requires_grad_()
        gathered = distributed.all_gather(rows, with_grad=with_grad)
        (gathered * weights() * (rank + 1)).sum().backward()
        seen[with_grad] = (gathered.detach(), rows.grad)
    seen["bool"] = distributed.all_gather(rows_of(rank) > 11)
    tokens = torch.full((1 + rank, 2 - rank, 3), float(rank + 1))
    seen["padded"] = distributed.all_gather_padded(tokens, torch.ones(1 + rank, 2 - rank, dtype=torch.bool))
    torch.save(seen, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each of two processes saw."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, (f"file://{folder}/meeting", str(folder)), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def test_each_process_knows_its_place(seen):
    assert [process["place"] for process in seen] == [(0, 2, True), (1, 2, True)]


@pytest.mark.parametrize("with_grad", [False, True])
def test_rows_of_all_processes_are_joined_in_the_order_of_ranks(seen, with_grad):
    everything = torch.cat([rows_of(0), rows_of(1)])
    for process in seen:
        torch.testing.assert_close(process[with_grad][0], everything)


def test_without_gradient_only_a_process_s_own_use_of_its_rows_counts(seen):
    torch.testing.assert_close(seen[0][False][1], weights()[:2] * 1)
    torch.testing.assert_close(seen[1][False][1], weights()[2:] * 2)


def test_with_gradient_the_use_of_all_processes_is_added_up(seen):
    torch.testing.assert_close(seen[0][True][1], weights()[:2] * 3)
    torch.testing.assert_close(seen[1][True][1], weights()[2:] * 3)


def test_booleans_are_gathered_as_booleans(seen):
    expected = torch.cat([rows_of(0), rows_of(1)]) > 11
    for process in seen:
        assert process["bool"].dtype == torch.bool
        assert process["bool"].tolist() == expected.tolist()


def test_token_embeddings_are_padded_to_the_longest_of_all_processes(seen):
    for process in seen:
        tokens, mask = process["padded"]
        assert tokens.shape == (3, 2, 3)
        assert tokens[:, :, 0].tolist() == [[1, 1], [2, 0], [2, 0]]
        assert mask.tolist() == [[True, True], [True, False], [True, False]]


def test_with_one_process_tensors_come_back_as_they_are_and_it_is_said_once(caplog):
    distributed.warn_about_single_process.cache_clear()
    rows, mask = torch.ones(1, 2, 3), torch.ones(1, 2)
    with caplog.at_level(logging.WARNING):
        assert distributed.all_gather(rows) is rows
        assert distributed.all_gather(rows, with_grad=True) is rows
        assert distributed.all_gather_with_grad(rows) is rows
        assert distributed.all_gather_padded(rows, mask) == (rows, mask)
    assert len(caplog.records) == 1
    assert (distributed.get_rank(), distributed.get_world_size()) == (0, 1)
    assert not distributed.is_dist_initialized()
