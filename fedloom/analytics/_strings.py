"""Clients' strings in a table, added up: what heavy hitters and vocabularies have in common."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fedloom import core
from fedloom.engine import federated

from ._clients import Prepared, generator
from ._iblt import MOST_CLIENTS, Decoded, Table, sketch

Count = Callable[[Any], Counter[str]]
"""A client's values -> string -> how often it has it."""
Weigh = Callable[[Mapping[str, int]], Mapping[str, int]]
"""Of the strings that count of a client, how often it has them -> their weights in the sum."""


class Strings(NamedTuple):
    """What all clients have."""

    decoded: Decoded
    too_long: int  # strings with more bytes than a table's cell holds, counted as often as they come; they are left out


def add_up(
    data: Mapping[str, Any],
    column: str | None,
    table: Table,
    *,
    count: Count,
    weigh: Weigh,
    max_per_client: int | None,
    frequent_first: bool,
    executor: Any,
) -> Strings:
    """Adds clients' tables up and reads the sum.

    Args:
        data: Client id -> values.
        column: Of the data.
        table: Where the strings go.
        count: Finds a client's strings.
        weigh: Gives them weights.
        max_per_client: How many distinct strings count of one client; None for all.
        frequent_first: Whether those that it has most often count, and not such drawn at random.
        executor: As `fl.federated` takes it.
    """

    def prepare(client: str, values: Any) -> dict[str, Any]:
        counted = count(values)
        short = {string: n for string, n in sorted(counted.items()) if _num_bytes(string) <= table.max_bytes}
        too_long = sum(counted.values()) - sum(short.values())
        if max_per_client is not None and len(short) > max_per_client:
            order = generator(table.seed, "strings", client).permutation(len(short))
            if frequent_first:  # among equally frequent ones, chance decides
                order = order[np.argsort(-np.array(list(short.values()))[order], kind="stable")]
            strings = list(short)
            short = {strings[i]: short[strings[i]] for i in sorted(order[:max_per_client])}
        return {**table.entries(weigh(short)), "too_long": np.int32(too_long)}

    clients = Prepared(data, column, prepare)
    if len(clients) > MOST_CLIENTS:
        raise ValueError(f"data must have at most {MOST_CLIENTS} clients, whose bytes add up without wrapping, got {len(clients)}.")
    total, too_long = _sum(table.shape[0], executor)(clients)
    return Strings(table.decode(np.asarray(total)), int(too_long))


def _num_bytes(string: str) -> int:
    return len(string) if string.isascii() else len(string.encode(errors="surrogatepass"))


@functools.lru_cache(maxsize=8)
def _sum(num_cells: int, executor: Any):
    def tables(own):
        return sketch(own, num_cells), own["too_long"]

    def strings(entries: core.Clients):
        return core.sum(core.map(tables, entries))

    return federated(strings, executor=executor)
