"""A round as pure functions, shared by everything that runs one: `contribute` on a client, `add_sums` anywhere, `close` on the server.

Semantics: those of `goldens/README.md`, points 3 to 8, with a non-finite client's metrics left out for every algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from . import _metrics as metrics
from ._addends import add
from ._aggregator import Aggregator, AggregatorState, Contribution
from ._algorithm import Algorithm, ClientOutput, ClientState, Message, ServerState
from ._keys import aggregate_key, client_key
from ._metrics import MetricSums
from ._types import Array, Key, ModelWeights, PyTree

CLIENTS_PER_PARTIAL_SUM = 8
"""Contributions are summed in blocks of so many clients, then block by block, in the order of the cohort, wherever the work was done."""


NAMED_PLACES = 2048
"""Clients of a cohort that can be named if their update is not finite; of those further back only the number is known."""


class RoundSums(NamedTuple):
    """What has come in so far; every field adds up."""

    contribution: Contribution  # encoded
    metrics: MetricSums
    num_clients: jax.Array
    num_nonfinite_clients: jax.Array
    num_negative_weights: jax.Array
    nonfinite_places: jax.Array  # uint32 (NAMED_PLACES / 32,): a bit for each place in the cohort


class Kept(NamedTuple):
    """What stays with a client until its next round."""

    algorithm: ClientState = ()
    aggregator: PyTree = ()  # its memory, such as the error feedback of a compression


NOTHING_KEPT = Kept()


class ClientReport(NamedTuple):
    """One client's round, where more than its part of the sums is wanted."""

    kept: Kept  # for its next round
    contribution: Any  # encoded, if the aggregator needs all at once
    weight: Array
    update_norm: Array  # L2, of all it would send, before any aggregator; NaN if it is not finite
    finite: Array
    tally: PyTree  # what the aggregator counted of it
    metrics: MetricSums
    seconds: float = float("nan")  # measured by the executor


def first_kept(algorithm: Algorithm, aggregator: Aggregator, weights: ModelWeights, value: PyTree) -> Kept:
    """What a client that takes part for the first time has: no history."""
    return Kept(algorithm.init_client(weights), aggregator.init_client(value))


def contribute(
    aggregator: Aggregator,
    aggregator_state: AggregatorState,
    output: ClientOutput,
    key: Key,
    kept: Kept = NOTHING_KEPT,
    *,
    place: int | jax.Array = 0,
) -> tuple[RoundSums, ClientReport]:
    """One client's part of the sums, and its report.

    If any element of its value or weight is not finite, the value becomes zeros, the weight 0, its metrics do not count, and it keeps what
    it had; so it does if what it would keep is not finite.

    Args:
        aggregator: The aggregator.
        aggregator_state: Its state.
        output: What the client's work came to.
        key: Of the client in this round.
        kept: What it had before the round.
        place: Of the client in the cohort.
    """
    given = output.contribution
    finite = _all_finite((given.value, given.weight))
    value, weight, sums = jax.tree.map(
        lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), (given.value, given.weight, output.metrics)
    )
    encoded = aggregator.encode(aggregator_state, Contribution(value, weight, memory=kept.aggregator), key)
    sent = encoded._replace(memory=())
    new = Kept(output.state, encoded.memory)
    sound = finite & _all_finite(new)  # a personal model may diverge while what is sent does not
    after = jax.tree.map(lambda new, old: jnp.where(sound, new, old), new, kept)
    stacks = aggregator.reduce == "stack"
    report = ClientReport(after, sent if stacks else (), weight, _norm(given.value), finite, encoded.tally, sums)
    ones = jnp.float32(1), 1 - finite.astype(jnp.float32), (given.weight < 0).astype(jnp.float32)
    mark = jnp.where(finite, jnp.uint32(0), _bit(place))
    return RoundSums(Contribution((), jnp.float32(0)) if stacks else sent, sums, *ones, mark), report


def add_sums(a: RoundSums, b: RoundSums) -> RoundSums:
    """The sums over two disjoint sets of clients."""
    return add(a, b)


def _bit(place: int | jax.Array) -> jax.Array:
    """The bit of a place; none beyond `NAMED_PLACES`."""
    place = jnp.asarray(place, jnp.int32)
    here = jnp.arange(NAMED_PLACES // 32) == place // 32
    return jnp.where(here, jnp.left_shift(jnp.uint32(1), jnp.asarray(place % 32, jnp.uint32)), jnp.uint32(0))


def places_of(bits: Any) -> list[int]:
    """The places whose bits are set in `RoundSums.nonfinite_places`, ascending.

    Example:
        >>> places_of([0b101, 0b10])
        [0, 2, 33]
    """
    return [32 * word + bit for word, value in enumerate(bits) for bit in range(32) if int(value) >> bit & 1]


def stack_contributions(aggregator: Aggregator, sums: RoundSums, reports: Sequence[ClientReport]) -> RoundSums:
    """The sums with all contributions along a new first axis, if the aggregator needs that and there are any."""
    if aggregator.reduce == "sum" or not reports:
        return sums
    return sums._replace(contribution=jax.tree.map(lambda *leaves: jnp.stack(leaves), *[report.contribution for report in reports]))


def empty_sums(
    algorithm: Algorithm, aggregator: Aggregator, message: Message, aggregator_state: AggregatorState, key: Key, kept: Kept = NOTHING_KEPT
) -> tuple[RoundSums, ClientReport]:
    """The sums over no client, and a report of zeros, with the shapes that a client's will have."""

    def one_client():
        output = algorithm.client.finish(message, algorithm.client.begin(message, kept.algorithm, client_key(key, 0)))
        return contribute(aggregator, aggregator_state, output, key, kept)

    return metrics.zeros_like(jax.eval_shape(one_client))


class Closed(NamedTuple):
    """The server after a round."""

    server: ServerState
    aggregator: AggregatorState
    accepted: jax.Array  # whether the round counted
    metrics: dict[str, Any]  # of the algorithm's server side
    measurements: dict[str, Any]  # of the aggregator


def close(
    algorithm: Algorithm,
    aggregator: Aggregator,
    state: ServerState,
    aggregator_state: AggregatorState,
    message: Message,
    sums: RoundSums,
    key: Key,
) -> Closed:
    """The server's end of a round.

    With no weight at all, or an aggregate that is not finite, the server's state stays as it was. The aggregator's goes on, as TFF's does:
    what it learned of the norms of updates, or the noise that it has used up, is true all the same.
    """
    if aggregator.reduce == "stack" and not jax.tree.leaves(sums.contribution.value):  # no client, so there is nothing to stack
        return Closed(state, aggregator_state, jnp.bool_(False), {}, {})
    aggregate, next_aggregator_state, measurements = aggregator.decode(aggregator_state, sums.contribution, aggregate_key(key))
    accepted = (aggregate.weight > 0) & _all_finite(aggregate.value)
    updated, server_metrics = algorithm.server_update(state, message, aggregate)
    server = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), updated, state)
    sound = _all_finite(next_aggregator_state)
    kept = jax.tree.map(lambda new, old: jnp.where(sound, new, old), next_aggregator_state, aggregator_state)
    return Closed(server, kept, accepted, server_metrics, measurements)


def _norm(value: PyTree) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(value) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return optax.tree.norm(leaves) if leaves else jnp.float32(0)


def _all_finite(tree: PyTree) -> jax.Array:
    # Flat, for XLA on a CPU loops over narrow rows four times as slowly.
    leaves = [jnp.isfinite(jnp.ravel(leaf)).all() for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.stack(leaves).all() if leaves else jnp.bool_(True)
