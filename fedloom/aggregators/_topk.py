"""Only the largest elements of what clients have to send, and the rest later.

Papers: Stich et al. 2018, arXiv:1809.07599, Definition 2.2 and Algorithm 1; Karimireddy et al. 2019, arXiv:1901.09847.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from fedloom.core import Aggregator, same_bound

from ._compression import compress, relative_error

_INDEX_BYTES = 4


def top_k(fraction: float, *, error_feedback: bool = True) -> Aggregator:
    """A stage before the mean: of each array, its k elements of largest magnitude, and zeros for the others.

    With error feedback a client keeps what it did not send and adds it to its next update, so everything is sent in the end; then clients
    need ids. Without, elements that are never among the largest are never learned. Differs from the papers: k is counted per array, so that
    no array is forgotten, and it is updates rather than gradients that are compressed. Reports `relative_error`, the share of the squared
    norm that was not sent.

    What a client sends over all rounds plus its memory is the sum of its updates. A weighted mean adds weight times update, so there the
    same holds of clients whose weight is the same in every round.

    Args:
        fraction: k / the number of elements, in (0, 1]; k is rounded, and at least 1.
        error_feedback: Whether clients keep a memory, of the size of an update.

    Raises:
        ValueError: `fraction` is out of range.

    Example:
        >>> import fedloom as fl
        >>> mean = fl.aggregators.chain(top_k(0.01), fl.aggregators.weighted_mean())
        >>> mean.bytes_up({"w": jnp.zeros((100, 100))})  # 100 elements with their places
        800
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction of top_k must be in (0, 1], got {fraction!r}. It is the share of elements that is sent.")

    def count(size: int) -> int:
        return min(size, max(1, round(fraction * size)))

    def largest(x: jax.Array) -> jax.Array:
        k = count(x.size)
        if k == x.size:
            return x
        flat = x.reshape(-1)
        _, places = jax.lax.top_k(jnp.abs(flat), k)
        return jnp.zeros_like(flat).at[places].set(flat[places], unique_indices=True).reshape(x.shape)

    def encode(state, contribution, key):
        return compress(contribution, lambda value: jax.tree.map(largest, value))

    def decode(state, total, key):
        return total, state, relative_error(total)

    def bytes_up(value):
        """Values with their places; an array as it is where that is less."""
        return sum(min(count(x.size) * (x.dtype.itemsize + _INDEX_BYTES), x.size * x.dtype.itemsize) for x in jax.tree.leaves(value))

    plain = Aggregator(lambda value: (), encode, decode, "top_k", bytes_up=bytes_up, bound=same_bound)
    if not error_feedback:
        return plain
    # What was kept back adds to an update, so its norm has no bound any more.
    return plain._replace(init_client=optax.tree.zeros_like, bound=lambda state, bound: None)
