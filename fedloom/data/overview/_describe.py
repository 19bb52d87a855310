"""`describe`: what a data set holds.

Sizes are those of all clients, in numpy; what must be read (columns, labels, samples) is read from a bounded draw of clients.
Free to change: how it is computed. With care: which clients a seed draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._federated import FederatedDataset
from ._column_facts import ColumnReader
from ._description import Description, Sample, Sizes
from ._labels import LabelReader, quantiles
from ._shorten import shorten

_EXAMPLES = 2  # of a sampled client that are shown
_TEXT = 60  # characters of a text that are shown


def describe(
    dataset: FederatedDataset, *, label: str | None = None, max_clients: int = 1_000, samples: int = 3, seed: int = 0
) -> Description:
    """Clients, examples, sizes, columns, label skew and a few samples of a data set.

    Sizes are taken from all clients, without reading one. Columns and labels are those of at most `max_clients` clients.

    Args:
        dataset: Of any size.
        label: The column with the labels, one number or text per example; None takes `y` or `label`, if it holds integers or
            text with at most 1,000 different values.
        max_clients: How many clients are read, at least 1; drawn uniformly without replacement.
        samples: How many of these are shown with their first examples.
        seed: Of the draw.

    Raises:
        ValueError: `max_clients` or `samples` is out of range, or `label` is no column with labels.

    Example:
        >>> data = FederatedDataset.from_dict({"ada": {"y": [0, 0]}, "bob": {"y": [1, 1]}, "cid": {"y": [0, 1]}})
        >>> found = describe(data)
        >>> found.examples, found.labels.counts, round(found.labels.distance, 3)
        (6, {0: 3, 1: 3}, 0.333)
    """
    if samples < 0:
        raise ValueError(f"samples must be at least 0, got {samples}. Pass how many clients to show.")
    sizes = dataset.size_array()
    chosen = draw_clients(len(sizes), max_clients, seed)
    shown = {int(i): None for i in chosen[sizes[chosen] > 0][:samples]}
    labels = LabelReader(label)
    columns = ColumnReader()
    found: dict[int, Sample] = {}
    for i in map(int, np.sort(chosen)):
        client_id = dataset.client_ids[i]
        arrays = as_arrays(dataset[client_id])
        columns.add(client_id, arrays)
        labels.add(client_id, arrays)
        if i in shown:
            found[i] = Sample(client_id, int(sizes[i]), _first_examples(arrays))
    counts = labels.result()
    facts, notes = columns.result()
    expected = int(sizes[chosen].sum())
    if columns.examples != expected:
        notes.insert(0, f"The clients that were read hold {columns.examples:,} examples, not {expected:,}: sizes are those of the source.")
    return Description(
        name=dataset.name,
        clients=len(sizes),
        examples=int(sizes.sum()),
        sizes=_sizes(sizes) if len(sizes) else None,
        clients_read=len(chosen),
        examples_read=columns.examples,
        columns=facts,
        labels=counts.summary() if counts else None,
        samples=tuple(found[i] for i in shown),
        notes=tuple(notes),
    )


def draw_clients(count: int, max_clients: int, seed: int) -> np.ndarray:
    """Positions of at most `max_clients` out of `count` clients, uniformly without replacement, in random order.

    Raises:
        ValueError: `max_clients` is less than 1.
    """
    if max_clients < 1:
        raise ValueError(f"max_clients must be at least 1, got {max_clients}. It bounds how many clients are read.")
    return np.random.default_rng(seed).choice(count, min(count, max_clients), replace=False) if count else np.zeros(0, np.int64)


def as_arrays(columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Columns as arrays with at least one dimension, whatever a `map` made of them."""
    return {str(name): _as_array(values) for name, values in columns.items()}


def _as_array(values: Any) -> np.ndarray:
    try:
        return np.atleast_1d(np.asarray(values))
    except ValueError:  # a ragged list
        entries = list(values)
        array = np.empty(len(entries), object)
        array[:] = entries
        return array


def _sizes(sizes: np.ndarray) -> Sizes:
    ordered = np.sort(sizes)
    total = float(ordered.sum())
    n = len(ordered)
    gini = top = 0.0
    if total:
        gini = float(2 * (np.arange(1, n + 1) @ ordered.astype(float)) / (n * total) - (n + 1) / n)
        top = float(ordered[n - math.ceil(n / 10) :].sum() / total)
    return Sizes(
        quantiles=quantiles(ordered),
        mean=float(ordered.mean()),
        std=float(ordered.std()),
        empty=int(np.searchsorted(ordered, 1)),
        gini=gini,
        top_tenth=top,
        histogram=_histogram(ordered[ordered > 0]),
    )


def _histogram(ordered: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Of sorted sizes >= 1: (smallest, largest, how many) for each step."""
    if not len(ordered):
        return ()
    edges = size_steps(int(ordered[0]), int(ordered[-1]))
    counts = np.diff(np.searchsorted(ordered, edges))
    return tuple((low, high - 1, count) for low, high, count in zip(edges, edges[1:], counts.tolist(), strict=False))


def size_steps(low: int, high: int) -> list[int]:
    """Borders of readable steps from `low` >= 1 to beyond `high`: each size if there are few, else 1, 2, 5, 10, ... or powers of ten.

    Example:
        >>> size_steps(3, 80), size_steps(98, 100)
        ([2, 5, 10, 20, 50, 100], [98, 99, 100, 101])
    """
    if high - low < 12:
        return list(range(low, high + 2))
    for factors in ((1, 2, 5), (1,)):
        borders = [factor * 10**power for power in range(len(str(high)) + 1) for factor in factors]
        borders = borders[max(i for i, border in enumerate(borders) if border <= low) :]
        borders = borders[: next(i for i, border in enumerate(borders) if border > high) + 1]
        if len(borders) <= 16:
            break
    return borders if len(borders) >= 6 else sorted({round(border) for border in np.geomspace(low, high + 1, 11)})


def _first_examples(columns: Mapping[str, np.ndarray]) -> tuple[dict[str, str], ...]:
    longest = max(map(len, columns.values()), default=0)
    return tuple(
        {name: shorten(values[i], _TEXT) for name, values in columns.items() if i < len(values)} for i in range(min(longest, _EXAMPLES))
    )
