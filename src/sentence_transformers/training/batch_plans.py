"""Group row numbers into batches.

Pure functions over row numbers, labels and lengths: no text may occur twice in a batch, every label of a
batch must occur in pairs, or rows of like length shall stand together. Nothing in this file knows about
data sets or models; where chance is needed, the generator is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import heappop, heappush

import torch
from torch import Generator, Tensor


def cut(order: Tensor, *, batch_size: int, drop_last: bool) -> Iterator[list[int]]:
    """Cut an order of rows, (N,), into batches; the last one may be shorter, or is left out."""
    for batch in order.split(batch_size):
        if len(batch) == batch_size or (len(batch) and not drop_last):
            yield batch.tolist()


def batches_without_repeats(
    order: Iterable[int],
    texts_of: Callable[[int], Collection[int]],
    *,
    batch_size: int,
    drop_last: bool,
) -> Iterator[list[int]]:
    """Fill each batch with the first rows, in order, that share no text with a row already in it.

    A row set aside keeps its place: the next batch looks at it before later rows. What comes out is what
    scanning all remaining rows for every batch would give, but a row that was set aside is looked at again
    only once the text that kept it out is free, so that the work grows with the rows, not with their square.

    Args:
        order: Row numbers.
        texts_of: Keys of the texts of a row; equal texts have equal keys. A key may come twice in a row.
        batch_size: Rows in a full batch.
        drop_last: Leave out batches that cannot be filled.

    Yields:
        Batches. Every row is in exactly one, but for those that `drop_last` leaves out.
    """
    fresh = enumerate(order)
    waiting = WaitingRows()
    while True:
        batch: list[int] = []
        used: set[int] = set()
        while len(batch) < batch_size:
            # Every waiting row comes before every fresh one.
            found = waiting.first(used) or next(fresh, None)
            if found is None:
                break
            place, row = found
            texts = texts_of(row)
            in_the_way = next((text for text in texts if text in used), None)
            if in_the_way is None:
                batch.append(row)
                used.update(texts)
            else:
                waiting.add(in_the_way, place, row)
        if not batch:
            return
        if len(batch) == batch_size or not drop_last:
            yield batch
        waiting.release(used)


class WaitingRows:
    """Rows that were set aside, in one queue for each text that kept rows out.

    All rows of a queue share its text, so no batch can take more than one of them: only the first of each
    queue is ever looked at.
    """

    def __init__(self) -> None:
        self.queues: dict[int, list[tuple[int, int]]] = {}  # text -> heap of (place, row)
        self.heads: list[tuple[int, int]] = []  # heap of (place of the first row, text)

    def add(self, text: int, place: int, row: int) -> None:
        """Set a row aside until the text, which is in the current batch, is free."""
        heappush(self.queues.setdefault(text, []), (place, row))

    def first(self, used: set[int]) -> tuple[int, int] | None:
        """Take out the first row, with its place, whose queue is not for a text in use."""
        while self.heads:
            place, text = heappop(self.heads)
            queue = self.queues.get(text)
            # A text in use is released later; a head whose row is gone is left over from before.
            if text in used or queue is None or queue[0][0] != place:
                continue
            found = heappop(queue)
            if queue:
                heappush(self.heads, (queue[0][0], text))
            else:
                del self.queues[text]
            return found
        return None

    def release(self, texts: Iterable[int]) -> None:
        """The batch with these texts is complete."""
        for text in texts:
            if queue := self.queues.get(text):
                heappush(self.heads, (queue[0][0], text))


def batches_of_label_pairs(
    labels: Tensor, *, batch_size: int, drop_last: bool, generator: Generator | None
) -> Iterator[list[int]]:
    """Group rows so that a batch has at least two labels, and at least two rows of each.

    The rows of a label form random pairs, and the pairs are dealt like cards: laid out label by label, the
    most frequent label first, and given to the batches in rounds, one pair to each batch in a round. So all
    batches have about the same mix of labels. Where one label has so many rows that others run out, some
    of its rows are left out, as is the odd row of a label.

    Args:
        labels: Number of each row's label, (N,), counted from 0.
        batch_size: Rows in a full batch; even, and at least 4.
        drop_last: Leave out the shorter batch at the end.
        generator: Source of chance; None for torch's own.

    Yields:
        As many batches as `count_label_batches` says, the shorter one last.
    """
    pairs_per_batch = batch_size // 2
    rows_by_label = torch.bincount(labels)  # (labels,)
    full, in_last = count_label_batches(rows_by_label, batch_size=batch_size, drop_last=drop_last)
    pairs = rows_by_label // 2
    dealt = full * pairs_per_batch + in_last
    if not dealt:
        return
    # More pairs than there are places for are of the most frequent label.
    pairs[pairs.argmax()] -= pairs.sum() - dealt

    shuffled = torch.randperm(len(labels), generator=generator)
    # The rows label by label, and in random order within a label.
    rows = shuffled[labels[shuffled].argsort(stable=True)]
    starts = (rows_by_label.cumsum(0) - rows_by_label).tolist()
    # With the most frequent label first, the first round has it in every batch that the last round completes
    # with another label; and a label with fewer pairs than a round never reaches from the first to the last.
    most_frequent = int(pairs.argmax())
    in_any_order = torch.randperm(len(pairs), generator=generator).tolist()
    stacks = [
        rows[starts[label] : starts[label] + 2 * count]
        for label, count in zip(in_any_order, pairs[in_any_order].tolist(), strict=True)
    ]
    first = stacks.pop(in_any_order.index(most_frequent))
    laid_out = torch.cat([first, *stacks]).view(-1, 2)

    rounds = []
    for number in range(pairs_per_batch):
        # The shorter batch takes part in the first rounds and in the last.
        shorter = in_last > 0 and (number < in_last - 1 or number == pairs_per_batch - 1)
        batches = full + shorter
        # In random order, lest the same labels meet in many batches. With two rounds only, a label that
        # reaches over the end of the first could then meet itself.
        is_mixed = pairs_per_batch > 2
        rounds.append(torch.randperm(batches, generator=generator) if is_mixed else torch.arange(batches))
    by_batch = laid_out[torch.cat(rounds).argsort(stable=True)].flatten()

    in_full = by_batch[: full * batch_size].view(full, batch_size)
    yield from in_full[torch.randperm(full, generator=generator)].tolist()
    if in_last:
        yield by_batch[full * batch_size :].tolist()


def count_label_batches(rows_by_label: Tensor, *, batch_size: int, drop_last: bool) -> tuple[int, int]:
    """Number of full batches of label pairs, and of pairs in a shorter batch, 0 for none.

    Args:
        rows_by_label: How many rows each label has, (labels,).
        batch_size: As in `batches_of_label_pairs`.
        drop_last: As in `batches_of_label_pairs`.
    """
    pairs_per_batch = batch_size // 2
    pairs = rows_by_label // 2
    total = int(pairs.sum())
    # Every batch needs a pair that is not of the most frequent label.
    others = total - int(pairs.max()) if len(pairs) else 0
    full = min(total // pairs_per_batch, others)
    in_last = total - full * pairs_per_batch
    if drop_last or in_last < 2 or others <= full:
        in_last = 0
    return full, in_last


def batches_of_like_length(
    lengths: Tensor,
    *,
    batch_size: int,
    drop_last: bool,
    batches_per_bucket: int,
    generator: Generator | None,
) -> Iterator[list[int]]:
    """Group rows of like length, while any two rows may meet in a batch in some epoch.

    Rows in random order are sorted by length within buckets of some batches, and the batches come in
    random order again.

    Args:
        lengths: Length of each row, (N,), in any unit.
        batch_size: Rows in a full batch.
        drop_last: Leave out the shorter batch, which stands at the end.
        batches_per_bucket: Batches in a bucket: more of them make lengths more alike, 1 sorts nothing.
        generator: Source of chance; None for torch's own.
    """
    order = torch.randperm(len(lengths), generator=generator)
    in_full = len(lengths) // batch_size * batch_size
    buckets = order[:in_full].split(batch_size * batches_per_bucket)
    batches = torch.cat([bucket[lengths[bucket].argsort(stable=True)] for bucket in buckets])
    batches = batches.view(in_full // batch_size, batch_size)
    for batch in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[batch].tolist()
    if in_full < len(order) and not drop_last:
        yield order[in_full:].tolist()
