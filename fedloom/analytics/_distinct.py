"""How many distinct values all clients have together, from a few thousand small numbers."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedloom import core
from fedloom.engine import federated

from ._clients import Prepared, check_count, numbers, padded, strings


@dataclass(frozen=True)
class DistinctCount:
    """What `count_distinct` finds.

    Attributes:
        estimate: Of the number of distinct values.
        relative_error: Standard error of the estimate, as a share of it: 1.04 / sqrt(registers).
        registers: The union of the clients' sketches, int32 (registers,).
    """

    estimate: float
    relative_error: float
    registers: np.ndarray


def count_distinct(
    data: Mapping[str, Any], *, column: str | None = None, precision: int = 12, seed: int = 0, executor: Any = "local"
) -> DistinctCount:
    """How many distinct strings or numbers all clients have together, by HyperLogLog.

    Each value is hashed to 64 bits. The first `precision` of them choose a register, which keeps the longest run of zeros, plus one, that
    begins the others; clients' registers are joined by their maxima. Flajolet et al. 2007, "HyperLogLog: the analysis of a near-optimal
    cardinality estimation algorithm", with the improved raw estimator of Ertl 2017 (arXiv:1702.01284) instead of the paper's: that one
    changes over to linear counting for small numbers, and is off by several standard errors about there. This one is good for all.

    Registers are not private: whoever has them can test whether a value may be among the clients'.

    Args:
        data: Client id -> strings or numbers, or a `FederatedDataset`. Clients may be empty. Numbers are compared as float64.
        column: Of the data set; may be left out if it has one.
        precision: The logarithm to base 2 of the number of registers, 4 to 18.
        seed: Of the hash function.
        executor: As `fl.federated` takes it.

    Raises:
        ValueError: An argument is out of range, there is no such column, or there are no clients.
        ClientFailure: A client's values are neither strings nor finite numbers.

    Example:
        >>> round(count_distinct({"ada": ["to", "be"], "bob": ["or", "be"]}).estimate)
        3
    """
    check_count("precision", precision, at_least=4, at_most=18)
    clients = Prepared(data, column, functools.partial(_registers_of, precision, seed))
    registers = np.asarray(_join(precision, executor)(clients))
    return DistinctCount(estimate(registers, 64 - precision), 1.04 / math.sqrt(len(registers)), registers)


def estimate(registers: np.ndarray, bits: int) -> float:
    """Distinct values behind registers of hashes with so many bits; Ertl 2017, whose symbols are used."""
    m, q = len(registers), bits
    C = np.bincount(registers, minlength=q + 2)
    z = m * _tau(1 - C[q + 1] / m)
    for k in range(q, 0, -1):
        z = 0.5 * (z + C[k])
    z += m * _sigma(C[0] / m)
    return m**2 / (2 * math.log(2) * z)


def _sigma(x: float) -> float:
    """x + sum_{k >= 1} x^(2^k) 2^(k-1), infinite at 1."""
    if x == 1:
        return math.inf
    total, weight = x, 1.0
    while (x := x * x) * weight > 1e-17 * total:
        total += x * weight
        weight *= 2
    return total


def _tau(x: float) -> float:
    """(1 - x - sum_{k >= 1} (1 - x^(2^-k))^2 2^-k) / 3."""
    if x in (0, 1):
        return 0.0
    total, weight = 1 - x, 0.5
    for _ in range(60):
        x = math.sqrt(x)
        total -= (1 - x) ** 2 * weight
        weight /= 2
    return total / 3


def _registers_of(precision: int, seed: int, client: str, values: Any) -> dict[str, np.ndarray]:
    salt = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
    digests = [hashlib.blake2b(value, digest_size=8, salt=salt, person=b"fedloom.hll").digest() for value in _distinct(values)]
    hashes = np.frombuffer(b"".join(digests), "<u8")
    rest = hashes & np.uint64(2 ** (64 - precision) - 1)
    # Words of 32 bits, as a float64 holds those exactly: frexp gives the number of bits that a number has.
    high, low = (np.frexp(word.astype(np.float64))[1] for word in (rest >> np.uint64(32), rest & np.uint64(2**32 - 1)))
    ranks = 64 - precision + 1 - np.where(high > 0, 32 + high, low)
    return {
        "register": padded((hashes >> np.uint64(64 - precision)).astype(np.int32), 2**precision),
        "rank": padded(ranks.astype(np.int32), 0),
    }


def _distinct(values: Any) -> list[bytes]:
    listed = values if isinstance(values, str | bytes) else np.asarray(values, object).ravel().tolist()
    if isinstance(listed, list) and not any(isinstance(value, str | bytes) for value in listed):
        return [value.tobytes() for value in np.unique(numbers(values)).astype("<f8") + 0.0]  # + 0 makes one zero of two
    return [value.encode(errors="surrogatepass") for value in set(strings(listed))]


@functools.lru_cache(maxsize=8)
def _join(precision: int, executor: Any):
    def sketch(own):
        return jnp.zeros(2**precision, jnp.int32).at[own["register"]].max(own["rank"], mode="drop")

    def count_distinct(values: core.Clients):
        return core.max(core.map(sketch, values))

    return federated(count_distinct, executor=executor)
