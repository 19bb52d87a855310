"""Cohorts in turn: every client once in each pass over the population.

Papers: Malinovsky et al. 2023, "Federated Learning with Regularized Client Participation", arXiv:2302.03662 (their meta epoch is a pass
here); Cho et al. 2023, "On the Convergence of Federated Averaging with Cyclic Client Participation", arXiv:2302.03109 (a fixed order).
Free to change: how an order is kept. With care: the orders, on which runs depend, and `min_separation`, which a privacy budget relies on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from ._drawn import CohortSampler, DrawnCohorts, check_cohort_size


def cyclic(client_ids: Sequence[str], size: int, *, seed: int = 0, reshuffle: bool = True) -> CohortSampler:
    """Clients in turn: after each pass over the population everybody took part equally often.

    The passes follow one another without a gap, so where `size` does not divide the population a cohort takes the last of one pass and the
    first of the next. Nobody is in a cohort twice: who is among those last moves back in the next order, behind the first that are not.

    With `reshuffle=False` all passes keep the first order, and a client comes back after len(client_ids) // size rounds at the earliest.
    This is the separation that `fl.privacy.Matrix` and `fl.privacy.Tree` ask for; fresh orders have none, as who is last may be first next.

    Args:
        client_ids: The population. Two orders are kept in memory, with 8 bytes per client each.
        size: Clients per round, in [1, len(client_ids)]. Above half of them, unless all, a round asked for out of order may have to go
            through many passes before it.
        seed: Decides the orders, with the number of the pass.
        reshuffle: Whether each pass has an order of its own.

    Raises:
        ValueError: `size` is out of range.

    Example:
        >>> sample = cyclic(["ada", "bob", "cy", "dee", "eve"], 2, seed=1)
        >>> first_two_passes = [client for r in range(5) for client in sample(r)]
        >>> sorted(first_two_passes[:5]) == sorted(first_two_passes[5:]) == ["ada", "bob", "cy", "dee", "eve"]
        True
    """
    check_cohort_size(client_ids, size)
    order = _orders(len(client_ids), size, seed, reshuffle)

    def draw(round_number: int) -> np.ndarray:
        pass_number, place = divmod(round_number * size, len(client_ids))
        here = order(pass_number)[place : place + size]
        return np.concatenate([here, order(pass_number + 1)[: size - len(here)]]) if len(here) < size else here

    return DrawnCohorts("cyclic", client_ids, size, draw, min_separation=1 if reshuffle else len(client_ids) // size)


def _orders(population: int, size: int, seed: int, reshuffle: bool) -> Callable[[int], np.ndarray]:
    """The function from the number of a pass to its order of the positions 0 to population - 1."""

    def shuffled(pass_number: int) -> np.ndarray:
        return np.random.default_rng([seed, pass_number if reshuffle else 0]).permutation(population)

    def shared(pass_number: int) -> int:
        """How many of the pass before are in the cohort with which this pass begins."""
        return pass_number * population % size

    @functools.lru_cache(maxsize=2)  # rounds mostly come one after the other
    def order(pass_number: int) -> np.ndarray:
        # Moving clients back changes the first `size` places of an order at most. Only if the last that are shared with the next pass are
        # among these does an order depend on the one before it, and so on.
        first = pass_number
        while shared(first) > population - size:
            first -= 1
        current = shuffled(max(first - 1, 0))
        for number in range(first, pass_number + 1):
            current = _moved_back(shuffled(number), current[population - shared(number) :], size)
        return current

    return order


def _moved_back(order: np.ndarray, taken: np.ndarray, size: int) -> np.ndarray:
    """The order with clients in front who can fill a cohort of `size` up in which those `taken` are already, all else as it is."""
    head, rest = order[:size], order[size:]
    free = ~np.isin(head, taken)
    free &= np.cumsum(free) <= size - len(taken)
    return np.concatenate([head[free], head[~free], rest])
