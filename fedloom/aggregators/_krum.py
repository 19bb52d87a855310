"""Krum: the update that is closest to most others.

Paper: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", Section 4, whose symbols are used
below.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from fedloom.core import Aggregator, Params

from ._stack import column, middle, stacking


def krum(num_byzantine: int) -> Aggregator:
    """The one update with the smallest sum of squared distances to the n - f - 2 updates closest to it; of equals, the first.

    Clients count the same whatever their weight; those of weight 0 take no part, and a round in which fewer than 2 f + 3 others are left
    does not count. Reports `num_used` and `score`, the sum of distances of the update that was taken.

    Args:
        num_byzantine: f, how many clients may be corrupt, at least 0.

    Raises:
        ValueError: `num_byzantine` is negative, or, in a round, the cohort is smaller than 2 f + 3.

    Example:
        >>> from fedloom.core import Contribution
        >>> updates = Contribution(jnp.array([1.0, 1.2, 1.5, 9.0, 2.0]), jnp.ones(5))
        >>> round(float(krum(1).decode((), updates, None)[0].value), 3)
        1.2
    """
    return _krum("krum", num_byzantine, 1)


def multi_krum(num_byzantine: int, num_selected: int) -> Aggregator:
    """The mean of the `num_selected` updates that Krum scores best: slower to be fooled by noise than one update alone.

    Scores are computed once, not anew after each update that is taken. The rest is as in `krum`; `score` is that of the best.

    Args:
        num_byzantine: f, how many clients may be corrupt, at least 0.
        num_selected: m, at least 1. A cohort needs n >= f + m, or else a corrupt update is always among them.

    Raises:
        ValueError: An argument is out of range, or, in a round, the cohort is smaller than 2 f + 3 or f + m.
    """
    if not isinstance(num_selected, int) or num_selected < 1:
        raise ValueError(f"num_selected of multi_krum must be a whole number of at least 1, got {num_selected!r}.")
    return _krum("multi_krum", num_byzantine, num_selected)


def _krum(name: str, f: int, num_selected: int) -> Aggregator:
    if not isinstance(f, int) or f < 0:
        raise ValueError(f"num_byzantine of {name} must be a whole number of at least 0, got {f!r}. It is how many clients may be corrupt.")
    needed = max(2 * f + 3, f + num_selected)
    settings = f"num_byzantine={f}" + (f" and num_selected={num_selected}" if name == "multi_krum" else "")

    def decode(state, total, key):
        cohort = len(total.weight)
        if cohort < needed:
            raise ValueError(
                f"{name} with {settings} needs at least {needed} clients in a round, got {cohort}. Take larger cohorts, or guard against "
                "fewer corrupt clients."
            )
        used = total.weight > 0
        n = used.sum()
        distances = jnp.sort(_squared_distances(total.value, used), axis=1)
        closest = jnp.arange(cohort) < n - f - 2
        scores = jnp.where(used, jnp.where(closest, distances, 0).sum(1), jnp.inf)  # s(i)
        selected = jnp.argsort(scores)[:num_selected]
        value = jax.tree.map(lambda x: x[selected].mean(0), total.value)
        weight = jnp.where(n >= needed, total.weight.sum(), 0)
        return total._replace(value=value, weight=weight), state, {"num_used": n, "score": scores[selected[0]]}

    return stacking(name, decode)


def _squared_distances(value: Params, used: jax.Array) -> jax.Array:
    """Between every two clients, (n, n); infinity to oneself, to the unused, and where float32 does not reach.

    |v_i - v_j|^2 = |v_i|^2 + |v_j|^2 - 2 v_i v_j takes n^2 numbers rather than n^2 updates. It is exact enough once the updates are taken
    from their median: what they have in common would drown how they differ.
    """
    centred = optax.tree.sub(value, middle(value, used))
    rows = [jnp.where(column(used, x), x, 0).reshape(len(x), -1).astype(jnp.float32) for x in jax.tree.leaves(centred)]
    gram = sum((jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST) for x in rows), jnp.zeros((used.size, used.size)))
    norms = jnp.diagonal(gram)
    distances = jnp.maximum(norms[:, None] + norms[None] - 2 * gram, 0)
    pairs = used[:, None] & used[None] & ~jnp.eye(used.size, dtype=bool)
    return jnp.where(pairs & jnp.isfinite(distances), distances, jnp.inf)
