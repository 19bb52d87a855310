"""Clients that the data already names."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ._rows import Columns, Partitioner, Shares, single_column


def by_column(column: str) -> Partitioner:
    """One client per value of a column, such as a user's name; its id is the value as text, and its rows keep their order.

    Args:
        column: Text, bytes in UTF-8, whole numbers, booleans or dates; no value may be missing. It stays among the columns.

    Raises:
        ValueError: When run: there is no such column, a value is missing or is of another kind, or `num_clients` was given and is another
            number.

    Example:
        >>> from fedloom.data import partition
        >>> data = partition({"x": [1, 2, 3], "user": ["bob", "ada", "bob"]}, by_column("user"))
        >>> {client: data[client]["x"].tolist() for client in data}
        {'ada': [2], 'bob': [1, 3]}
    """

    def deal(columns: Columns, num_clients: int | None, rng: np.random.Generator) -> Shares:
        names, codes = _distinct(single_column(columns, column, "column"), column)
        if num_clients not in (None, len(names)):
            raise ValueError(
                f"num_clients must be left out for by_column({column!r}), or be {len(names)}, the number of its values; got {num_clients}."
            )
        in_order = sorted(range(len(names)), key=names.__getitem__)
        place = np.empty(len(names), np.int64)
        place[in_order] = np.arange(len(names))
        owner = place[codes]
        return Shares(np.argsort(owner, kind="stable"), np.bincount(owner), [names[i] for i in in_order])

    return deal


def _distinct(values: np.ndarray, column: str) -> tuple[list[str], np.ndarray]:
    """The different values as text, and which of them each row has, int64 (n,)."""
    kind = values.dtype.kind
    if kind in "iubU" or (kind == "M" and not np.isnat(values).any()):
        different, codes = np.unique(values, return_inverse=True)
        return (np.datetime_as_string(different).tolist() if kind == "M" else [str(value) for value in different.tolist()]), codes
    if kind not in "OS":
        raise ValueError(
            f"The ids in column {column!r} must be text, whole numbers, booleans or dates, none missing, got {values.dtype}. Turn them "
            "into str."
        )
    types = set(map(type, values.tolist()))
    if not (types <= {str} or types <= {bytes}):
        got = ", ".join(sorted(one.__name__ for one in types))
        raise ValueError(f"The ids in column {column!r} must all be text, got {got}. Fill in what is missing, and turn the rest into str.")
    try:
        encoded = pa.array(values.tolist(), pa.large_binary()).dictionary_encode()  # a hash table, where np.unique would sort objects
        return [value.decode() for value in encoded.dictionary.to_pylist()], encoded.indices.to_numpy().astype(np.int64)
    except UnicodeError as error:
        raise ValueError(f"The ids in column {column!r} must be text, or bytes in UTF-8: {error}.") from error
