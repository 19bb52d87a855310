"""From noise to epsilon and back, by the accountants of dp-accounting.

Free to change: what is cached. With care: `composed_epsilon`, on which every guarantee of a run rests.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from ._sampling import Everyone, FixedSize, Matrix, Poisson, Relation, Releases, Sampling, Tree

if TYPE_CHECKING:
    import dp_accounting

Accountant = Literal["rdp", "pld"]
"""Rényi divergences (Mironov 2017), fast, or privacy loss distributions (Koskela et al. 2020), slower and tighter; both are bounds."""

_SUPPORTS: dict[str, tuple[type[Sampling], ...]] = {
    "rdp": (Poisson, FixedSize, Everyone, Tree, Matrix),
    "pld": (Poisson, Everyone, Matrix),
}

_MOST_FOR_PLD = 100.0
"""Where epsilon is larger, PLD takes gigabytes and minutes to say little; RDP's bound is valid there too."""


def epsilon(sampling: Sampling, noise_multiplier: float, rounds: int, delta: float, *, accountant: Accountant = "rdp") -> float:
    """Epsilon of so many rounds, per client, under the sampling's neighbouring relation.

    Args:
        sampling: Who takes part.
        noise_multiplier: Standard deviation of the noise on the sum over the largest norm of a client's vector, >= 0.
        rounds: >= 0.
        delta: In (0, 1); choose it below 1 / population.
        accountant: "rdp" for any sampling, "pld" for `Poisson`, `Everyone` and `Matrix`: tighter, but 10 times slower.

    Returns:
        An upper bound, >= 0; infinite without noise, and RDP's wherever that is above 100.

    Raises:
        ValueError: An argument is out of range, or the accountant does not support the sampling.

    Example:
        >>> round(epsilon(Poisson(cohort_size=120, population=3383), noise_multiplier=1.2, rounds=100, delta=1e-5), 3)
        1.986
        >>> epsilon(Everyone(), noise_multiplier=0, rounds=1, delta=1e-5)
        inf
    """
    check_accountant(accountant, sampling)
    check_delta(delta)
    check_noise_multiplier(noise_multiplier)
    if not isinstance(rounds, int) or rounds < 0:
        raise ValueError(f"rounds must be an int of at least 0, got {rounds!r}.")
    return composed_epsilon(sampling.relation, sampling.releases(float(noise_multiplier), rounds), delta, accountant)


def noise_multiplier(
    sampling: Sampling, rounds: int, *, epsilon: float, delta: float, accountant: Accountant = "rdp", tol: float = 1e-4
) -> float:
    """The least noise that keeps so many rounds within (epsilon, delta).

    Args:
        sampling: Who takes part.
        rounds: >= 1.
        epsilon: Target, finite and > 0.
        delta: In (0, 1).
        accountant: As in `epsilon`; budget and calibration should take the same.
        tol: How far above the least noise multiplier the result may be, > 0.

    Returns:
        A noise multiplier whose epsilon is at most the target. It is a float32, so that it stays what it is as one in a state.

    Raises:
        ValueError: An argument is out of range, or the accountant does not support the sampling.

    Example:
        >>> round(noise_multiplier(Poisson(cohort_size=120, population=3383), rounds=100, epsilon=2.0, delta=1e-5), 2)
        1.2
    """
    check_accountant(accountant, sampling)
    check_delta(delta)
    check_epsilon("epsilon", epsilon)
    if not isinstance(rounds, int) or rounds < 1:
        raise ValueError(f"rounds must be an int of at least 1, got {rounds!r}.")
    if not tol > 0:
        raise ValueError(f"tol must be above 0, got {tol!r}.")

    def exceeds(z: float) -> bool:
        return composed_epsilon(sampling.relation, sampling.releases(z, rounds), delta, accountant) > epsilon

    if isinstance(sampling, Matrix) and rounds > sampling.rounds:
        raise ValueError(f"rounds must be at most the {sampling.rounds} that the matrix is for, got {rounds}: no noise hides those beyond.")

    # Not dp-accounting's calibration: it evaluates z = 0, and knows nothing of what is cached and where PLD gives way to RDP.
    enough = 1.0
    while exceeds(enough):
        enough *= 2
    too_little = enough / 2
    while not exceeds(too_little):
        enough, too_little = too_little, too_little / 2
    while enough - too_little > max(tol, 1e-7 * enough):  # float32 tells no more apart
        middle = (enough + too_little) / 2
        enough, too_little = (enough, middle) if exceeds(middle) else (middle, too_little)
    rounded = np.float32(enough)
    return float(rounded if rounded >= enough else np.nextafter(rounded, np.float32(np.inf)))


