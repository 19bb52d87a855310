"""Rows in any order -> rows client by client, in memory: clients sorted by id, each one's rows in the order that they had.

Free to change: how it is computed. With care: the sort must stay stable, for the order of a client's examples is the source's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .._clients import ClientTable
from .._columns import examples_of
from .._federated import Examples, FederatedDataset


class Groups(NamedTuple):
    """Which rows are whose."""

    order: np.ndarray | None  # int64 (rows,): the rows client by client; None: so they are already
    ids: pa.Array  # distinct, large strings, sorted
    sizes: np.ndarray  # int64 (clients,): rows of each


def group(ids: pa.Array | pa.ChunkedArray) -> Groups:
    """Groups rows by client.

    Args:
        ids: The client of every row, large strings without nulls.
    """
    encoded = (ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids).dictionary_encode()
    by_id = pc.sort_indices(encoded.dictionary)  # by UTF-8 bytes, which is Python's order of strings
    rank = np.empty(len(by_id), np.int64)
    rank[by_id.to_numpy()] = np.arange(len(by_id))
    codes = rank[encoded.indices.to_numpy()]
    grouped = bool((codes[1:] >= codes[:-1]).all())
    order = None if grouped else np.argsort(codes, kind="stable")
    return Groups(order, encoded.dictionary.take(by_id), np.bincount(codes, minlength=len(by_id)))


def grouped_rows(table: pa.Table, order: np.ndarray | None) -> pa.RecordBatch:
    """The rows in this order, in one piece of memory."""
    # A piece first: `take` on many chunks would look for the chunk of every row.
    (rows,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
    return rows if order is None else rows.take(pa.array(order))


def by_client(ids: pa.Array | pa.ChunkedArray, table: pa.Table, *, name: str) -> FederatedDataset:
    """The rows of a table as a data set in memory.

    Args:
        ids: The client of every row, large strings.
        table: The other columns, of types that `to_numpy` takes.
        name: Of the data set.
    """
    groups = group(ids)
    clients = ClientTable(groups.ids, groups.sizes)
    return FederatedDataset(clients, _Rows(grouped_rows(table, groups.order), clients), name=name)


class _Rows:
    """Reads a client: a slice of the rows."""

    def __init__(self, rows: pa.RecordBatch, clients: ClientTable):
        self._rows, self._clients = rows, clients
        self._starts = np.cumsum(clients.size_array) - clients.size_array

    def __call__(self, client_id: str) -> Examples:
        position = self._clients.position(client_id)
        assert position is not None, client_id  # a data set asks for its own clients only
        rows = self._rows.slice(int(self._starts[position]), int(self._clients.size_array[position]))
        return examples_of(rows, client=client_id)
