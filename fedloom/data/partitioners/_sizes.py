"""Clients that differ in how much they have, and in nothing else: rows are dealt at random."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ._rows import Columns, Partitioner, Shares, check_concentration, check_whole, checked_number


def power_law_sizes(exponent: float, *, min_examples: int = 1) -> Partitioner:
    """Sizes that follow a power law: the r-th largest client has a part proportional to r ** -exponent.

    As in Li et al. 2020 (FedProx, arXiv:1812.06127), section 5, "the number of samples per device follows a power law"; 0 gives equal
    sizes, 1 is Zipf's law. Which client is how large is random; rows are dealt at random, in random order.

    Args:
        exponent: In [0, 100].
        min_examples: What every client has at least; the law is that of what is left.

    Raises:
        ValueError: An argument is out of range; when run, there are fewer than `min_examples` rows per client.
    """
    if not 0 <= exponent <= 100:
        raise ValueError(f"exponent must be in [0, 100], got {exponent}. 1 is Zipf's law.")
    return _sized(lambda number, rng: rng.permutation(-exponent * np.log(np.arange(1, number + 1))), min_examples)


def lognormal_sizes(sigma: float, *, min_examples: int = 1) -> Partitioner:
    """Sizes in proportion to draws from a lognormal distribution: a few large clients, many small ones.

    By this law the published code of Li et al. 2020 (FedProx, arXiv:1812.06127) sizes the clients of its synthetic data, with sigma 2. Rows
    are dealt at random, in random order.

    Args:
        sigma: Of the logarithm of a size, in [0, 100]; 0 gives equal sizes.
        min_examples: What every client has at least; the law is that of what is left.

    Raises:
        ValueError: As for `power_law_sizes`.
    """
    if not 0 <= sigma <= 100:
        raise ValueError(f"sigma must be in [0, 100], got {sigma}. Real populations have 0.5 to 2.")
    return _sized(lambda number, rng: sigma * rng.standard_normal(number), min_examples)


def dirichlet_sizes(alpha: float, *, min_examples: int = 1) -> Partitioner:
    """Sizes in proportion to one draw from the symmetric Dirichlet distribution over clients.

    "Quantity skew", q ~ Dir_N(beta), of Li et al. 2022 (arXiv:2102.02079); rows are dealt at random, in random order.

    Args:
        alpha: Concentration, in [1e-9, 1e9]: the smaller, the more unequal.
        min_examples: What every client has at least; the law is that of what is left.

    Raises:
        ValueError: As for `power_law_sizes`.
    """
    check_concentration(alpha)
    # Gamma(a) is Gamma(a + 1) * U ** (1/a): for a small alpha its logarithm is a number where the draw itself would be 0.
    return _sized(lambda n, rng: np.log(rng.gamma(alpha + 1, size=n)) + np.log1p(-rng.random(n)) / alpha, min_examples)


def _sized(log_weights: Callable[[int, np.random.Generator], np.ndarray], min_examples: int) -> Partitioner:
    check_whole(min_examples, "min_examples", least=0)

    def deal(columns: Columns, num_clients: int | None, rng: np.random.Generator) -> Shares:
        number = checked_number(columns, num_clients, rows_each=max(1, min_examples))
        weights = log_weights(number, rng)
        parts = np.exp(weights - weights.max())
        sizes = min_examples + _apportioned(columns.num_rows - number * min_examples, parts / math.fsum(parts))
        return Shares(rng.permutation(columns.num_rows), sizes)

    return deal


def _apportioned(count: int, parts: np.ndarray) -> np.ndarray:
    """Whole numbers that add up to `count`, each within 1 of its part: Hamilton's method of largest remainders; int64."""
    exact = count * parts
    sizes = np.floor(exact).astype(np.int64)
    missing = count - int(sizes.sum())
    sizes[np.argsort(sizes - exact, kind="stable")[:missing]] += 1
    return sizes
