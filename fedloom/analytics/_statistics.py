"""Count, sum, mean, variance and extremes of numbers over all clients, in two passes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedloom import core
from fedloom.engine import federated

from ._clients import Prepared, float32_numbers, padded

_LARGEST = np.float32(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Statistics:
    """What `statistics` finds. Every value counts once, whoever has it.

    Attributes:
        count: Values.
        num_clients: Clients, also those without values.
        sum: Of the values.
        mean: sum / count.
        variance: Mean of the squared differences from the mean, as `numpy.var`.
        min: The smallest value.
        max: The largest value.
    """

    count: int
    num_clients: int
    sum: float
    mean: float
    variance: float
    min: float
    max: float

    @property
    def std(self) -> float:
        """The square root of the variance."""
        return float(np.sqrt(self.variance))


def statistics(data: Mapping[str, Any], *, column: str | None = None, executor: Any = "local") -> Statistics:
    """Count, sum, mean, variance, minimum and maximum of the numbers of all clients.

    The variance is found in a second pass, around the mean of the first, which the clients are told: from sums of squares it would drown
    in rounding where the mean is large. The second pass also corrects the mean, and itself, for what the mean was rounded by (the
    corrected two-pass algorithm of Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance"). Values are taken as
    float32, so of numbers above 2^24 the last digits count for nothing. There may be 2^31 of them.

    No noise: these are exact numbers about all clients, to be published only if nobody minds.

    Args:
        data: Client id -> numbers, or a `FederatedDataset`. Clients may be empty.
        column: Of the data set; may be left out if it has one.
        executor: As `fl.federated` takes it.

    Raises:
        ValueError: There are no clients, no values, or no such column.
        ClientFailure: A client's values are no finite numbers.

    Example:
        >>> statistics({"ada": [1.0, 2.0], "bob": [6.0]}).mean
        3.0
    """
    found = _two_passes(executor)(Prepared(data, column, _values))
    count, rest = int(found["totals"]["count"]), found["rest"]
    if count == 0:
        raise ValueError(f"data must have at least one value, got {len(data)} clients without any.")
    shift = float(rest["off"]) / count
    mean = float(found["mean"]) + shift
    return Statistics(
        count=count,
        num_clients=len(data),
        sum=mean * count,
        mean=mean,
        variance=max(0.0, float(rest["squares"]) / count - shift**2),
        min=float(found["min"]),
        max=float(found["max"]),
    )


def sum(data: Mapping[str, Any], *, column: str | None = None, executor: Any = "local") -> float:
    """The sum of all clients' numbers; arguments and errors as of `statistics`."""
    return statistics(data, column=column, executor=executor).sum


def mean(data: Mapping[str, Any], *, column: str | None = None, executor: Any = "local") -> float:
    """The mean of all clients' numbers, each counting once; arguments and errors as of `statistics`."""
    return statistics(data, column=column, executor=executor).mean


def variance(data: Mapping[str, Any], *, column: str | None = None, executor: Any = "local") -> float:
    """The variance of all clients' numbers, as `numpy.var`; arguments and errors as of `statistics`."""
    return statistics(data, column=column, executor=executor).variance


def _values(client: str, values: Any) -> dict[str, np.ndarray]:
    x = float32_numbers(values)
    return {"x": padded(x, 0), "real": padded(np.ones(len(x), bool), False)}


@functools.lru_cache(maxsize=8)
def _two_passes(executor: Any):
    def first(own):
        x, real = own["x"], own["real"]
        sums = {"count": real.sum(dtype=jnp.int32), "sum": jnp.where(real, x, 0).sum()}
        return sums, jnp.where(real, x, _LARGEST).min(), jnp.where(real, x, -_LARGEST).max()

    def around(own, mean):
        d = jnp.where(own["real"], own["x"] - mean, 0)
        return {"off": d.sum(), "squares": (d * d).sum()}

    def statistics(values: core.Clients):
        sums, low, high = core.map(first, values)
        totals = core.sum(sums)
        mean = core.map(lambda t: t["sum"] / jnp.maximum(t["count"], 1).astype(jnp.float32), totals)
        rest = core.sum(core.map(around, values, core.broadcast(mean)))
        return {"totals": totals, "mean": mean, "rest": rest, "min": core.min(low), "max": core.max(high)}

    return federated(statistics, executor=executor)
