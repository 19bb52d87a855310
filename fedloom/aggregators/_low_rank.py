"""Matrices sent as a product of two thin ones: PowerSGD.

Paper: Vogels et al. 2019, arXiv:1905.13727, Algorithms 1 and 2, whose symbols are used below.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedloom.core import Aggregator, same_bound

from ._compression import compress, relative_error

_PULL = 1e-5  # above the rounding of float32, far below what a round has to say


class LowRankState(NamedTuple):
    """What the server sends along."""

    q: tuple[jax.Array, ...]  # Q, (n, r) with orthonormal columns, for each array that is compressed


def low_rank(rank: int, *, error_feedback: bool = True) -> Aggregator:
    """A stage before the mean: each matrix M (m x n) as P Q^T with P (m x r) and Q (n x r), by one step of subspace iteration.

    An array with more axes is a matrix whose columns are its last axis. Vectors, and matrices that would be no smaller, go as they are. The
    step starts from the right factor of the mean of the rounds before (the paper's warm start), in the first round from fixed random
    numbers.

    Differs from the paper: there all workers share P = orthogonalize(mean_i M_i Q) and send M_i^T P in a second exchange. A round has one
    sum, so here each client orthogonalizes its own M_i Q and sends both factors, and the products are summed; the mean is then of higher
    rank and closer to the mean of the M_i. Reports `relative_error`, as `top_k`; error feedback (Algorithm 2) is as there, too.

    Args:
        rank: r, at least 1.
        error_feedback: Whether clients keep what they did not send, for their next round; they need ids then.

    Raises:
        ValueError: `rank` is below 1 or no whole number.

    Example:
        >>> import fedloom as fl
        >>> mean = fl.aggregators.chain(low_rank(2), fl.aggregators.weighted_mean())
        >>> mean.bytes_up({"w": jnp.zeros((100, 50)), "b": jnp.zeros(50)})  # 2 * (100 + 50) + 50 float32
        1400
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"rank of low_rank must be a whole number of at least 1, got {rank!r}. Ranks from 1 to 4 are usual.")

    def init(value):
        sizes = [size for leaf in jax.tree.leaves(value) if (size := _sizes(leaf.shape, rank))]
        keys = jax.random.split(jax.random.key(0), len(sizes)) if sizes else []
        return LowRankState(tuple(_orthogonalize(jax.random.normal(key, (n, r))) for key, (_, n, r) in zip(keys, sizes, strict=True)))

    def encode(state, contribution, key):
        def approximate(value):
            leaves, tree = jax.tree.flatten(value)
            q = iter(state.q)
            return jax.tree.unflatten(tree, [_project(x, next(q)) if _sizes(x.shape, rank) else x for x in leaves])

        return compress(contribution, approximate)

    def decode(state, total, key):
        matrices = [leaf for leaf in jax.tree.leaves(total.value) if _sizes(leaf.shape, rank)]
        q = tuple(_iterate(m, q) for m, q in zip(matrices, state.q, strict=True))
        return total, LowRankState(q), relative_error(total)

    def bytes_up(value):
        numbers = 0
        for leaf in jax.tree.leaves(value):
            m, n, r = _sizes(leaf.shape, rank) or (leaf.size, 0, 1)
            numbers += r * (m + n)
        return 4 * numbers

    plain = Aggregator(init, encode, decode, "low_rank", bytes_up=bytes_up, bound=same_bound)  # a projection shortens
    if not error_feedback:
        return plain
    return plain._replace(init_client=optax.tree.zeros_like, bound=lambda state, bound: None)


def _sizes(shape: tuple[int, ...], rank: int) -> tuple[int, int, int] | None:
    """m, n and r of an array as a matrix; None if it is sent as it is."""
    if len(shape) < 2 or 0 in shape:
        return None
    m, n = math.prod(shape[:-1]), shape[-1]
    r = min(rank, m, n)
    return (m, n, r) if r * (m + n) < m * n else None


def _project(array: jax.Array, q: jax.Array) -> jax.Array:
    """P Q^T with P = orthogonalize(M Q) and Q = M^T P: the projection of M on the span of M Q."""
    m = _matrix(array)
    p = _orthogonalize(_product(m, q))
    q = _product(m.T, p)
    return _product(p, q.T).reshape(array.shape).astype(array.dtype)


def _iterate(array: jax.Array, q: jax.Array) -> jax.Array:
    """orthogonalize(M^T M Q), whose columns span what the M^T P of Algorithm 1 do."""
    m = _matrix(array)
    m = m / jnp.where((size := jnp.abs(m).max()) > 0, size, 1)
    m = m / jnp.maximum(jnp.linalg.norm(m), 1)
    # The pull keeps columns of which this mean says nothing where they were, rather than at the noise of rounding.
    return _orthogonalize(_product(m.T, _product(m, q)) + _PULL * q)


def _matrix(array: jax.Array) -> jax.Array:
    return array.reshape(-1, array.shape[-1]).astype(jnp.float32)


def _orthogonalize(x: jax.Array) -> jax.Array:
    return jnp.linalg.qr(x)[0]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
