"""Centralized data cut into clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._clients import ClientTable
from ._federated import Examples, FederatedDataset, RowReader
from .partitioners import Columns, Partitioner, Shares
from .partitioners._rows import check_whole


def partition(
    columns: Mapping[str, Any], partitioner: Partitioner, *, num_clients: int | None = None, seed: int = 0, name: str = "partition"
) -> FederatedDataset:
    """Rows of one table, dealt to clients; the table is not copied, a client's rows are picked when it is read.

    Args:
        columns: Name -> array, one entry per row; held, not copied.
        partitioner: Who gets what, from `fl.data.partitioners`; or a function of your own.
        num_clients: How many clients; left out where the partitioner knows, as `by_column` does.
        seed: Decides everything that is random.
        name: What error messages call the data set.

    Returns:
        Clients "0", "1", ..., filled up with zeros to one width, so that sorting keeps their order; unless the partitioner names them. A
        client's examples are in the order that the partitioner gives: random for all of `fl.data.partitioners` but `by_column`, so that
        `split` and `take` are fair whatever the order of the table.

    Raises:
        ValueError: Columns differ in length, `num_clients` does not go with the data, or the partitioner gave rows that are not there.

    Example:
        >>> from fedloom.data import partitioners
        >>> table = {"x": np.arange(12.0), "y": np.repeat([0, 1, 2], 4)}
        >>> data = partition(table, partitioners.shards("y", per_client=1), num_clients=3)
        >>> dict(data.sizes), [len(set(data[client]["y"].tolist())) for client in data]
        ({'0': 4, '1': 4, '2': 4}, [1, 1, 1])
    """
    if num_clients is not None:
        check_whole(num_clients, "num_clients")
    table = Columns(columns)
    shares = Shares.of(partitioner(table, num_clients, np.random.default_rng(seed)))
    if num_clients is not None and len(shares) != num_clients:
        raise ValueError(f"The partitioner must give rows to num_clients={num_clients} clients, some may be empty, got {len(shares)}.")
    if len(shares.rows) and not 0 <= shares.rows.min() <= shares.rows.max() < table.num_rows:
        raise ValueError(f"The partitioner must give rows from 0 to {table.num_rows - 1}, got {shares.rows.min()} to {shares.rows.max()}.")
    width = len(str(len(shares) - 1))
    clients = ClientTable.from_arrays(shares.ids or [f"{i:0{width}d}" for i in range(len(shares))], shares.sizes)
    return FederatedDataset(clients, _Rows(dict(table), shares.rows, shares.borders, clients), name=name)


@dataclass(frozen=True)
class _Rows(RowReader):
    """Reads clients out of the table."""

    table: dict[str, np.ndarray]
    all_rows: np.ndarray
    borders: np.ndarray  # where in `all_rows` each client begins, and where the last one ends
    clients: ClientTable

    def rows(self, client_id: str) -> tuple[Examples, np.ndarray]:
        place = self.clients.position(client_id)
        if place is None:
            raise KeyError(client_id)
        return self.table, self.all_rows[self.borders[place] : self.borders[place + 1]]