@functools.lru_cache(maxsize=256)
def composed_epsilon(relation: Relation, releases: Releases, delta: float, accountant: Accountant) -> float:
    """Epsilon of all releases together."""
    import dp_accounting

    if not releases:
        return 0.0
    # Rényi divergences add up, so those of one release serve all rounds: they take 15 to 200 ms, the rest of this 1 ms.
    divergences = np.sum([count * _renyi_divergences(event, relation) for event, count in releases], axis=0)
    by_rdp = float(dp_accounting.rdp.compute_epsilon(list(dp_accounting.rdp.RdpAccountant().orders), list(divergences), delta)[0])
    if accountant == "rdp" or by_rdp > _MOST_FOR_PLD:
        return by_rdp
    losses = _make_accountant("pld", relation)
    for event, count in releases:
        losses.compose(event, count)
    return float(losses.get_epsilon(delta))


@functools.lru_cache(maxsize=64)
def _renyi_divergences(event: dp_accounting.DpEvent, relation: Relation) -> np.ndarray:
    import dp_accounting

    with _without_word_of_dropped_orders():
        divergences = _make_accountant("rdp", relation).compose(event).rdp
    if isinstance(event, dp_accounting.SampledWithoutReplacementDpEvent):
        # Drawing a cohort costs no more than the worst cohort would, as Rényi divergence is quasi-convex (van Erven & Harremoës 2014,
        # Theorem 13). The accountant's bound crosses that line where cohorts are about half of the population.
        divergences = np.minimum(divergences, _renyi_divergences(event.event, relation))
    return divergences


def _make_accountant(accountant: Accountant, relation: Relation) -> dp_accounting.PrivacyAccountant:
    import dp_accounting

    make = {"rdp": dp_accounting.rdp.RdpAccountant, "pld": dp_accounting.pld.PLDAccountant}[accountant]
    return make(neighboring_relation=dp_accounting.NeighboringRelation[relation.upper()])


@contextlib.contextmanager
def _without_word_of_dropped_orders():
    """No log line for each Rényi order near 1 whose series does not converge: without it the bound is valid still, and hardly larger."""

    def keep(record: logging.LogRecord) -> bool:
        return "failed to converge" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def check_accountant(accountant: str, sampling: Sampling) -> None:
    """Refuses what the accountant cannot do."""
    if accountant not in _SUPPORTS:
        raise ValueError(f'accountant must be "rdp" or "pld", got {accountant!r}.')
    if not isinstance(sampling, Sampling):
        raise TypeError(f"sampling must be one of fl.privacy.Poisson, FixedSize, Everyone, Tree or Matrix, got {sampling!r}.")
    if not isinstance(sampling, _SUPPORTS[accountant]):
        supported = ", ".join(kind.__name__ for kind in _SUPPORTS[accountant])
        raise ValueError(f'accountant="{accountant}" supports {supported}, got {sampling!r}. Take accountant="rdp".')


def check_delta(delta: float) -> None:
    """Refuses what is no probability between 0 and 1."""
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta!r}. Below 1 / population is usual.")


def check_epsilon(name: str, epsilon: float) -> None:
    """Refuses what cannot be a target."""
    if not 0 < epsilon < math.inf:
        raise ValueError(f"{name} must be finite and above 0, got {epsilon!r}.")


def check_noise_multiplier(noise_multiplier: float) -> None:
    """Refuses negative and non-finite noise."""
    if not 0 <= noise_multiplier < math.inf:
        raise ValueError(f"noise_multiplier must be finite and at least 0, got {noise_multiplier!r}.")
