"""Counts of bins summed over clients, with noise of the server's, of the clients', or none: what histograms are made of."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedloom import core
from fedloom.engine import federated

from . import _privacy
from ._clients import Prepared, check_count, generator, numbers, padded, random_key
from ._noise import discrete_gaussian, from_modular, rounded_gaussian, to_modular

NoiseFrom = Literal["server", "clients"]


class Counts(NamedTuple):
    """Counts of all clients."""

    counts: np.ndarray  # int64 (size,)
    noise_std: float
    privacy: _privacy.PrivacySpent | None


@dataclass(frozen=True, kw_only=True)
class CountSettings:
    """How counts are made private, and where; the arguments that histograms share."""

    max_per_client: int | None
    distinct: bool
    epsilon: float | None
    delta: float | None
    noise_multiplier: float | None
    noise_from: NoiseFrom
    dropout: float
    bits: int
    seed: int | None
    executor: Any

    def __post_init__(self):
        if self.max_per_client is not None:
            check_count("max_per_client", self.max_per_client)
        elif self.epsilon is not None or self.noise_multiplier is not None:
            raise ValueError(
                "max_per_client must be given with epsilon or noise_multiplier, got None: noise hides a client only if it is "
                "known how much one can count for."
            )
        if self.noise_from not in ("server", "clients"):
            raise ValueError(f'noise_from must be "server" or "clients", got {self.noise_from!r}.')
        if self.noise_from == "clients" and self.epsilon is None and self.noise_multiplier is None:
            raise ValueError('noise_from="clients" needs epsilon and delta, or noise_multiplier and delta, to say how much noise.')
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout!r}. It is the share of clients whose noise may be missing.")
        check_count("bits", self.bits, at_least=2, at_most=32)


def bins_of_client(settings: CountSettings, edges: np.ndarray, clip: bool, client: str, values: Any) -> np.ndarray:
    """Which bins a client counts in, int32 (n,), filled up with a number beyond all bins.

    Args:
        settings: Say how many values count, and whether a bin counts once.
        edges: Strictly increasing, float64 (bins + 1,).
        clip: Whether values outside count in the first or the last bin. Else 0 is what lies below the bins, bins + 1 what lies above.
        client: Its id.
        values: Its values.
    """
    array = numbers(values)
    bins = np.searchsorted(edges, array, side="right")
    bins[array == edges[-1]] -= 1  # the last bin has both of its edges, as numpy's
    if clip:
        bins = np.clip(bins, 1, len(edges) - 1) - 1
    if settings.distinct:
        bins = np.unique(bins)
    if settings.max_per_client is not None and len(bins) > settings.max_per_client:
        bins = generator(settings.seed or 0, "values", client).choice(bins, settings.max_per_client, replace=False)
    return padded(bins.astype(np.int32), np.iinfo(np.int32).max)


def count(clients: Prepared, sketch: Callable[[Any], jax.Array], size: int, sensitivity: float, settings: CountSettings) -> Counts:
    """Sums what `sketch` makes of each client.

    Args:
        clients: What it takes.
        sketch: From there to counts, int32 (size,); hashable, so that what was compiled for it serves again.
        size: Of the counts.
        sensitivity: The largest L2 norm of a client's counts, infinite without a bound.
        settings: The rest.
    """
    request = _privacy.target(settings.epsilon, settings.delta, settings.noise_multiplier, settings.seed, num_clients=len(clients))
    if request is None:
        return Counts(np.asarray(_sum(sketch, settings.executor)(clients)).astype(np.int64), 0.0, None)
    assert settings.seed is not None
    if settings.noise_from == "server":
        z = request.least_noise("pld")
        exact = np.asarray(_sum(sketch, settings.executor)(clients)).astype(np.int64)
        noise = rounded_gaussian(generator(settings.seed, "noise on counts"), z * sensitivity, size)
        return Counts(exact + noise, z * sensitivity, request.spent(z))
    sure = max(1, math.floor((1 - settings.dropout) * len(clients)))  # clients whose noise is there in any case
    std = _privacy.distributed_std(request.least_noise("rdp"), sure, sensitivity, size)
    _check_room(settings, len(clients), std)
    total, came = _sum_with_noise(sketch, std, size, settings.bits, settings.executor)(
        clients, random_key(settings.seed, "noise on counts")
    )
    spent = _privacy.distributed_spent(request, std, min(sure, int(came)), sensitivity, size)
    return Counts(from_modular(np.asarray(total), settings.bits), std * math.sqrt(int(came)), spent)


def _check_room(settings: CountSettings, clients: int, std: float) -> None:
    """Whether all clients' counts fit into the modulus, with 8 standard deviations of their noise."""
    assert settings.max_per_client is not None
    largest = clients * settings.max_per_client + 8 * std * math.sqrt(clients)
    if largest >= 2 ** (settings.bits - 1):
        needed = math.floor(math.log2(largest)) + 2
        raise ValueError(
            f"bits must be at least {needed} for the counts of {clients} clients, {settings.max_per_client} values each, with their "
            f"noise, got {settings.bits}: the sum could wrap around. " + ("Raise it." if needed <= 32 else "Lower max_per_client.")
        )


@functools.lru_cache(maxsize=32)
def _sum(sketch: Callable[[Any], jax.Array], executor: Any):
    def histogram(values: core.Clients):
        return core.sum(core.map(sketch, values))

    return federated(histogram, executor=executor)


@functools.lru_cache(maxsize=32)
def _sum_with_noise(sketch: Callable[[Any], jax.Array], std: float, size: int, bits: int, executor: Any):
    def masked(own, key):
        return to_modular(sketch(own) + discrete_gaussian(key, std, size), bits), jnp.int32(1)

    def histogram(values: core.Clients, key):
        return core.sum(core.map(masked, values, core.client_keys(key)))

    return federated(histogram, executor=executor)
