"""Means that a minority of corrupt clients cannot move far: median, trimmed mean, geometric median.

They need all updates at once, so memory grows with the cohort, and a cohort of a new size compiles anew. Clients of weight 0 (without data,
or not finite) take no part. What a stage before them clips or zeroes, they get that way.

Papers: Yin et al. 2018, arXiv:1803.01498 (median and trimmed mean, by coordinate); Pillutla et al. 2019, arXiv:1912.13445 (RFA).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fedloom.core import Aggregator

from ._stack import column, middle, ranked, stacking


def median() -> Aggregator:
    """The median of each coordinate over clients (Yin et al., Definition 1); the mean of the middle two of an even number.

    Clients count the same whatever their weight. As long as fewer than half of them are corrupt, each coordinate stays among those of the
    others. Reports `num_used`.

    Example:
        >>> from fedloom.core import Contribution
        >>> updates = Contribution(jnp.array([1.0, 2.0, 1e9, 0.0]), jnp.array([1.0, 1.0, 1.0, 0.0]))  # the last client has no data
        >>> float(median().decode((), updates, None)[0].value)
        2.0
    """

    def decode(state, total, key):
        used = total.weight > 0
        value = middle(total.value, used)
        return total._replace(value=value, weight=total.weight.sum()), state, {"num_used": used.sum()}

    return stacking("median", decode)


def trimmed_mean(fraction: float) -> Aggregator:
    """The mean of each coordinate without its largest and its smallest values (Yin et al., Definition 2).

    Clients count the same whatever their weight. Of n of them, floor(fraction n) values are left out at either end: as many corrupt clients
    can do no more than move a coordinate within the range of the others. Reports `num_used`, before trimming, and `num_trimmed`.

    Args:
        fraction: beta, the share left out at either end, in [0, 0.5): at least the share of clients that may be corrupt.

    Raises:
        ValueError: `fraction` is out of range.
    """
    if not 0 <= fraction < 0.5:
        raise ValueError(f"fraction of trimmed_mean must be in [0, 0.5), got {fraction!r}. At 0.5 nothing is left; for that, use median().")

    def decode(state, total, key):
        used = total.weight > 0
        n = used.sum()
        # A table by n, made on the host: 0.29 * 100 is 28.999999999999996, and 29 are meant.
        trimmed = jnp.asarray([math.floor(round(fraction * count, 6)) for count in range(len(used) + 1)], jnp.int32)[n]
        trimmed = jnp.minimum(trimmed, jnp.maximum(n - 1, 0) // 2)

        def mean(x):
            rank = column(jnp.arange(len(used)), x)
            kept = (rank >= trimmed) & (rank < n - trimmed)
            return jnp.where(kept, ranked(x, used), 0).sum(0) / jnp.maximum(n - 2 * trimmed, 1).astype(x.dtype)

        value = jax.tree.map(mean, total.value)
        return total._replace(value=value, weight=total.weight.sum()), state, {"num_used": n, "num_trimmed": 2 * trimmed}

    return stacking("trimmed_mean", decode)


def geometric_median(iterations: int = 8, epsilon: float = 1e-6) -> Aggregator:
    """The point with the smallest weighted sum of distances to the updates, by the smoothed Weiszfeld algorithm (Pillutla et al.).

    Differs from the paper: it starts from the coordinate-wise median, so that no corrupt update decides how many iterations are enough.
    Weights are what clients say they are: where that cannot be trusted, let all count the same with `client_weight="uniform"`. Reports
    `num_used` and `mean_distance`, the weighted mean of the distances from the result.

    Args:
        iterations: Steps of the algorithm, at least 1.
        epsilon: nu, above 0: distances below it count as this much.

    Raises:
        ValueError: An argument is out of range.
    """
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"iterations of geometric_median must be a whole number of at least 1, got {iterations!r}.")
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon of geometric_median must be finite and above 0, got {epsilon!r}. It keeps a division from being by 0.")

    def decode(state, total, key):
        x, alpha = total.value, total.weight
        used = alpha > 0
        share = alpha / jnp.where(used.any(), alpha.sum(), 1)

        def distances(v):
            squares = jax.tree.map(lambda x, v: jnp.square((x - v).astype(jnp.float32)).sum(range(1, x.ndim)), x, v)
            return jnp.sqrt(jax.tree.reduce(jnp.add, squares, jnp.zeros(alpha.shape)))

        def weiszfeld(_, v):
            beta = share / jnp.maximum(distances(v), epsilon)
            beta = beta / jnp.where(used.any(), beta.sum(), 1)
            return jax.tree.map(lambda x: (column(beta, x) * x).sum(0).astype(x.dtype), x)

        value = jax.lax.fori_loop(0, iterations, weiszfeld, middle(x, used))
        measurements = {"num_used": used.sum(), "mean_distance": (share * jnp.where(used, distances(value), 0)).sum()}
        return total._replace(value=value, weight=alpha.sum()), state, measurements

    return stacking("geometric_median", decode)
