"""ClientTable: the ids and sizes of a population too large for a dict.

Free to change: how an id is found. With care: the order of ids, on which sampling depends.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_IDS_AT_ONCE = 1 << 16  # turned into Python strings while iterating
_FEW = 1 << 12  # ids that are looked up one by one
_REMEMBERED = 1 << 14  # positions that are kept, at some 150 bytes each


class ClientTable(Mapping[str, int]):
    """Client id -> number of examples, as two arrays that may lie on disk; a look-up is a binary search.

    Takes 20 to 30 bytes per client where a dict takes 150, and nothing before it is asked where the arrays are memory-mapped.

    Args:
        ids: Distinct ids, shape (n,), without nulls, in the order that the population has.
        sizes: int64 (n,), >= 0.
        by_id: Positions of the ids in their sorted order, integers (n,); None says that they are sorted.

    Example:
        >>> table = ClientTable.from_arrays(pa.array(["bob", "ada"]), np.array([2, 5]))
        >>> table["ada"], table.ids[0], list(table)
        (5, 'bob', ['bob', 'ada'])
    """

    def __init__(self, ids: pa.Array, sizes: np.ndarray, by_id: np.ndarray | None = None):
        self.id_array = ids
        self.size_array = sizes
        self.by_id = by_id
        self._found: dict[str, int] = {}  # by the last searches

    @classmethod
    def from_arrays(cls, ids: pa.Array | Sequence[str], sizes: np.ndarray) -> ClientTable:
        """The table of ids in any order.

        Raises:
            ValueError: An id occurs twice.
        """
        array = id_strings(ids)
        order = pc.sort_indices(array).to_numpy()
        ordered = array.take(pa.array(order))
        repeated = pc.equal(ordered[1:], ordered[:-1]).to_numpy(zero_copy_only=False) if len(ordered) > 1 else np.zeros(0, bool)
        if repeated.any():
            twice = ordered[int(np.argmax(repeated))].as_py()
            raise ValueError(f"Client ids must be distinct, got {twice!r} twice, and {repeated.sum()} repeats in all. Rename them.")
        is_sorted = bool((order[1:] > order[:-1]).all())
        return cls(array, np.asarray(sizes, np.int64), None if is_sorted else order.astype(np.int64))

    @property
    def ids(self) -> Sequence[str]:
        """The ids, in order, read from the array as they are asked for."""
        return _Ids(self)

    def position(self, client_id: object) -> int | None:
        """Where this client stands in the order, or None."""
        if not isinstance(client_id, str):
            return None
        # A cohort is looked up when it is chosen, when a data set is asked whether it has a client, and when that client is read.
        if (position := self._found.get(client_id)) is not None:
            return position
        found = bisect.bisect_left(range(len(self)), client_id, key=self._kth)
        if found == len(self) or self._kth(found) != client_id:
            return None
        position = found if self.by_id is None else int(self.by_id[found])
        self._remember([client_id], [position])
        return position

    def positions(self, client_ids: Sequence[str]) -> np.ndarray:
        """Where these clients stand in the order, int64.

        Raises:
            KeyError: One is not in the table; its argument is that id.
        """
        if len(client_ids) <= _FEW:
            found = [self.position(client_id) for client_id in client_ids]
            positions = np.array([-1 if at is None else at for at in found], np.int64)
        else:  # a hash table over everybody is quicker than many searches
            wanted = pa.array(client_ids, self.id_array.type)
            positions = pc.fill_null(pc.index_in(wanted, value_set=self.id_array), -1).to_numpy().astype(np.int64)
        if (positions < 0).any():
            raise KeyError(client_ids[int(np.argmax(positions < 0))])
        self._remember(client_ids, positions.tolist())
        return positions

    def take(self, positions: np.ndarray) -> ClientTable:
        """The table of these clients, each at most once, in this order."""
        ids = self.id_array.take(pa.array(positions, pa.int64()))
        place = np.full(len(self), -1, np.int64)
        place[positions] = np.arange(len(positions))
        order = place if self.by_id is None else place[self.by_id]
        order = order[order >= 0]
        is_sorted = bool((order[1:] > order[:-1]).all())
        return ClientTable(ids, self.size_array[positions], None if is_sorted else order)

    def with_sizes(self, sizes: np.ndarray) -> ClientTable:
        """The same clients with other sizes, int64 (n,)."""
        return ClientTable(self.id_array, np.asarray(sizes, np.int64), self.by_id)

    def __getitem__(self, client_id: str) -> int:
        position = self.position(client_id)
        if position is None:
            raise KeyError(client_id)
        return int(self.size_array[position])

    def __contains__(self, client_id: object) -> bool:
        return self.position(client_id) is not None

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _IDS_AT_ONCE):
            ids = self.id_array[start : start + _IDS_AT_ONCE].to_pylist()
            self._remember(ids, range(start, start + len(ids)))
            yield from ids

    def __len__(self) -> int:
        return len(self.id_array)

    def __repr__(self) -> str:
        return f"<ClientTable of {len(self)} clients>"

    def _remember(self, ids: Sequence[str], positions: Iterable[int]) -> None:
        if len(ids) > _REMEMBERED:
            return
        if len(self._found) + len(ids) > _REMEMBERED:
            self._found = {}  # one assignment, so that threads may do this at once
        self._found.update(zip(ids, positions, strict=True))

    def _kth(self, k: int) -> str:
        """The id at place k of the sorted order. Arrow sorts by UTF-8 bytes, which is Python's order of strings."""
        return self.id_array[k if self.by_id is None else int(self.by_id[k])].as_py()


