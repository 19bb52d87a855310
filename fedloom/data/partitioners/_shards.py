"""The first label skew of the literature: rows sorted by label, cut, and dealt."""

from __future__ import annotations

import numpy as np

from ._rows import Columns, Partitioner, Shares, check_whole, checked_number, even_sizes, label_codes, shuffled_by_owner


def shards(label: str, per_client: int = 2) -> Partitioner:
    """Rows sorted by label and cut into `num_clients * per_client` shards of equal size, of which each client gets `per_client` at random.

    McMahan et al. 2017 (arXiv:1602.05629), section 3: 200 shards of 300 images of MNIST for 100 clients, so that most clients have two
    digits. A shard in which one label ends and the next begins holds both. Where rows do not divide evenly, shards differ by one row.

    Args:
        label: The column to sort by.
        per_client: Shards per client, at least 1.

    Raises:
        ValueError: `per_client` is less than 1; when run, there is no column `label`, or there are fewer rows than shards.
    """
    check_whole(per_client, "per_client")

    def deal(columns: Columns, num_clients: int | None, rng: np.random.Generator) -> Shares:
        codes, _ = label_codes(columns, label)
        number = checked_number(columns, num_clients, rows_each=per_client)
        shuffled = rng.permutation(len(codes))  # which rows of a label share a shard
        by_label = shuffled[np.argsort(codes[shuffled], kind="stable")]
        clients = rng.permutation(np.repeat(np.arange(number), per_client))  # one per shard
        owner = np.empty(len(codes), np.int64)
        owner[by_label] = np.repeat(clients, even_sizes(len(codes), len(clients)))
        return shuffled_by_owner(owner, number, rng)

    return deal
