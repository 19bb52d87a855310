"""Exact quantiles of the numbers of all clients, from counts alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedloom import core
from fedloom.engine import federated

from ._clients import Prepared, float32_numbers, padded

_DIGIT_BITS = 8
_DIGITS = 2**_DIGIT_BITS
_PASSES = 32 // _DIGIT_BITS


def quantiles(data: Mapping[str, Any], q: float | Sequence[float], *, column: str | None = None, executor: Any = "local") -> np.ndarray:
    """Quantiles of the numbers of all clients: for each q the smallest value that at least a share q of all values does not exceed.

    The same as `numpy.quantile(values, q, method="inverted_cdf")` of all values as float32, without a bound on their range. The bits of a
    float32 are a number that can be sorted. Its 4 digits of 8 bits are found one by one, the highest first: in a pass over the clients,
    those among their values that begin with the digits found so far are counted by their next digit. No client sends more than 256 counts
    per quantile and pass.

    No noise: quantiles are values that somebody has. With privacy, take those of `hierarchical_histogram`.

    Args:
        data: Client id -> numbers, or a `FederatedDataset`. Clients may be empty.
        q: In [0, 1]; one or several.
        column: Of the data set; may be left out if it has one.
        executor: As `fl.federated` takes it.

    Returns:
        float32, in the shape of `q`.

    Raises:
        ValueError: q is outside [0, 1], or there are no clients, no values, or no such column.
        ClientFailure: A client's values are no finite numbers.

    Example:
        >>> quantiles({"ada": [1.0, 2.0], "bob": [6.0]}, [0.5, 1.0])
        array([2., 6.], dtype=float32)
    """
    shares = np.asarray(q, np.float64)
    if shares.size == 0 or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"q must be in [0, 1], got {q!r:.60}.")
    clients, count_digits = Prepared(data, column, _keys), _digits(executor)
    prefix, rank = np.zeros(shares.size, np.uint32), np.zeros(0)
    for done in range(_PASSES):
        counts = np.asarray(count_digits(clients, prefix, np.uint32(32 - (done + 1) * _DIGIT_BITS))).astype(np.int64)
        running = np.cumsum(counts, axis=1)
        if done == 0:
            rank = _ranks(shares.ravel(), int(running[0, -1]), len(data))
        digit = (running < rank[:, None]).sum(1)  # the first with so many values up to it
        rank = rank - np.where(digit > 0, np.take_along_axis(running, np.maximum(digit - 1, 0)[:, None], 1)[:, 0], 0)
        prefix = (prefix << np.uint32(_DIGIT_BITS)) | digit.astype(np.uint32)
    return _from_keys(prefix).reshape(shares.shape)


def _ranks(shares: np.ndarray, count: int, clients: int) -> np.ndarray:
    if count == 0:
        raise ValueError(f"data must have at least one value, got {clients} clients without any.")
    return np.array([max(0, math.ceil(share * count - 1)) + 1 for share in shares.tolist()])  # rounded as numpy does


def _keys(client: str, values: Any) -> dict[str, np.ndarray]:
    """A client's values as integers in the same order, uint32."""
    single = float32_numbers(values) + np.float32(0)  # + 0 makes one zero of two
    bits = single.view(np.uint32)
    keys = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return {"keys": padded(keys, 0), "real": padded(np.ones(len(keys), bool), False)}


def _from_keys(keys: np.ndarray) -> np.ndarray:
    return np.where(keys >> 31, keys & np.uint32(2**31 - 1), ~keys).astype(np.uint32).view(np.float32)


@functools.lru_cache(maxsize=8)
def _digits(executor: Any):
    def by_digit(own, prefix, shift):
        digit = ((own["keys"] >> shift) & jnp.uint32(_DIGITS - 1)).astype(jnp.int32)
        above = (own["keys"] >> shift) >> jnp.uint32(_DIGIT_BITS)

        def counts(start):
            return jnp.zeros(_DIGITS, jnp.int32).at[jnp.where(own["real"] & (above == start), digit, _DIGITS)].add(1, mode="drop")

        return jax.vmap(counts)(prefix)

    def quantiles(values: core.Clients, prefix, shift):
        return core.sum(core.map(by_digit, values, core.broadcast(prefix), core.broadcast(shift)))

    return federated(quantiles, executor=executor)