class _Ids(Sequence[str]):
    """The ids of a table as a sequence."""

    def __init__(self, table: ClientTable):
        self._table = table

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self._table.id_array[i].as_py() for i in range(*index.indices(len(self))))
        return self._table.id_array[range(len(self))[index]].as_py()

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._table

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list: it would have to read everything

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"<{len(self)} client ids: {shown}{', ...' if len(self) > 3 else ''}>"


def id_strings(ids: Any) -> pa.Array:
    """Ids, a sequence of str or an Arrow array of strings, as one of large strings."""
    return ids.cast(pa.large_string()) if isinstance(ids, pa.Array) else pa.array(ids, pa.large_string())


def select(sizes: Mapping[str, int], positions: np.ndarray, ids: Sequence[str]) -> Mapping[str, int]:
    """The clients at these positions, in this order; `ids` are those of `sizes`, in order."""
    if isinstance(sizes, ClientTable):
        return sizes.take(positions)
    return {client_id: sizes[client_id] for client_id in (ids[int(i)] for i in positions)}


def lookup(sizes: Mapping[str, int], client_ids: Iterable[str]) -> Mapping[str, int]:
    """These clients only, in this order.

    Raises:
        KeyError: One is not there; its argument is that id.
    """
    wanted = list(client_ids)
    if isinstance(sizes, ClientTable) and len(wanted) > _FEW:
        return sizes.take(sizes.positions(wanted))
    return {client_id: sizes[client_id] for client_id in wanted}


def resized(sizes: Mapping[str, int], new: np.ndarray) -> Mapping[str, int]:
    """The same clients with other sizes, given in their order."""
    if isinstance(sizes, ClientTable):
        return sizes.with_sizes(new)
    return dict(zip(sizes, new.tolist(), strict=True))


def size_array(sizes: Mapping[str, int]) -> np.ndarray:
    """The sizes in the order of the clients, int64; not to be written to."""
    return sizes.size_array if isinstance(sizes, ClientTable) else np.fromiter(sizes.values(), np.int64, len(sizes))


def id_array(sizes: Mapping[str, int]) -> pa.Array:
    """The ids as an Arrow array of large strings."""
    return sizes.id_array if isinstance(sizes, ClientTable) else id_strings(list(sizes))


def joined(parts: Sequence[Mapping[str, int]]) -> ClientTable:
    """The clients of all parts in the order of their first appearance; the sizes of those that come several times are added."""
    ids = pa.concat_arrays([id_array(part) for part in parts])
    encoded = ids.dictionary_encode()  # numbers ids by their first appearance
    totals = np.zeros(len(encoded.dictionary), np.int64)
    np.add.at(totals, encoded.indices.to_numpy(), np.concatenate([size_array(part) for part in parts]))
    return ClientTable.from_arrays(encoded.dictionary, totals)
