"""Settings under which a promise of privacy would be empty, refused when a process is assembled."""

from __future__ import annotations

import jax.numpy as jnp

from fedloom.core import Aggregator, Algorithm
from fedloom.privacy import Budget, Tree


def check_privacy(algorithm: Algorithm, aggregator: Aggregator, privacy: Budget, *, client_metrics: bool) -> None:
    """Raises ValueError, with the reason and the way out, if rounds would release more than the accountant counts."""
    mechanism = aggregator.mechanism
    if mechanism is None:
        raise ValueError(
            "privacy needs an aggregator that clips and adds noise, for without noise every round tells exactly what its clients sent, got "
            f"{aggregator.name!r}. Use fl.aggregators.dp_gaussian_fixed or another that starts with dp_."
        )
    mechanism.noise_multiplier(aggregator.init(jnp.zeros((2, 2))), None)  # refuses noise on a sum without a bound
    if (mechanism.kind == "tree") != isinstance(privacy.sampling, Tree):
        raise ValueError(
            f"privacy.sampling must say how clients are drawn for the noise in use, got {type(privacy.sampling).__name__} for noise of the "
            f"kind {mechanism.kind!r}. Tree aggregation goes with fl.privacy.Tree, independent noise with Poisson or FixedSize."
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
