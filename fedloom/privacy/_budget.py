"""The privacy that a run may spend, and the refusal of the round that would exceed it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from fedloom.core import PrivacyBudgetExceeded

from ._accounting import Accountant, check_accountant, check_delta, check_epsilon
from ._ledger import Ledger
from ._sampling import FixedSize, Poisson, Sampling

_NOTHING = Ledger()
_MOST_ROUNDS = 10**9


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A bound on what a run may give away about a client.

    Args:
        epsilon: Finite and > 0.
        delta: In (0, 1 / population), if the sampling knows its population, else in (0, 1).
        sampling: How clients are drawn.
        accountant: "rdp" for any sampling, "pld" for `Poisson`, `Everyone` and `Matrix`: tighter, but the first check takes seconds.

    Raises:
        ValueError: An argument is out of range, or the accountant does not support the sampling.

    Example:
        >>> budget = Budget(epsilon=2.0, delta=1e-5, sampling=Poisson(cohort_size=120, population=3383))
        >>> ledger = Ledger()
        >>> for _ in range(10):
        ...     budget.check(ledger, noise_multiplier=1.2)
        ...     ledger = ledger.spend(budget.sampling, noise_multiplier=1.2)
        >>> budget.rounds(1.2) - budget.rounds(1.2, spent=ledger)
        10
    """

    epsilon: float
    delta: float
    sampling: Sampling
    accountant: Accountant = "rdp"

    def __post_init__(self):
        check_epsilon("Budget.epsilon", self.epsilon)
        check_delta(self.delta)
        check_accountant(self.accountant, self.sampling)
        if isinstance(self.sampling, Poisson | FixedSize) and self.delta >= 1 / self.sampling.population:
            raise ValueError(
                f"Budget.delta must be below 1 / population = {1 / self.sampling.population:.3g}, got {self.delta!r}: publishing all data "
                "of one client, drawn at random, would pass as private. Lower it; a tenth of that bound is a usual choice."
            )

    def rounds(self, noise_multiplier: float, spent: Ledger = _NOTHING) -> int:
        """How many more rounds with this noise fit.

        Args:
            noise_multiplier: Finite and >= 0, the same in all of them.
            spent: What was released before.

        Returns:
            >= 0; 10^9 stands for any number above.

        Raises:
            ValueError: `spent` has another neighbouring relation.
        """
        *before, current = spent.spend(self.sampling, noise_multiplier).entries
        return max(0, _rounds_after(self, Ledger(tuple(before)), current.noise_multiplier) - (current.rounds - 1))

    def check(self, spent: Ledger, noise_multiplier: float) -> None:
        """Does nothing if one more round with this noise fits; cheap enough for every round, as its limit is computed once.

        Raises:
            PrivacyBudgetExceeded: It does not fit. Then it must not be run.
            ValueError: `spent` has another neighbouring relation.
        """
        if self.rounds(noise_multiplier, spent) >= 1:
            return
        now = spent.epsilon(self.delta, self.accountant)
        after = spent.spend(self.sampling, noise_multiplier).epsilon(self.delta, self.accountant)
        raise PrivacyBudgetExceeded(
            f"The next round must keep epsilon within {self.epsilon:g} at delta={self.delta:g}, but would bring it from {now:.4f} to "
            f"{after:.4f} (noise multiplier {noise_multiplier:g}, {self.sampling}). Stop here, or give a new run more noise, fewer clients "
            "per round, or a larger epsilon.",
            epsilon_spent=now,
            epsilon_next=after,
            epsilon_budget=self.epsilon,
        )


@functools.lru_cache(maxsize=64)
def _rounds_after(budget: Budget, before: Ledger, noise_multiplier: float) -> int:
    """How many rounds with this noise fit after those of `before`."""

    def fit(rounds: int) -> bool:
        return before.spend(budget.sampling, noise_multiplier, rounds).epsilon(budget.delta, budget.accountant) <= budget.epsilon

    fitting, too_many = 0, 1
    while fit(too_many):
        if too_many > _MOST_ROUNDS:  # there may be no end: trees of which a client is in a few cost no more by being many
            return _MOST_ROUNDS
        fitting, too_many = too_many, 2 * too_many
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        fitting, too_many = (middle, too_many) if fit(middle) else (fitting, middle)
    return fitting
