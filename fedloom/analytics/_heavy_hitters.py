"""The strings that most clients have, without a list of candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._clients import check_count, strings
from ._iblt import Table
from ._strings import add_up


@dataclass(frozen=True)
class HeavyHitters:
    """What `heavy_hitters` finds.

    Attributes:
        strings: Those of the most clients first; among equals the most frequent, then in the order of their bytes.
        clients: How many clients have each, int64.
        counts: How often all clients together have it, int64.
        num_below_min_clients: Strings that were read but are of too few clients.
        num_not_decoded: Pairs of a client and one of its strings that were in the table and could not be read from it.
        num_too_long: Strings longer than `max_bytes`, as often as clients have them, which never were in the table.
    """

    strings: tuple[str, ...]
    clients: np.ndarray
    counts: np.ndarray
    num_below_min_clients: int
    num_not_decoded: int
    num_too_long: int


def heavy_hitters(
    data: Mapping[str, Any],
    *,
    column: str | None = None,
    min_clients: int = 1,
    max_size: int | None = None,
    capacity: int = 1000,
    max_bytes: int = 16,
    max_per_client: int | None = None,
    seed: int = 0,
    executor: Any = "local",
) -> HeavyHitters:
    """The strings that most clients have, and how often, from a sum of invertible Bloom lookup tables.

    Nobody sends a list of strings: what travels is a table of about 1.5 `capacity` cells of `max_bytes` + 4 numbers, the same for every
    client, added up modulo 2^32, as a secure sum can. The sum alone is read. It is read completely if all clients together have at most
    `capacity` distinct strings, but for a chance of less than 1 in 1000, and `num_not_decoded` is 0 then. With many more, next to nothing
    is read: give a larger capacity, or fewer strings per client.

    `min_clients` is k-anonymity: strings of fewer clients are not given out. Whoever reads the sum sees them, and it is no differential
    privacy, which `vocabulary` has.

    Args:
        data: Client id -> strings, or a `FederatedDataset`. Clients may be empty.
        column: Of the data set; may be left out if it has one.
        min_clients: A string is given out if at least so many clients have it, >= 1.
        max_size: The most strings to give out; None for all.
        capacity: Distinct strings of all clients together, >= 1.
        max_bytes: Of a string in UTF-8, >= 1. Longer ones are left out and counted.
        max_per_client: How many distinct strings count of one client, drawn at random from all it has; None for all.
        seed: Of the hash functions, and of which strings are drawn. If a sum cannot be read, another seed may do.
        executor: As `fl.federated` takes it.

    Raises:
        ValueError: An argument is out of range, there is no such column, or there are no clients.
        ClientFailure: A client's values are no strings.

    Example:
        >>> found = heavy_hitters({"ada": ["to", "be", "to"], "bob": ["be"]}, min_clients=2)
        >>> found.strings, found.counts, found.num_below_min_clients
        (('be',), array([2]), 1)
    """
    check_count("min_clients", min_clients)
    check_count("capacity", capacity)
    check_count("max_bytes", max_bytes)
    for name, value in (("max_size", max_size), ("max_per_client", max_per_client)):
        if value is not None:
            check_count(name, value)
    found, too_long = add_up(
        data,
        column,
        Table(capacity, max_bytes, seed),
        count=lambda values: Counter(strings(values)),
        weigh=lambda counts: counts,
        max_per_client=max_per_client,
        frequent_first=False,
        executor=executor,
    )
    order = np.lexsort((-found.weights, -found.clients))  # stable, and the strings are in order
    enough = order[found.clients[order] >= min_clients]
    given = enough[:max_size]
    return HeavyHitters(
        tuple(found.strings[i] for i in given),
        found.clients[given],
        found.weights[given],
        len(order) - len(enough),
        found.pairs_left,
        too_long,
    )
