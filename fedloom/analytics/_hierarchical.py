"""Histograms as trees: ranges and quantiles from them carry little of the noise, however many bins they span."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._clients import Prepared, check_count
from ._counting import CountSettings, NoiseFrom, bins_of_client, count
from ._privacy import PrivacySpent
from ._tree import Tree


@dataclass(frozen=True)
class HierarchicalHistogram:
    """What `hierarchical_histogram` finds.

    Attributes:
        levels: Counts of all nodes, from the root to the leaves, float64; they add up. Leaves beyond the last bin have no values.
        edges: Of the bins, float64 (bins + 1,).
        noise_std: Standard deviation of the noise that each node had; what is here has less.
        privacy: What was given away; None without noise.
    """

    levels: tuple[np.ndarray, ...]
    edges: np.ndarray
    noise_std: float
    privacy: PrivacySpent | None

    @property
    def counts(self) -> np.ndarray:
        """Values in each bin, float64 (bins,); with noise they may be negative."""
        return self.levels[-1][: len(self.edges) - 1]

    @property
    def total(self) -> float:
        """Values in all bins."""
        return float(self.counts.sum())

    def range_count(self, low: float, high: float) -> float:
        """How many values lie between two numbers; of a bin that they cut, the share of its width.

        Raises:
            ValueError: `low` is above `high`.
        """
        if not low <= high:
            raise ValueError(f"low must be at most high, got {low!r} and {high!r}.")
        ends = np.interp([low, high], self.edges, np.concatenate([[0.0], np.cumsum(self.counts)]))
        return float(ends[1] - ends[0])

    def quantile(self, q: float) -> float:
        """Where a share q of the values lies below, within the width of a bin.

        Within a bin values are taken to be spread evenly. Noise may let the running count fall; it counts as flat there.

        Raises:
            ValueError: q is outside [0, 1], or nothing was counted.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must be in [0, 1], got {q!r}.")
        running = np.maximum.accumulate(np.concatenate([[0.0], np.cumsum(self.counts)]))
        if running[-1] <= 0:
            raise ValueError("A quantile needs at least one value, but none was counted, or noise hides them.")
        goal = max(q * running[-1], np.nextafter(0.0, 1.0))  # for q = 0 the first bin with values, not the first one
        right = int(np.searchsorted(running, goal, side="left"))
        step = running[right] - running[right - 1]
        share = (goal - running[right - 1]) / step if step > 0 else 0.0
        return float(self.edges[right - 1] + share * (self.edges[right] - self.edges[right - 1]))


def hierarchical_histogram(
    data: Mapping[str, Any],
    lower: float,
    upper: float,
    bins: int,
    *,
    arity: int = 2,
    column: str | None = None,
    max_per_client: int | None = None,
    distinct: bool = False,
    epsilon: float | None = None,
    delta: float | None = None,
    noise_multiplier: float | None = None,
    noise_from: NoiseFrom = "server",
    dropout: float = 0.0,
    bits: int = 32,
    seed: int | None = None,
    executor: Any = "local",
) -> HierarchicalHistogram:
    """Counts of all clients' numbers in equal bins, in pairs of bins, in pairs of these, and so on, with privacy if asked for.

    Any range of bins is made up of few nodes of the tree, each with noise of its own, where a flat histogram would add up the noise of all
    its bins. The noisy counts are then made to add up, by least squares (Hay et al. 2010), which takes off noise and costs no privacy.

    Args:
        data: Client id -> numbers, or a `FederatedDataset`. Clients may be empty.
        lower: Left edge of the first bin; lower values count in it.
        upper: Right edge of the last bin, above `lower`; higher values count in it.
        bins: At least 1; the tree is the least deep one with so many leaves.
        arity: Children of a node, at least 2. More make the tree flatter, which means less noise on a node and more nodes in a range.
        column: Of the data set; may be left out if it has one.
        max_per_client: How many values count of one client, drawn at random from all it has; None for all. Needed with noise.
        distinct: Whether a client counts at most once in a bin; then that is drawn from.
        epsilon: The most to spend, above 0; with `delta`. None, and no noise multiplier: no noise.
        delta: In (0, 1 / number of clients).
        noise_multiplier: In place of epsilon: standard deviation of the noise over the largest norm of a client's counts.
        noise_from: "server" adds rounded Gaussian noise to the sum, which it sees. "clients" add discrete Gaussian noise each, and send
            integers modulo 2^bits, so that a secure sum of them shows nothing else.
        dropout: For noise from clients: the share of them whose noise may be missing, in [0, 1). The others' is enough for epsilon.
        bits: For noise from clients: of the modulus, 2 to 32.
        seed: Of the noise and of which values are drawn. With noise a new, secret one for each analysis, such as `secrets.randbits(63)`:
            whoever knows it can take the noise off, and two analyses with one seed have the same noise. None is 0, without noise.
        executor: As `fl.federated` takes it.

    Raises:
        ValueError: An argument is out of range, there is no such column, or there are no clients.
        ClientFailure: A client's values are no finite numbers.

    Example:
        >>> ages = hierarchical_histogram({"ada": [21, 35], "bob": [36, 78]}, 0, 80, bins=8)
        >>> ages.range_count(20, 40), ages.quantile(0.25)
        (3.0, 30.0)
    """
    settings = CountSettings(
        max_per_client=max_per_client,
        distinct=distinct,
        epsilon=epsilon,
        delta=delta,
        noise_multiplier=noise_multiplier,
        noise_from=noise_from,
        dropout=dropout,
        bits=bits,
        seed=seed,
        executor=executor,
    )
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise ValueError(f"lower must be below upper, and both finite, got lower={lower!r} and upper={upper!r}.")
    check_count("bins", bins)
    check_count("arity", arity, at_least=2)
    tree, edges = Tree.over(bins, arity), np.linspace(lower, upper, bins + 1)
    clients = Prepared(data, column, functools.partial(bins_of_client, settings, edges, True))
    found = count(clients, tree, tree.size, tree.sensitivity(max_per_client or math.inf, distinct), settings)
    levels = tree.levels(found.counts.astype(np.float64))
    if found.noise_std:
        levels = tree.consistent(levels)
    return HierarchicalHistogram(tuple(levels), edges, found.noise_std, found.privacy)
