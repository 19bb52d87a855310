"""What partitioners take and give, and what they share.

With care: the order of random draws, which decides who gets what under a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

Partitioner = Callable[["Columns", int | None, np.random.Generator], Sequence[np.ndarray]]
"""(columns, number of clients, random generator) -> the rows of each client, in the order that the client keeps.

The number is None where the user gave none; a partitioner that cannot do without says so. Ids of clients can be named with `Shares`.
"""


class Columns(Mapping[str, np.ndarray]):
    """Columns of equal length, at least one row.

    Args:
        columns: Name -> whatever `numpy.asarray` accepts, one entry per row.

    Raises:
        ValueError: There is no column or no row, or the lengths differ.
    """

    def __init__(self, columns: Mapping[str, Any]):
        self._arrays = {name: np.asarray(column) for name, column in columns.items()}
        lengths = {name: len(array) if array.ndim else 0 for name, array in self._arrays.items()}
        if len(set(lengths.values())) != 1 or not min(lengths.values()):
            raise ValueError(f"columns must be equally long, with one row at least, got {lengths or 'no columns'}.")
        self.num_rows: int = next(iter(lengths.values()))

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


class Shares(Sequence[np.ndarray]):
    """The rows of all clients in one array: for many clients cheaper than a list of arrays, and read like one.

    Args:
        rows: int64; the rows of the first client, then those of the second, and so on.
        sizes: int64 (number of clients,); adds up to `len(rows)`.
        ids: The clients' ids, distinct; None leaves the naming to `partition`.

    Example:
        >>> list(Shares(np.array([3, 1, 2]), np.array([2, 0, 1])))
        [array([3, 1]), array([], dtype=int64), array([2])]
    """

    def __init__(self, rows: np.ndarray, sizes: np.ndarray, ids: Sequence[str] | None = None):
        self.rows, self.sizes, self.ids = rows, sizes, ids

    @cached_property
    def borders(self) -> np.ndarray:
        """Where each client begins in `rows`, and the end; int64 (number of clients + 1,)."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        client = range(len(self))[index]
        return self.rows[self.borders[client] : self.borders[client + 1]]

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def of(cls, parts: Sequence[np.ndarray]) -> Shares:
        """Any partitioner's result in this form.

        Raises:
            TypeError: Rows are not whole numbers.
        """
        if isinstance(parts, cls):
            return parts
        arrays = [np.asarray(part) for part in parts]
        for client, array in enumerate(arrays):
            if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
                raise TypeError(
                    f"A partitioner must give each client an array of row numbers, shape (n,), got {array.dtype} {array.shape} for client "
                    f"{client}. For a mask, use np.flatnonzero(mask)."
                )
        rows = np.concatenate(arrays).astype(np.int64) if arrays else np.zeros(0, np.int64)
        return cls(rows, np.array([len(array) for array in arrays], np.int64))


def shuffled_by_owner(owner: np.ndarray, num_clients: int, rng: np.random.Generator, rows: np.ndarray | None = None) -> Shares:
    """The rows of each client, in random order.

    Args:
        owner: The client of each row, (n,).
        num_clients: One more than the largest owner there may be.
        rng: Decides the order.
        rows: What stands at the places of `owner`, (n,); None takes the places themselves.
    """
    order = rng.permutation(len(owner))
    # Stable, since other sorts order equal keys differently from one processor to the next.
    order = order[np.argsort(owner[order], kind="stable")]
    return Shares(order if rows is None else rows[order], np.bincount(owner, minlength=num_clients))


def even_sizes(num_rows: int, num_parts: int) -> np.ndarray:
    """Sizes that differ by one at most, the larger ones first; int64 (num_parts,)."""
    sizes = np.full(num_parts, num_rows // num_parts, np.int64)
    sizes[: num_rows % num_parts] += 1
    return sizes


def label_codes(columns: Columns, label: str) -> tuple[np.ndarray, int]:
    """A column of labels as numbers from 0, int64 (n,), in the order of the labels; and how many different ones there are.

    Raises:
        ValueError: There is no such column, or it does not have one label per row.
    """
    labels = single_column(columns, label, "label")
    try:
        values, codes = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise ValueError(f"The labels in column {label!r} must be of one kind, to be told apart: {error}.") from error
    return codes, len(values)


def single_column(columns: Columns, name: str, argument: str) -> np.ndarray:
    """The column of this name, shape (n,).

    Raises:
        ValueError: There is none, or it has more axes.
    """
    if name not in columns:
        raise ValueError(f"{argument} must name a column, got {name!r}. There are {', '.join(map(repr, columns))}.")
    if columns[name].ndim != 1:
        raise ValueError(
            f"{argument} must name a column with one value per row, got {name!r}, whose rows have shape {columns[name].shape[1:]}. "
            "Turn one-hot labels into numbers with argmax(axis=-1)."
        )
    return columns[name]


def checked_number(columns: Columns, num_clients: int | None, *, rows_each: int = 1) -> int:
    """The number of clients, if there is one and there are `rows_each` rows for each of them.

    Raises:
        ValueError: Otherwise.
    """
    if num_clients is None:
        raise ValueError("num_clients must be given: only by_column knows from the data how many clients there are.")
    if num_clients * rows_each > columns.num_rows:
        raise ValueError(
            f"num_clients must be at most {columns.num_rows // rows_each}: there are {columns.num_rows} rows, and a client needs at least "
            f"{rows_each}; got {num_clients}."
        )
    return num_clients


def check_concentration(alpha: float) -> None:
    """Raises ValueError unless alpha lies in [1e-9, 1e9]; beyond that it makes no difference, but numbers run over."""
    if not 1e-9 <= alpha <= 1e9:
        raise ValueError(f"alpha must be in [1e-9, 1e9], got {alpha}. The smaller it is, the more clients differ.")


def check_whole(value: int, name: str, least: int = 1) -> None:
    """Raises ValueError unless the value is a whole number of at least `least`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")
