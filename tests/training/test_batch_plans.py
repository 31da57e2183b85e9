from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.training.batch_plans import (
    batches_of_label_pairs,
    batches_of_like_length,
    batches_without_repeats,
    count_label_batches,
    cut,
)

rows_of_texts = st.lists(st.lists(st.integers(0, 12), max_size=3), max_size=40)
sizes = st.integers(1, 7)


@given(length=st.integers(0, 30), batch_size=sizes, drop_last=st.booleans())
def test_cutting_keeps_the_order_and_drops_only_a_shorter_last_batch(length, batch_size, drop_last):
    batches = list(cut(torch.arange(length), batch_size=batch_size, drop_last=drop_last))
    kept = length // batch_size * batch_size if drop_last else length
    assert [row for batch in batches for row in batch] == list(range(kept))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(batches)


@given(texts=rows_of_texts, batch_size=sizes, drop_last=st.booleans(), seed=st.integers(0, 5))
def test_setting_rows_aside_gives_what_scanning_all_remaining_rows_gives(texts, batch_size, drop_last, seed):
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    batches = list(
        batches_without_repeats(order, texts.__getitem__, batch_size=batch_size, drop_last=drop_last)
    )
    expected = []
    remaining = order
    while remaining:
        batch, used, later = [], set(), []
        for row in remaining:
            if len(batch) < batch_size and used.isdisjoint(texts[row]):
                batch.append(row)
                used.update(texts[row])
            else:
                later.append(row)
        remaining = later
        if len(batch) == batch_size or not drop_last:
            expected.append(batch)
    assert batches == expected


@given(texts=rows_of_texts, batch_size=sizes)
def test_no_text_is_in_two_rows_of_a_batch_and_every_row_is_in_one_batch(texts, batch_size):
    batches = list(
        batches_without_repeats(range(len(texts)), texts.__getitem__, batch_size=batch_size, drop_last=False)
    )
    for batch in batches:
        in_batch = [text for row in batch for text in set(texts[row])]
        assert len(in_batch) == len(set(in_batch))
        assert len(batch) <= batch_size
    assert sorted(row for batch in batches for row in batch) == list(range(len(texts)))


def test_rows_that_all_share_a_text_are_each_looked_at_a_few_times_only():
    looked_at = 0

    def texts_of(row: int) -> list[int]:
        nonlocal looked_at
        looked_at += 1
        return [-1, row]

    batches = list(batches_without_repeats(range(5000), texts_of, batch_size=32, drop_last=False))
    assert len(batches) == 5000
    assert looked_at < 5 * 5000


labels_of_rows = st.lists(st.integers(0, 5), max_size=80).map(
    densely_numbered := lambda labels: torch.tensor(
        [sorted(set(labels)).index(label) for label in labels], dtype=torch.long
    )
)
skewed_labels = st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 9), st.integers(0, 3)).map(
    lambda counts: densely_numbered([label for label, count in enumerate(counts) for _ in range(count)])
)


@given(
    labels=labels_of_rows | skewed_labels,
    half=st.integers(2, 6),
    drop_last=st.booleans(),
    seed=st.integers(0, 3),
)
def test_a_batch_has_two_labels_or_more_and_two_rows_or_more_of_each(labels, half, drop_last, seed):
    batches = list(
        batches_of_label_pairs(
            labels,
            batch_size=2 * half,
            drop_last=drop_last,
            generator=torch.Generator().manual_seed(seed),
        )
    )
    rows = [row for batch in batches for row in batch]
    assert len(rows) == len(set(rows))
    for number, batch in enumerate(batches):
        counts = labels[batch].bincount()
        assert (counts > 0).sum() >= 2
        assert (counts % 2 == 0).all()
        is_shorter_last = number == len(batches) - 1 and not drop_last
        assert len(batch) == 2 * half or (is_shorter_last and len(batch) < 2 * half)
    full, in_last = count_label_batches(labels.bincount(), batch_size=2 * half, drop_last=drop_last)
    assert len(batches) == full + (in_last > 0)


@given(labels=labels_of_rows, half=st.integers(2, 6))
def test_only_odd_rows_and_one_pair_are_left_out_where_no_label_outweighs_the_others(labels, half):
    pairs = labels.bincount() // 2
    others = int(pairs.sum() - pairs.max()) if len(pairs) else 0
    used = sum(map(len, batches_of_label_pairs(labels, batch_size=2 * half, drop_last=False, generator=None)))
    if others > -(-int(pairs.sum()) // half):
        assert used >= 2 * int(pairs.sum()) - 2


def test_batches_have_the_mix_of_labels_that_the_data_has():
    labels = torch.tensor([0] * 400 + [1] * 200 + [2] * 200)
    for batch in batches_of_label_pairs(labels, batch_size=16, drop_last=True, generator=None):
        assert labels[batch].bincount().tolist() == [8, 4, 4]


def test_labels_meet_others_in_every_batch_they_are_in():
    labels = torch.arange(100).repeat_interleave(20)
    generator = torch.Generator().manual_seed(0)
    met: list[set[int]] = [set() for _ in range(100)]
    for batch in batches_of_label_pairs(labels, batch_size=20, drop_last=True, generator=generator):
        for label in labels[batch].tolist():
            met[label].update(labels[batch].tolist())
    assert min(map(len, met)) > 40


@given(
    lengths=st.lists(st.integers(0, 100), max_size=60),
    batch_size=sizes,
    batches_per_bucket=st.integers(1, 4),
    drop_last=st.booleans(),
)
def test_grouping_by_length_keeps_every_row_once(lengths, batch_size, batches_per_bucket, drop_last):
    batches = list(
        batches_of_like_length(
            torch.tensor(lengths, dtype=torch.long),
            batch_size=batch_size,
            drop_last=drop_last,
            batches_per_bucket=batches_per_bucket,
            generator=None,
        )
    )
    rows = [row for batch in batches for row in batch]
    assert len(rows) == len(set(rows))
    assert len(rows) == (len(lengths) // batch_size * batch_size if drop_last else len(lengths))
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_grouping_by_length_leaves_little_padding_and_random_order():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 1000, (4000,), generator=generator)
    batches = list(
        batches_of_like_length(
            lengths, batch_size=16, drop_last=False, batches_per_bucket=50, generator=generator
        )
    )
    spread = torch.stack([lengths[batch].max() - lengths[batch].min() for batch in batches]).float()
    assert spread.mean() < 30  # About 880 with rows in random order.
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)
