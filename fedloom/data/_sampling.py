"""Cohorts: which clients take part in a round, as a function of (seed, round)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

CohortSampler = Callable[[int], list[str]]
"""Round number, from 0 -> the ids of its clients, in order."""

_LEHMER_MODULUS, _LEHMER_MULTIPLIER = 2**31 - 1, 16807


def uniform(client_ids: Sequence[str], size: int, *, seed: int = 0) -> CohortSampler:
    """A cohort drawn uniformly without replacement, every round independently.

    Args:
        client_ids: The population.
        size: Clients per round, in [1, len(client_ids)].
        seed: Decides all cohorts; a round's cohort depends on nothing else.

    Raises:
        ValueError: `size` is out of range.

    Example:
        >>> sample = uniform(["ada", "bob", "cy"], 2, seed=1)
        >>> sample(0) == sample(0), len(set(sample(1)))
        (True, 2)
    """
    _check(client_ids, size)
    return lambda round_number: _pick(client_ids, np.random.default_rng([seed, round_number]).choice(len(client_ids), size, replace=False))


def poisson(client_ids: Sequence[str], size: float, *, seed: int = 0) -> CohortSampler:
    """Every client by a coin of its own in every round, with probability size / len(client_ids): what accounting by `Poisson` assumes.

    Args:
        client_ids: The population.
        size: Clients per round on average, in (0, len(client_ids)]; a cohort may be larger, smaller or empty.
        seed: As in `uniform`. It must stay secret where the guarantee is to hold.

    Raises:
        ValueError: `size` is out of range.

    Example:
        >>> sample = poisson([str(i) for i in range(1000)], 100, seed=1)
        >>> [len(sample(r)) for r in range(3)]
        [92, 113, 88]
    """
    if not 0 < size <= len(client_ids):
        raise ValueError(f"cohort_size must be in (0, {len(client_ids)}], the number of clients to draw from, got {size}. Lower it.")

    def sample(round_number: int) -> list[str]:
        coins = np.random.default_rng([seed, round_number]).random(len(client_ids))
        return _pick(client_ids, np.flatnonzero(coins < size / len(client_ids)))

    return sample


def uniform_tff(client_ids: Sequence[str], size: int, *, seed: int = 0, replace: bool = False) -> CohortSampler:
    """The cohorts of TFF 0.87's `build_uniform_sampling_fn(client_ids, replace, random_seed=seed)`, to the bit.

    Its stream is NumPy's legacy generator, seeded every round by a Lehmer generator that starts from the seed.

    Raises:
        ValueError: `size` is out of range.
    """
    _check(client_ids, min(size, 1) if replace else size)
    start = int(np.random.RandomState(seed).randint(1, _LEHMER_MODULUS - 1))

    def sample(round_number: int) -> list[str]:
        state = pow(_LEHMER_MULTIPLIER, round_number, _LEHMER_MODULUS) * start % _LEHMER_MODULUS
        return _pick(client_ids, np.random.RandomState(state).choice(len(client_ids), size, replace=replace))

    return sample


def fixed(client_ids: Sequence[str]) -> CohortSampler:
    """The same clients every round, as in TFF's tutorial."""
    return lambda round_number: list(client_ids)


def _check(client_ids: Sequence[str], size: int) -> None:
    if not 1 <= size <= len(client_ids):
        raise ValueError(
            f"cohort_size must be in [1, {len(client_ids)}], the number of clients to draw from, got {size}. Lower it, or load more."
        )


def _pick(client_ids: Sequence[str], indices: np.ndarray) -> list[str]:
    return [client_ids[int(i)] for i in indices]
