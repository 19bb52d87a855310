"""The compiled work on a block: one lane, or several side by side whose arrays have an axis for them.

A lane's clients begin and end at flags, which are data, so a new cohort never compiles anew. In every lane the sums of each
`CLIENTS_PER_PARTIAL_SUM` clients are taken first, and then added to the total of the group, lane by lane; in the end the groups are added
up. So bits depend on the number of lanes and of groups, and on nothing else about the placement of the work.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedloom.core import (
    Aggregator,
    Algorithm,
    ClientReport,
    Kept,
    Key,
    PyTree,
    RoundSums,
    add_sums,
    client_key,
    contribute,
    empty_sums,
    step_key,
)

from ._blocks import Slot
from ._narrow_products import with_narrow_products_apart


class Round(NamedTuple):
    """What is the same for all clients of a round."""

    message: PyTree
    aggregator_state: PyTree
    key: Key


class Lane(NamedTuple):
    """What goes from batch to batch, of one lane or of a group of several; with an axis for these where it says so."""

    local: PyTree  # (lanes,) of the client at work
    partial: RoundSums  # (lanes,) over the clients of the current partial sum
    total: RoundSums  # over the complete partial sums


class LaneWork:
    """An algorithm's client work and an aggregator's encoding, as what is done with a block.

    Args:
        algorithm: What clients do.
        aggregator: What becomes of their contributions.
        reports: Whether a client's report comes out of the block in which it ends; for one lane only.
    """

    def __init__(self, algorithm: Algorithm, aggregator: Aggregator, *, reports: bool):
        self._algorithm, self._aggregator, self._gives_reports = algorithm, aggregator, reports
        self._work = algorithm.client

    def open(self, lanes: int, round_: Round, kept: Kept) -> Lane:
        """Before the first client."""
        zero, _ = self._empty(round_, kept)
        lane = Lane(self._begin(round_, kept, client_key(round_.key, 0)), zero, zero)
        if lanes > 1:
            local, partial = jax.tree.map(lambda x: jnp.broadcast_to(x, (lanes, *jnp.shape(x))), lane[:2])
            lane = Lane(local, partial, zero)
        return jax.tree.map(lambda x: jnp.array(x, copy=True), lane)

    def one(self, round_: Round, lane: Lane, kept: Kept, slots: Slot, count: jax.Array):
        """The lane after a block, a token that is ready when the block is, and the report of the client that ended in it."""

        def body(i, carry):
            lane, report = carry
            slot = jax.tree.map(lambda column: column[0, i], slots)
            own_key = client_key(round_.key, slot.client)
            local = lax.cond(slot.first, lambda local: self._begin(round_, kept, own_key), lambda local: local, lane.local)
            lane = lane._replace(local=self._step(round_, local, slot, own_key))
            return lax.cond(
                slot.last, lambda lane: self._finish(round_, lane, kept, slot.client, slot.full), lambda lane: (lane, report), lane
            )

        no_report = self._empty(round_, kept)[1]._replace(seconds=()) if self._gives_reports else ()
        lane, report = lax.fori_loop(0, count, body, (lane, no_report))
        return lane, count + 0, report

    def many(self, holes: bool, round_: Round, lanes: Lane, kept: Kept, slots: Slot, count: jax.Array):
        """The same for several lanes.

        Args:
            holes: Whether a lane may have no batch in the middle of a client; its state then stays as it is.
            round_: What clients share.
            lanes: Before the block.
            kept: What a client has that never took part.
            slots: With the leading axes (lanes, rows).
            count: Of rows that are real.
        """
        step = with_narrow_products_apart(functools.partial(self._step, round_))

        def body(row, lanes):
            slot = jax.tree.map(lambda column: lax.dynamic_index_in_dim(column, row, 1, keepdims=False), slots)
            keys = jax.vmap(lambda client: client_key(round_.key, client))(slot.client)

            def begin(local):
                return _where(slot.first, jax.vmap(lambda key: self._begin(round_, kept, key))(keys), local)

            def finish(lanes):
                contribution = functools.partial(self._contribution, round_, kept)
                sums = jax.vmap(lambda local, place: contribution(local, place)[0])(lanes.local, slot.client)
                partial = _where(slot.last, add_sums(lanes.partial, sums), lanes.partial)
                lanes = lanes._replace(partial=partial)
                return lax.cond(slot.full.any(), lambda: self._fold(lanes, slot.full), lambda: lanes)

            local = lax.cond(slot.first.any(), begin, lambda local: local, lanes.local)
            stepped = jax.vmap(step)(local, slot, keys)
            lanes = lanes._replace(local=_where(slot.works, stepped, local) if holes else stepped)
            return lax.cond(slot.last.any(), finish, lambda lanes: lanes, lanes)

        return lax.fori_loop(0, count, body, lanes), count + 0, ()

    def empty_client(self, lanes: int, round_: Round, lane: Lane, kept: Kept, client: jax.Array, full: jax.Array):
        """A client without batches, in the first lane."""
        local = self._begin(round_, kept, client_key(round_.key, client))
        if lanes == 1:
            after, report = self._finish(round_, lane._replace(local=local), kept, client, full)
            return after._replace(local=lane.local), client + 0, report
        sums, _ = self._contribution(round_, kept, local, client)
        one = add_sums(jax.tree.map(lambda leaf: leaf[0], lane.partial), sums)
        partial = jax.tree.map(lambda leaf, new: leaf.at[0].set(new), lane.partial, one)
        first = (jnp.arange(lanes) == 0) & full
        return self._fold(lane._replace(partial=partial), first), client + 0, ()

    def close(self, groups: list[Lane], lanes: int) -> RoundSums:
        """The sums over all lanes."""
        return functools.reduce(add_sums, [add_sums(group.total, _sum(lanes, group.partial)) for group in groups])

    def _empty(self, round_: Round, kept: Kept) -> tuple[RoundSums, ClientReport]:
        return empty_sums(self._algorithm, self._aggregator, round_.message, round_.aggregator_state, round_.key, kept)

    def _begin(self, round_: Round, kept: Kept, key: Key) -> PyTree:
        return self._work.begin(round_.message, kept.algorithm, key)

    def _step(self, round_: Round, local: PyTree, slot: Slot, own_key: Key) -> PyTree:
        steps = [one.step for one in self._work.passes]
        key = step_key(own_key, slot.step)
        if len(steps) == 1:
            return steps[0](round_.message, local, slot.batch, key)
        return lax.switch(slot.number, steps, round_.message, local, slot.batch, key)

    def _contribution(self, round_: Round, kept: Kept, local: PyTree, client: jax.Array) -> tuple[RoundSums, ClientReport]:
        output, key = self._work.finish(round_.message, local), client_key(round_.key, client)
        return contribute(self._aggregator, round_.aggregator_state, output, key, kept, place=client)

    def _finish(self, round_: Round, lane: Lane, kept: Kept, client: jax.Array, full: jax.Array):
        sums, report = self._contribution(round_, kept, lane.local, client)
        partial = add_sums(lane.partial, sums)
        zero = jax.tree.map(jnp.zeros_like, partial)
        total, partial = lax.cond(full, lambda: (add_sums(lane.total, partial), zero), lambda: (lane.total, partial))
        return Lane(lane.local, partial, total), report._replace(seconds=()) if self._gives_reports else ()

    def _fold(self, lanes: Lane, full: jax.Array) -> Lane:
        """Adds complete partial sums to the total."""
        zero = jax.tree.map(jnp.zeros_like, lanes.partial)
        complete, partial = _where(full, lanes.partial, zero), _where(full, zero, lanes.partial)
        return lanes._replace(total=add_sums(lanes.total, _sum(len(full), complete)), partial=partial)


def _sum(lanes: int, sums: RoundSums) -> RoundSums:
    """Over the lanes, in their order."""
    return sums if lanes == 1 else functools.reduce(add_sums, [jax.tree.map(lambda leaf, i=i: leaf[i], sums) for i in range(lanes)])


def _where(lanes: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """By lane, booleans of shape (lanes,)."""
    return jax.tree.map(lambda a, b: jnp.where(lanes.reshape(lanes.shape + (1,) * (a.ndim - 1)), a, b), yes, no)
