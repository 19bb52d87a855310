"""Differential privacy for clients by Gaussian noise on a sum of clipped updates.

Papers: McMahan et al. 2018 (arXiv:1710.06963), Algorithm 1, with the fixed-denominator estimator; Andrew et al. 2021 (arXiv:1905.03871),
Algorithm 1, whose symbols are used below: z is the noise multiplier, C the clip, n the clients per round. Numbers without noise are TFF's.
The noise is drawn from the seed of the process: whoever knows that can take it off again. What is named `..._count` is exact, and not to
be released.

With care: `noise_like`, and the order of clip, sum, noise and division, which the guarantee rests on.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fedloom.core import Aggregator, Contribution, Key, Mechanism, Params, same_bound

from ._clip import clip as clip_to
from ._quantile import quantile


def gaussian_noise(std: float) -> Aggregator:
    """Adds N(0, std^2) to every element of the sum, as the last stage of a chain that bounds what a client adds.

    An empty round gets noise too, and counts: that nobody came must not show.

    Args:
        std: Standard deviation on the sum, before it is divided; >= 0, a hyperparameter. Divided by the bound it is the noise multiplier.

    Raises:
        ValueError: `std` is negative; from `chain`, if nothing bounds a client's part of the sum.

    Example:
        >>> from fedloom.aggregators import chain, clipping, fixed_mean
        >>> private_mean = chain(clipping(1.0), fixed_mean(100), gaussian_noise(0.8))
    """
    _check_at_least_zero("std", std)

    def decode(state, total, key):
        std = state["hyperparams"]["std"]
        noisy = _add(total.value, noise_like(total.value, std, key))
        return total._replace(value=noisy, weight=jnp.maximum(total.weight, 1)), state, {"noise_std": std}

    def noise_multiplier(state, bound):
        if bound is None:
            raise ValueError(
                "gaussian_noise would be noise without clipping: nothing bounds what one client adds to the sum, so no noise hides it. "
                "Either no stage clips to a fixed threshold (put clipping(1.0) in front; a quantile in its place is not private), or the "
                "clipped update is scaled again: weighted_mean multiplies it by the client's weight, such as its number of examples, and "
                "unweighted_mean divides by how many clients came (use fixed_mean(clients_per_round) in the place of either). "
                "E.g. chain(clipping(1.0), fixed_mean(100), gaussian_noise(0.8))."
            )
        return state["hyperparams"]["std"] / bound

    return Aggregator(
        lambda value: {"hyperparams": {"std": jnp.float32(std)}},
        lambda state, contribution, key: contribution,
        decode,
        "gaussian_noise",
        bound=same_bound,
        mechanism=Mechanism("gaussian", noise_multiplier),
    )


def dp_gaussian_fixed(noise_multiplier: float, clients_per_round: float, clip: float) -> Aggregator:
    """(sum_i clip(v_i) + N(0, z^2 C^2)) / n: a fixed clip, and a fixed n whoever took part. Clients' weights do not count.

    `noise_multiplier` and `clip` are hyperparameters. Reports `clip`, `noise_std` (on the sum) and `clipped_count`.

    Args:
        noise_multiplier: z, standard deviation of the noise over the clip, >= 0; 0 is no privacy.
        clients_per_round: n, expected number of clients in a round.
        clip: C, the largest L2 norm of an update, above 0.

    Raises:
        ValueError: An argument is out of range.
    """
    check_private_mean(noise_multiplier, clients_per_round, clip)

    def init(value):
        return {"hyperparams": {"noise_multiplier": jnp.float32(noise_multiplier), "clip": jnp.float32(clip)}}

    def encode(state, contribution, key):
        value, norm = clip_to(contribution.value, state["hyperparams"]["clip"])
        return as_one(contribution, value, {"clipped": (norm > state["hyperparams"]["clip"]).astype(jnp.float32)})

    def decode(state, total, key):
        z, C = state["hyperparams"]["noise_multiplier"], state["hyperparams"]["clip"]
        mean = noisy_mean(total, noise_like(total.value, z * C, key), clients_per_round)
        return mean, state, {"clip": C, "noise_std": z * C, "clipped_count": total.tally["clipped"]}

    return Aggregator(
        init,
        encode,
        decode,
        "dp_gaussian",
        bound=lambda state, bound: state["hyperparams"]["clip"],
        mechanism=Mechanism("gaussian", lambda state, bound: state["hyperparams"]["noise_multiplier"]),
    )


def dp_gaussian_adaptive(
    noise_multiplier: float,
    clients_per_round: float,
    initial_l2_norm_clip: float = 0.1,
    target_unclipped_quantile: float = 0.5,
    learning_rate: float = 0.2,
    clipped_count_stddev: float | None = None,
) -> Aggregator:
    """As `dp_gaussian_fixed`, with a clip that follows a quantile of the norms of updates, by a noised count.

    `noise_multiplier` is a hyperparameter, and stands for sum and count together: the sum gets the noise multiplier
    z_Delta = (z^-2 - (2 sigma_b)^-2)^(-1/2) (Theorem 1). Reports `clip` (of the next round, as TFF), `noise_std` (on the sum),
    `unclipped_share` (b, with its noise) and `clipped_count`.

    Args:
        noise_multiplier: z >= 0; 0 is no privacy.
        clients_per_round: n, expected number of clients in a round.
        initial_l2_norm_clip: C of the first round, above 0.
        target_unclipped_quantile: gamma, the share of updates that should not be clipped, in (0, 1).
        learning_rate: eta_C of the clip, above 0.
        clipped_count_stddev: sigma_b, of the noise on the count, above z / 2. None takes 0.05 n, and 0 as long as z is 0.

    Raises:
        ValueError: An argument is out of range; from the accountant, if z was set to 2 sigma_b or more. Such rounds are not accepted.
    """
    check_private_mean(noise_multiplier, clients_per_round, initial_l2_norm_clip)
    estimator = quantile(initial_l2_norm_clip, target_unclipped_quantile, learning_rate)
    sigma_b = 0.05 * clients_per_round if clipped_count_stddev is None else clipped_count_stddev
    _check_at_least_zero("clipped_count_stddev", sigma_b)
    _check_split(noise_multiplier, sigma_b)

    def init(value):
        return {"hyperparams": {"noise_multiplier": jnp.float32(noise_multiplier)}, "clip": jnp.float32(initial_l2_norm_clip)}

    def encode(state, contribution, key):
        value, norm = clip_to(contribution.value, state["clip"])
        tally = {"clipped": (norm > state["clip"]).astype(jnp.float32), "below": estimator.bit(norm, state["clip"])}
        return as_one(contribution, value, tally)

    def decode(state, total, key):
        z, C = state["hyperparams"]["noise_multiplier"], state["clip"]
        sum_key, count_key = jax.random.split(key)
        z_sum = jnp.where(z > 0, z / jnp.sqrt(1 - (z / jnp.float32(2 * sigma_b)) ** 2), 0)  # z_Delta
        mean = noisy_mean(total, noise_like(total.value, z_sum * C, sum_key), clients_per_round)

        std = jnp.float32(sigma_b) if clipped_count_stddev is not None else jnp.where(z > 0, jnp.float32(sigma_b), 0)
        b = estimator.share(total.tally["below"] + std * jax.random.normal(count_key, dtype=jnp.float32), clients_per_round)
        new = estimator.update(C, b)
        measurements = {"clip": new, "noise_std": z_sum * C, "unclipped_share": b, "clipped_count": total.tally["clipped"]}
        return mean, {**state, "clip": new}, measurements

    def of_sum_and_count(state, bound):
        _check_split(float(state["hyperparams"]["noise_multiplier"]), sigma_b)
        return state["hyperparams"]["noise_multiplier"]

    return Aggregator(
        init,
        encode,
        decode,
        "dp_gaussian",
        bound=lambda state, bound: state["clip"],
        mechanism=Mechanism("gaussian", of_sum_and_count),
    )


def noise_like(value: Params, std: jax.Array, key: Key) -> Params:
    """Independent N(0, std^2) for every element of every array."""
    leaves, tree = jax.tree.flatten(value)
    keys = [jax.random.fold_in(key, i) for i in range(len(leaves))]
    return jax.tree.unflatten(
        tree, [std.astype(v.dtype) * jax.random.normal(k, v.shape, v.dtype) for v, k in zip(leaves, keys, strict=True)]
    )


def as_one(contribution: Contribution, value: Params, tally: dict[str, jax.Array]) -> Contribution:
    """A clipped contribution that counts 1: a weight would let a client add more than its clip, or tell how much data it has."""
    return contribution._replace(value=value, weight=jnp.ones_like(contribution.weight), tally=tally)


def noisy_mean(total: Contribution, noise: Params, clients_per_round: float) -> Contribution:
    """(sum + noise) / n, of weight n: how many clients came, if any, shows neither in the mean nor in its weight."""
    mean = jax.tree.map(lambda v: v / jnp.asarray(clients_per_round, v.dtype), _add(total.value, noise))
    return total._replace(value=mean, weight=jnp.full_like(total.weight, clients_per_round))


def check_private_mean(noise_multiplier: float, clients_per_round: float, clip: float) -> None:
    """Refuses what is out of range."""
    _check_at_least_zero("noise_multiplier", noise_multiplier)
    if not 0 < clients_per_round < math.inf:
        raise ValueError(
            f"clients_per_round must be finite and above 0, got {clients_per_round!r}. It is how many clients a round has on average."
        )
    if not 0 < clip < math.inf:
        raise ValueError(f"The clip must be finite and above 0, got {clip!r}. The median norm of clients' updates is a usual choice.")


def _add(value: Params, noise: Params) -> Params:
    return jax.tree.map(jnp.add, value, noise)


def _check_at_least_zero(name: str, number: float) -> None:
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {number!r}.")


def _check_split(z: float, sigma_b: float) -> None:
    if z > 0 and not sigma_b > z / 2:
        raise ValueError(
            f"clipped_count_stddev must be above noise_multiplier / 2 = {z / 2:g}, got {sigma_b:g}: with less noise the count alone uses "
            "up what sum and count may give away together. Raise it (by default it is 0.05 clients_per_round), or lower noise_multiplier."
        )
