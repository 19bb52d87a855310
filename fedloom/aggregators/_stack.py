"""What aggregators share that get all contributions at once, along a new first axis, rather than their sum.

Clients of weight 0 have no data or were not finite: they take no part, whatever stands in their rows.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedloom.core import Aggregator, AggregatorState, Contribution, Key, Measurements, Params

Decode = Callable[[AggregatorState, Contribution, Key], tuple[Contribution, AggregatorState, Measurements]]


def stacking(name: str, decode: Decode) -> Aggregator:
    """An aggregator without state or part on the client, whose `decode` sees all clients; there is at least one."""
    return Aggregator(lambda value: (), lambda state, contribution, key: contribution, decode, name, reduce="stack")


def column(numbers: jax.Array, x: jax.Array) -> jax.Array:
    """One number per client, shaped to go with the rows of x."""
    return numbers.reshape(-1, *[1] * (x.ndim - 1))


def ranked(x: jax.Array, used: jax.Array) -> jax.Array:
    """Each coordinate sorted over clients, upwards; the unused come last, as infinity."""
    return jnp.sort(jnp.where(column(used, x), x, jnp.inf), axis=0)


def middle(value: Params, used: jax.Array) -> Params:
    """The median of each coordinate; zeros if no client is used."""
    n = used.sum()

    def of(x):
        rows = ranked(x, used)
        return jnp.where(n > 0, rows[jnp.maximum(n - 1, 0) // 2] / 2 + rows[jnp.minimum(n // 2, len(rows) - 1)] / 2, 0)

    return jax.tree.map(of, value)
