"""How many of all clients' numbers lie in each of some bins."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._clients import Prepared
from ._counting import CountSettings, NoiseFrom, bins_of_client, count
from ._privacy import PrivacySpent


@dataclass(frozen=True)
class Histogram:
    """What `histogram` finds.

    Attributes:
        counts: Values in each bin, int64 (bins,); with noise they may be negative.
        edges: float64 (bins + 1,).
        below: Values below the first edge.
        above: Values above the last edge.
        noise_std: Standard deviation of the noise on each of these counts; 0 for none.
        privacy: What was given away; None without noise.
    """

    counts: np.ndarray
    edges: np.ndarray
    below: int
    above: int
    noise_std: float
    privacy: PrivacySpent | None


@dataclass(frozen=True)
class _Flat:
    """From bins to counts, int32 (size,); a bin of `size` or more counts nowhere."""

    size: int

    def __call__(self, bins: jax.Array) -> jax.Array:
        return jnp.zeros(self.size, jnp.int32).at[bins].add(1, mode="drop")


def histogram(
    data: Mapping[str, Any],
    edges: Sequence[float] | np.ndarray,
    *,
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
) -> Histogram:
    """How many of the numbers of all clients lie in each bin, with differential privacy for clients if asked for.

    A bin has its left edge and not its right one; the last bin has both, as in `numpy.histogram`. Without noise the counts are numpy's,
    up to 2^31 in a bin. With noise, one client counts for at most `max_per_client` values, and the noise hides that many.

    Args:
        data: Client id -> numbers, or a `FederatedDataset`. Clients may be empty.
        edges: Strictly increasing, shape (bins + 1,).
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
        >>> histogram({"ada": [0.5, 1.5], "bob": [1.7, 9.0]}, [0, 1, 2]).counts
        array([1, 2])
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
    edges = np.asarray(edges, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges must be at least two finite numbers that increase, got {edges!r:.100}.")
    size = len(edges) + 1
    most = max_per_client or math.inf
    sensitivity = math.sqrt(min(most, size)) if distinct else most
    clients = Prepared(data, column, functools.partial(bins_of_client, settings, edges, False))
    found = count(clients, _Flat(size), size, sensitivity, settings)
    below, above = int(found.counts[0]), int(found.counts[-1])
    return Histogram(found.counts[1:-1], edges, below, above, found.noise_std, found.privacy)
