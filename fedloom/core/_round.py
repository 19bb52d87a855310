"""A round as pure functions, shared by everything that runs one: `contribute` on a client, `add_sums` anywhere, `close` on the server.

Semantics: those of `goldens/README.md`, points 3 to 8, with a non-finite client's metrics left out for every algorithm.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import _metrics as metrics
from ._aggregator import Aggregator, AggregatorState, Contribution
from ._algorithm import Algorithm, ClientOutput, Message, ServerState
from ._keys import aggregate_key, client_key
from ._metrics import MetricSums
from ._types import Key

CLIENTS_PER_PARTIAL_SUM = 8
"""Contributions are summed in blocks of so many clients, then block by block, in the order of the cohort, wherever the work was done."""


class RoundSums(NamedTuple):
    """What has come in so far; every field adds up."""

    contribution: Contribution  # encoded
    metrics: MetricSums
    num_clients: jax.Array
    num_nonfinite_clients: jax.Array


def contribute(aggregator: Aggregator, aggregator_state: AggregatorState, output: ClientOutput, key: Key) -> RoundSums:
    """One client's part of the sums.

    If any element of its value or weight is not finite, the value becomes zeros, the weight 0, and its metrics do not count.
    """
    finite = _all_finite(output.contribution)
    value, weight, sums = jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), (*output.contribution, output.metrics))
    encoded = aggregator.encode(aggregator_state, Contribution(value, weight), key)
    return RoundSums(encoded, sums, jnp.float32(1), 1 - finite.astype(jnp.float32))


def add_sums(a: RoundSums, b: RoundSums) -> RoundSums:
    """The sums over two disjoint sets of clients."""
    return jax.tree.map(jnp.add, a, b)


def empty_sums(algorithm: Algorithm, aggregator: Aggregator, message: Message, aggregator_state: AggregatorState, key: Key) -> RoundSums:
    """The sums over no client, with the shapes that a client's will have."""

    def one_client():
        output = algorithm.client.finish(message, algorithm.client.begin(message, client_key(key, 0)))
        return contribute(aggregator, aggregator_state, output, key)

    return metrics.zeros_like(jax.eval_shape(one_client))


def close(
    algorithm: Algorithm, aggregator: Aggregator, state: ServerState, aggregator_state: AggregatorState, sums: RoundSums, key: Key
) -> tuple[ServerState, AggregatorState, jax.Array]:
    """The server's end of a round.

    Returns:
        The next server and aggregator state, and whether the round counted: with no weight at all, or an aggregate that is not finite,
        everything stays as it was.
    """
    aggregate, next_aggregator_state = aggregator.decode(aggregator_state, sums.contribution, aggregate_key(key))
    accepted = (aggregate.weight > 0) & _all_finite(aggregate.value)
    updated = algorithm.server_update(state, aggregate.value), next_aggregator_state
    kept = state, aggregator_state
    return *jax.tree.map(lambda new, old: jnp.where(accepted, new, old), updated, kept), accepted


def _all_finite(tree) -> jax.Array:
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack(leaves).all() if leaves else jnp.bool_(True)
