"""What waits, and what goes into the next batch: nothing twice, nothing lost, nobody passed over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.inference.fair_queue import TURN, FairQueue, Request


def request(name, number=1, *, group="one", size=1):
    return Request(
        inputs=[f"{name}{place}" for place in range(number)],
        sizes=[size] * number,
        single=False,
        options={},
        group=group,
        arrived=0.0,
    )


def queue_of(*requests, max_tokens=100, max_inputs=None):
    queue = FairQueue(max_tokens=max_tokens, max_inputs=max_inputs, tokens_of=lambda size: size)
    for one in requests:
        queue.add(one)
    return queue


def taken(queue):
    """The inputs of one batch."""
    return [item for share in queue.take() for item in share.inputs]


def test_a_batch_holds_the_budget_in_the_order_of_arrival():
    queue = queue_of(
        request("a", size=40), request("b", size=50), request("c", size=20), request("d", size=1)
    )
    assert taken(queue) == ["a0", "b0"]
    assert taken(queue) == ["c0", "d0"]
    assert (queue.requests, queue.inputs) == (0, 0)


def test_an_input_beyond_the_budget_goes_alone():
    queue = queue_of(request("a", size=1), request("b", size=1000), request("c", size=1))
    assert [taken(queue) for _ in range(3)] == [["a0"], ["b0"], ["c0"]]


def test_characters_are_those_that_wait():
    several, one = request("a", 3, size=40), request("b", size=7)
    queue = queue_of(several, one, max_inputs=2)
    assert queue.characters == 127
    queue.take()
    assert queue.characters == 47
    queue.remove(several)
    assert queue.characters == 7
    queue.take()
    assert queue.characters == 0


@given(
    st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=5), min_size=1, max_size=5), st.integers(1, 12)
)
def test_what_fills_a_batch_is_never_denied_at_a_glance(sizes, max_inputs):
    queue = FairQueue(max_tokens=30, max_inputs=max_inputs, tokens_of=lambda characters: 1 + characters // 4)
    for row in sizes:
        one = request("a", len(row))
        one.sizes[:] = row
        queue.add(one)
        assert queue.may_fill_a_batch() or not queue.fills_a_batch()


def test_groups_take_turns():
    queue = queue_of(*(request("a", group="a") for _ in range(4)), request("b", group="b"), max_inputs=2)
    assert [len(taken(queue)) for _ in range(3)] == [2, 1, 2]


def test_a_large_request_goes_to_the_end_after_its_turn():
    queue = queue_of(request("large", 3 * TURN), request("small"), max_inputs=TURN + 1)
    first = taken(queue)
    assert first[-1] == "small0"
    assert len(first) == TURN + 1
    assert len(taken(queue)) == TURN + 1
    assert len(taken(queue)) == TURN - 1


def test_a_removed_request_is_not_taken():
    first, second = request("a", 5), request("b", 2)
    queue = queue_of(first, second, max_inputs=3)
    assert taken(queue) == ["a0", "a1", "a2"]
    queue.remove(first)
    queue.remove(first)
    assert (queue.requests, queue.inputs) == (1, 2)
    assert taken(queue) == ["b0", "b1"]
    queue.remove(second)
    assert list(queue) == []


def test_the_queue_knows_when_it_fills_a_batch():
    assert not queue_of().fills_a_batch()
    assert not queue_of(request("a", 3, size=30)).fills_a_batch()
    assert queue_of(request("a", 4, size=30)).fills_a_batch()
    assert queue_of(request("a", 3), max_inputs=3).fills_a_batch()


@given(
    st.lists(st.tuples(st.integers(1, 80), st.sampled_from("ab"), st.integers(1, 60)), max_size=12),
    st.integers(1, 120),
    st.none() | st.integers(1, 50),
)
def test_everything_is_taken_once_within_the_limits(wanted, max_tokens, max_inputs):
    requests = [
        request(f"{number}-", length, group=group, size=size)
        for number, (length, group, size) in enumerate(wanted)
    ]
    queue = queue_of(*requests, max_tokens=max_tokens, max_inputs=max_inputs)
    everything = []
    while queue.requests:
        shares = queue.take()
        assert len({share.request.group for share in shares}) == 1
        sizes = [size for share in shares for size in share.sizes]
        assert len(sizes) == 1 or sum(sizes) <= max_tokens
        assert len(sizes) <= (max_inputs or len(sizes))
        everything += [item for share in shares for item in share.inputs]
    assert queue.inputs == 0
    assert sorted(everything) == sorted(item for one in requests for item in one.inputs)
    for one in requests:
        mine = [item for item in everything if item in set(one.inputs)]
        assert mine == list(one.inputs)
