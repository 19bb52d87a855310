"""Clipping and zeroing of updates whose norm is too large, as stages of a chain before the mean.

Norms are over all arrays of an update together. A client without data, or whose update was not finite, counts with norm 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from fedloom.core import Aggregator, Params

from ._quantile import Quantile

Norm = Literal["l1", "l2", "linf"]
Limit = Callable[[Params, jax.Array, Norm], tuple[Params, jax.Array]]


def clipping(threshold: float | Quantile, norm: Norm = "l2") -> Aggregator:
    """Shrinks an update v to norm `threshold` if it is larger: v / (|v| / threshold).

    Reports `threshold`, as applied in the round, and `clipped_count`; with a `quantile` also `share_below`, of clients at or below C.

    Args:
        threshold: Above 0; a hyperparameter. Or a `quantile` to follow, which tells of clients' norms and so does not go with privacy.
        norm: "l2", "l1" or "linf".

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from fedloom.aggregators import chain, weighted_mean
        >>> mean_of_clipped = chain(clipping(1.0), weighted_mean())
    """
    return _limiting("clipping", "clipped", clip, threshold, norm)


def zeroing(threshold: float | Quantile, norm: Norm = "linf") -> Aggregator:
    """Puts zeros in the place of an update whose norm is above `threshold`, since it is probably corrupt. Its weight stays, as in TFF.

    Reports as `clipping` does, with `zeroed_count`.

    Args:
        threshold: As in `clipping`.
        norm: "linf", "l2" or "l1".

    Raises:
        ValueError: An argument is out of range.
    """
    return _limiting("zeroing", "zeroed", zero, threshold, norm)


def clip(value: Params, threshold: jax.Array, norm: Norm = "l2") -> tuple[Params, jax.Array]:
    """The value with a norm of at most the threshold, and the norm that it had; a norm beyond float32 makes it zeros."""
    size = norm_of(value, norm)
    excess = jnp.where(size > threshold, size / threshold, 1)
    return jax.tree.map(lambda v: (v.astype(jnp.float32) / excess).astype(v.dtype), value), size


def zero(value: Params, threshold: jax.Array, norm: Norm = "linf") -> tuple[Params, jax.Array]:
    """The value, or zeros if its norm is above the threshold, and the norm that it had."""
    size = norm_of(value, norm)
    return jax.tree.map(lambda v: jnp.where(size > threshold, jnp.zeros_like(v), v), value), size


def norm_of(value: Params, norm: Norm) -> jax.Array:
    """The norm of all arrays together, in float32; infinity if that cannot hold it."""
    sizes = [jnp.abs(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(value)]
    if norm == "linf":
        return jnp.stack([jnp.float32(0), *[size.max(initial=0) for size in sizes]]).max()
    if norm == "l1":
        return sum([size.sum() for size in sizes], jnp.float32(0))
    return jnp.sqrt(sum([jnp.square(size).sum() for size in sizes], jnp.float32(0)))


def _limiting(name: str, done: str, limit: Limit, threshold: float | Quantile, norm: Norm) -> Aggregator:
    if norm not in ("l1", "l2", "linf"):
        raise ValueError(f'norm of {name} must be "l1", "l2" or "linf", got {norm!r}.')
    if isinstance(threshold, Quantile):
        return _limiting_by_quantile(name, done, limit, threshold, norm)
    if not 0 < threshold < math.inf:
        raise ValueError(f"threshold of {name} must be finite and above 0, got {threshold!r}. Or give a quantile(...) to follow.")

    def init(value):
        return {"hyperparams": {"threshold": jnp.float32(threshold)}}

    def encode(state, contribution, key):
        applied = state["hyperparams"]["threshold"]
        value, size = limit(contribution.value, applied, norm)
        return contribution._replace(value=value, tally={done: (size > applied).astype(jnp.float32)})

    def decode(state, total, key):
        return total, state, {"threshold": state["hyperparams"]["threshold"], f"{done}_count": total.tally[done]}

    def bound(state, bound):
        if norm == "linf":
            return bound
        applied = state["hyperparams"]["threshold"]  # also of the L2 norm if it is of the L1 norm, which is no smaller
        return applied if bound is None else jnp.minimum(bound, applied)

    return Aggregator(init, encode, decode, name, bound=bound)


def _limiting_by_quantile(name: str, done: str, limit: Limit, quantile: Quantile, norm: Norm) -> Aggregator:
    def init(value):
        return {"estimate": jnp.float32(quantile.initial)}

    def encode(state, contribution, key):
        estimate, applied = state["estimate"], quantile.threshold(state["estimate"])
        value, size = limit(contribution.value, applied, norm)
        tally = {done: (size > applied).astype(jnp.float32), "below": quantile.bit(size, estimate), "clients": jnp.float32(1)}
        return contribution._replace(value=value, tally=tally)

    def decode(state, total, key):
        estimate, clients = state["estimate"], total.tally["clients"]
        share = quantile.share(total.tally["below"], jnp.maximum(clients, 1))
        measurements = {"threshold": quantile.threshold(estimate), f"{done}_count": total.tally[done], "share_below": share}
        return total, {"estimate": jnp.where(clients > 0, quantile.update(estimate, share), estimate)}, measurements

    # No `bound`: one that follows clients' exact norms tells of them, so noise scaled to it would promise too much.
    return Aggregator(init, encode, decode, name, follows_clients=True)
