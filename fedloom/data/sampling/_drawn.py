"""Cohorts: which clients take part in a round, as a function of (seed, round).

Free to change: how fast they are drawn. With care: the streams of random numbers, on which runs depend, and `scheme`, by which a budget
knows what it is spent on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

CohortSampler = Callable[[int], list[str]]
"""Round number, from 0 -> the ids of its clients, in order."""

_LEHMER_MODULUS, _LEHMER_MULTIPLIER = 2**31 - 1, 16807


@dataclass(frozen=True, eq=False)
class DrawnCohorts:
    """A `CohortSampler` that says how it draws, so that a privacy budget can refuse a scheme that it does not account for."""

    scheme: str  # "uniform", "poisson", ...: also tells apart what an accountant must tell apart
    client_ids: Sequence[str] = field(repr=False)  # the population; looked up for the chosen only
    size: float  # clients per round; of "poisson" the mean
    draw: Callable[[int], np.ndarray] = field(repr=False)  # round -> positions in `client_ids`, in the order of the cohort
    min_separation: int = 1  # a client of round r is in none of the rounds before r + min_separation

    def __call__(self, round_number: int) -> list[str]:
        """The cohort of a round, counted from 0."""
        return [self.client_ids[int(i)] for i in self.draw(round_number)]


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
    check_cohort_size(client_ids, size)

    def draw(round_number: int) -> np.ndarray:
        return np.random.default_rng([seed, round_number]).choice(len(client_ids), size, replace=False)

    return DrawnCohorts("uniform", client_ids, size, draw)


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

    def draw(round_number: int) -> np.ndarray:
        coins = np.random.default_rng([seed, round_number]).random(len(client_ids))
        return np.flatnonzero(coins < size / len(client_ids))

    return DrawnCohorts("poisson", client_ids, size, draw)


def weighted(client_ids: Sequence[str], weights: ArrayLike, size: int, *, seed: int = 0) -> CohortSampler:
    """A cohort drawn one client after the other, each with probability proportional to its weight among those not drawn yet.

    This is successive sampling without replacement: the first client is client i with probability w_i / sum(w), but a whole cohort holds a
    heavy client less often than `size` times that, since nobody comes twice. So the mean over cohorts is not the mean by weight, and
    weighting a cohort's updates by examples once more counts large clients twice; consider `client_weight="uniform"` in the algorithm.

    Source: Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir": the `size` smallest of independent exponential
    variables with rates w_i, in rising order, are such a sample. A round takes time proportional to the population.

    Args:
        client_ids: The population.
        weights: Of each client, shape (len(client_ids),), 0 for never, else in [1e-200, 1e200]; `dataset.size_array()`, for example.
        size: Clients per round, at most as many as have a weight above 0.
        seed: As in `uniform`.

    Raises:
        ValueError: A weight or `size` is out of range, or there is not one weight per client.

    Example:
        >>> sample = weighted(["ada", "bob", "cy"], [1, 0, 1000], 2, seed=1)
        >>> sorted(sample(0)), sum(sample(r)[0] == "cy" for r in range(100))
        (['ada', 'cy'], 100)
    """
    rates = np.asarray(weights, np.float64)
    if rates.shape != (len(client_ids),):
        raise ValueError(f"weights must have one entry per client, shape ({len(client_ids)},), got {rates.shape}.")
    allowed = (rates == 0) | ((rates >= 1e-200) & (rates <= 1e200))  # so that no quotient over- or underflows
    if not allowed.all():
        first = int(np.argmin(allowed))
        raise ValueError(f"weights must be 0 or in [1e-200, 1e200], got {rates[first]} for client {client_ids[first]!r}.")
    eligible = np.flatnonzero(rates)
    if not 1 <= size <= len(eligible):
        raise ValueError(
            f"cohort_size must be in [1, {len(eligible)}], the number of clients with a weight above 0, got {size}. Lower it, or load more."
        )
    rates = rates[eligible]

    def draw(round_number: int) -> np.ndarray:
        arrivals = np.random.default_rng([seed, round_number]).standard_exponential(len(rates))
        arrivals /= rates
        earliest = np.argpartition(arrivals, size - 1)[:size]
        return eligible[earliest[np.argsort(arrivals[earliest])]]

    return DrawnCohorts("weighted", client_ids, size, draw)


def uniform_tff(client_ids: Sequence[str], size: int, *, seed: int = 0, replace: bool = False) -> CohortSampler:
    """The cohorts of TFF 0.87's `build_uniform_sampling_fn(client_ids, replace, random_seed=seed)`, to the bit.

    Its stream is NumPy's legacy generator, seeded every round by a Lehmer generator that starts from the seed.

    Raises:
        ValueError: `size` is out of range.
    """
    check_cohort_size(client_ids, min(size, 1) if replace else size)
    start = int(np.random.RandomState(seed).randint(1, _LEHMER_MODULUS - 1))

    def draw(round_number: int) -> np.ndarray:
        state = pow(_LEHMER_MULTIPLIER, round_number, _LEHMER_MODULUS) * start % _LEHMER_MODULUS
        return np.random.RandomState(state).choice(len(client_ids), size, replace=replace)

    return DrawnCohorts("uniform with replacement" if replace else "uniform", client_ids, size, draw)


def fixed(client_ids: Sequence[str]) -> CohortSampler:
    """The same clients every round, as in TFF's tutorial."""
    return DrawnCohorts("fixed", client_ids, len(client_ids), lambda round_number: np.arange(len(client_ids)))


def check_cohort_size(client_ids: Sequence[str], size: int) -> None:
    """Raises ValueError unless so many clients can be drawn without replacement."""
    if not 1 <= size <= len(client_ids):
        raise ValueError(
            f"cohort_size must be in [1, {len(client_ids)}], the number of clients to draw from, got {size}. Lower it, or load more."
        )
