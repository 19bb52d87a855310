"""One client's batches in a round: which examples stand where, and how their rows get there with a single copy.

Free to change: how rows are copied. With care: `shuffled`, which decides the order of everybody's examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fedloom.core import Batch

Part = tuple[tuple[int, ...], np.dtype]
_NO_ROWS = np.zeros(0, np.int64)


def shuffled(count: int, *, client: str, seed: int, round_number: int, epoch: int) -> np.ndarray:
    """A random order of `count` examples, int64 (count,), decided by these arguments alone.

    Examples are sorted by 64 bits each of SHAKE-128 (FIPS 202) over the arguments: there is no state to set up, which for a client of
    twenty examples is most of what another generator costs, and equal keys, which would favour the order of the data, do not occur.
    """
    stream = hashlib.shake_128(f"{seed}/{round_number}/{epoch}/{client}".encode())
    return np.frombuffer(stream.digest(8 * count), "<u8").argsort(kind="stable")


class ClientBatches:
    """A client's batches, of one shape; iterating gives them one by one.

    Args:
        columns: `x`, and `y` and `sample_weight` if there are any, equally long; only read.
        rows: Which of their rows are the client's examples, int64 (n,); None takes all.
        size: Rows of a batch.
        num_batches: How many there are in all epochs.
        per_epoch: How many there are in one.
        order: From an epoch to the order of its examples, int64 (n,).
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        rows: np.ndarray | None,
        *,
        size: int,
        num_batches: int,
        per_epoch: int,
        order: Callable[[int], np.ndarray],
    ):
        self.num_batches, self.size = num_batches, size
        self._x, self._y, self._weight = columns["x"], columns.get("y"), columns.get("sample_weight")
        self._rows, self._per_epoch, self._order = rows, per_epoch, order
        self._epoch, self._in_order = -1, _NO_ROWS

    def like(self) -> tuple[Part, Part | None, Part | None]:
        """The shape of one example and the dtype, of x, y and sample_weight; None for one that the client has not."""
        y, weight = self._y, self._weight
        return (
            (self._x.shape[1:], self._x.dtype),
            None if y is None else (y.shape[1:], y.dtype),
            None if weight is None else (weight.shape[1:], weight.dtype),
        )

    def fill(self, start: int, stop: int, x: np.ndarray, y: Any, weight: np.ndarray, real: np.ndarray) -> Batch:
        """Writes the batches from `start` to before `stop` into arrays whose rows are those of these batches, one after the other.

        Args:
            start: >= 0.
            stop: At most `num_batches`.
            x: For their inputs, shape (rows, ...), of any dtype.
            y: For their labels, likewise; not looked at if the client has none.
            weight: For their sample weights.
            real: For which are real, shape (rows,).

        Returns:
            What was written, with the dtypes that the client has it in.
        """
        rows, which = self._places(start, stop)
        real[...] = 1 if which is None else which
        if self._weight is None:
            weight[...] = 1
        return Batch(
            _take(self._x, rows, x),
            y if self._y is None else _take(self._y, rows, y),
            weight if self._weight is None else _take(self._weight, rows, weight),
            real,
        )

    def __iter__(self) -> Iterator[Batch]:
        ones = np.ones(self.size, np.float32)
        for i in range(self.num_batches):
            rows, real = self._places(i, i + 1)
            weights = ones if self._weight is None else self._weight[rows].astype(np.float32)
            y = {} if self._y is None else self._y[rows]
            yield Batch(self._x[rows], y, weights, ones if real is None else real)

    def _places(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The row of the columns at every place of these batches, int64, and which are real, float32; None if all are."""
        size = self.size
        epoch, first = divmod(start, self._per_epoch)
        within = self._order_of(epoch)[first * size : (first + stop - start) * size]
        if len(within) == (stop - start) * size:
            return within, None
        return self._places_over_ends(start, stop)

    def _order_of(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            order = self._order(epoch)
            self._epoch, self._in_order = epoch, order if self._rows is None else self._rows[order]
        return self._in_order

    def _places_over_ends(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The same where an epoch ends, and perhaps its last batch is padded."""
        size, rows, real = self.size, [], []
        while start < stop:
            epoch, first = divmod(start, self._per_epoch)
            last = min(first + stop - start, self._per_epoch)
            own = self._order_of(epoch)[first * size : last * size]
            rows.append(own)
            real.append(None)
            if missing := (last - first) * size - len(own):
                # Padding repeats real rows of its batch, so that it is valid input for any model; `real` takes its weight away.
                whole = len(own) + missing - size
                rows[-1] = np.concatenate([own[:whole], np.resize(own[whole:], size)])
                real[-1] = (np.arange(len(rows[-1])) < len(own)).astype(np.float32)
            start += last - first
        if len(rows) == 1:
            return rows[0], real[0]
        if all(one is None for one in real):
            return np.concatenate(rows), None
        whole = [np.ones(len(own), np.float32) if one is None else one for own, one in zip(rows, real, strict=True)]
        return np.concatenate(rows), np.concatenate(whole)


def _take(column: np.ndarray, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
    if column.dtype == out.dtype:
        return column.take(rows, 0, out, "clip")  # all rows are there; another mode would write to a buffer first
    taken = column[rows]
    out[...] = taken
    return taken
