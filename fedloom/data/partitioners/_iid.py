"""Clients that are all alike."""

from __future__ import annotations

import numpy as np

from ._rows import Columns, Partitioner, Shares, checked_number, even_sizes


def iid() -> Partitioner:
    """Rows dealt at random, equally many to each client, or one more to the first few.

    McMahan et al. 2017 (arXiv:1602.05629), section 3: "the data is shuffled, and then partitioned". A client's rows are in random order.
    """

    def deal(columns: Columns, num_clients: int | None, rng: np.random.Generator) -> Shares:
        number = checked_number(columns, num_clients)
        return Shares(rng.permutation(columns.num_rows), even_sizes(columns.num_rows, number))

    return deal
