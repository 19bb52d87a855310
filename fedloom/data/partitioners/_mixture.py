"""Clients between all alike and all different."""

from __future__ import annotations

import numpy as np

from ._rows import Columns, Partitioner, Shares


def mixture(share: float, partitioner: Partitioner) -> Partitioner:
    """Clients of which a `share` of the rows is i.i.d. and the rest as another partitioner gives them.

    "s% similarity" of Karimireddy et al. 2020 (SCAFFOLD, arXiv:1910.06378), section 7, for any kind of skew: after `partitioner`, every
    client gives up this share of its rows, chosen at random, and gets as many back from what all gave up. So sizes, and ids, stay those of
    `partitioner`. Theirs is `mixture(s / 100, shards(label, 1))`: the rest is sorted by label and cut.

    Args:
        share: In [0, 1]; a client's number of rows is rounded to the nearest.
        partitioner: What gives the rest.

    Raises:
        ValueError: `share` is out of range; when run, what `partitioner` raises.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}. It is the share of a client's rows that is i.i.d.")

    def deal(columns: Columns, num_clients: int | None, rng: np.random.Generator) -> Shares:
        parts = Shares.of(partitioner(columns, num_clients, rng))
        order = rng.permutation(len(parts.rows))
        owner = np.repeat(np.arange(len(parts)), parts.sizes)
        order = order[np.argsort(owner[order], kind="stable")]  # each client's own places, shuffled
        place = np.arange(len(order)) - np.repeat(parts.borders[:-1], parts.sizes)
        given = order[place < np.repeat(np.rint(share * parts.sizes), parts.sizes)]
        rows = parts.rows.copy()
        rows[given] = rng.permutation(rows[given])
        return Shares(rows, parts.sizes, parts.ids)

    return deal
