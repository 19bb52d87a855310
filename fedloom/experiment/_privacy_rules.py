"""Settings under which a promise of privacy would be empty, refused when a process is assembled."""

from __future__ import annotations

from typing import Any, cast

import jax.numpy as jnp

from fedloom.core import Aggregator, Algorithm, Mechanism
from fedloom.data import CohortSampler
from fedloom.privacy import Budget, FixedSize, Matrix, Poisson, Sampling, Tree


def check_privacy(algorithm: Algorithm, aggregator: Aggregator, privacy: Budget, *, client_metrics: bool) -> None:
    """Raises ValueError, with the reason and the way out, if rounds would release more than the accountant counts."""
    mechanism = aggregator.mechanism
    if mechanism is None:
        raise ValueError(
            "privacy needs an aggregator that clips and adds noise, for without noise every round tells exactly what its clients sent, got "
            f"{aggregator.name!r}. Use fl.aggregators.dp_gaussian_fixed or another that starts with dp_."
        )
    mechanism.noise_multiplier(aggregator.init(jnp.zeros((2, 2))), None)  # refuses noise on a sum without a bound
    _check_mechanism(mechanism, privacy.sampling)
    if aggregator.follows_clients:
        raise ValueError(
            f"The aggregator {aggregator.name!r} adapts to what clients send without noise (an adaptive threshold, say), so its later "
            "rounds tell of them what no accountant counts. Use a fixed threshold, or one that is noised too: dp_gaussian_adaptive, or "
            "dp_aggregator(..., zeroing=False)."
        )
    if client_metrics:
        raise ValueError(
            "client_metrics must be False under privacy, got True: a table of single clients shows each of them as it is, without clip or "
            "noise. Evaluate on clients who agreed to that, with process.evaluate_clients."
        )
    if any(algorithm.model.learned):
        raise ValueError(
            'The model averages statistics over clients (BatchNorm, non_trainable="mean"), which privacy rules out: they have no bound of '
            'their own, and clipped together with the update they crowd it out. Use non_trainable="keep", or GroupNormalization instead.'
        )
    if algorithm.prelude is not None:
        raise ValueError(
            f"The algorithm {algorithm.name!r} asks clients twice in a round, and what it asks first is averaged without clip or noise, so "
            "the accountant would miss it. Use an algorithm with one exchange per round, such as fedavg."
        )


def _check_mechanism(mechanism: Mechanism, sampling: Sampling) -> None:
    """Raises ValueError if the accountant is told of another kind of noise, or of noise over other rounds."""
    kind = {Tree: "tree", Matrix: "matrix"}.get(type(sampling), "gaussian")
    if kind != mechanism.kind:
        raise ValueError(
            f"privacy.sampling must go with the noise in use, got {type(sampling).__name__} for noise of the kind {mechanism.kind!r}. "
            "dp_tree goes with fl.privacy.Tree, dp_matrix with fl.privacy.Matrix, all else with Poisson, FixedSize or Everyone."
        )
    rounds = {Tree: "rounds_per_restart", Matrix: "rounds"}.get(type(sampling))
    if rounds and getattr(sampling, rounds) != mechanism.rounds:
        raise ValueError(
            f"The budget's sampling must account for the rounds that the noise covers, got {sampling} for an aggregator with a new "
            f"{kind} every {mechanism.rounds} rounds. Give both the same number."
        )


def check_sampling(accounted: Sampling, sample: CohortSampler, rounds: int) -> None:
    """Raises ValueError if cohorts are drawn otherwise than the accountant is told.

    Args:
        accounted: What the budget says.
        sample: One of `fl.data`; of a function of the user's own nothing is known, and nothing is checked.
        rounds: Of the run.
    """
    scheme = getattr(sample, "scheme", None)
    if scheme is None:
        return
    known = cast(Any, sample)
    drawn = f"the run draws {scheme} cohorts of {known.size} from {len(known.client_ids)} clients"
    if isinstance(accounted, Poisson | FixedSize):
        schemes = {"poisson": Poisson, "uniform": FixedSize}
        if scheme not in schemes or accounted != schemes[scheme](known.size, len(known.client_ids)):
            raise ValueError(
                f"The budget's sampling must be that of the run: it accounts for {accounted}, and {drawn}. Change one of the two; "
                'sampling="poisson" spends the least, and fl.privacy.Everyone() holds for any way to draw.'
            )
    elif isinstance(accounted, Tree | Matrix):
        needed = accounted.rounds_per_restart if isinstance(accounted, Tree) else accounted.min_separation
        most, times = accounted.max_participations, 1 + (rounds - 1) // known.min_separation
        if known.min_separation < needed or (most is not None and times > most):
            raise ValueError(
                f"The budget's sampling must be that of the run: it accounts for {accounted}, and {drawn}, in which one may come back "
                f"after {known.min_separation} rounds and take part {times} times. Draw with fl.data.cyclic(client_ids, size, "
                "reshuffle=False), few enough per round."
            )


def check_cohort(accounted: Sampling, size: int) -> None:
    """Raises ValueError if a round has another number of clients than the accountant is told."""
    if isinstance(accounted, FixedSize) and size != accounted.cohort_size:
        raise ValueError(
            f"A round must have exactly the {accounted.cohort_size} clients that the budget's sampling accounts for, got {size}. Draw as "
            "many, or account for another sampling."
        )
