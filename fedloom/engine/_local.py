"""The local executor: a cohort as one stream of batches through one compiled loop.

The stream is cut into blocks of a fixed number of batches. Clients begin and end anywhere in a block, marked by flags, which are data: a
new cohort never compiles anew. While the device works on a block, the host reads and batches the next one. Memory is a few copies of the
weights and a few blocks, whatever the size of the cohort.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedloom.core import (
    CLIENTS_PER_PARTIAL_SUM,
    Aggregator,
    Algorithm,
    Array,
    Batch,
    ClientFailure,
    PyTree,
    RoundSums,
    add_sums,
    client_key,
    contribute,
    empty_sums,
    step_key,
)

from ._cohort import Cohort

MAX_BATCHES_PER_BLOCK = 16
MAX_BYTES_PER_BLOCK = 64 * 2**20
BLOCKS_IN_FLIGHT = 2


class _Lane(NamedTuple):
    """What goes from batch to batch."""

    local: PyTree  # of the client at work
    partial: RoundSums  # over the clients of the current partial sum
    total: RoundSums


class _Slot(NamedTuple):
    """A batch and its place in the stream; in a block, each field has a leading axis."""

    batch: Batch
    client: Array  # index in the cohort
    step: Array  # of that client, from 0
    first: Array  # whether the client begins here
    last: Array  # whether it ends here


class LocalExecutor:
    """Compiled, on this host's default device; see `Executor`."""

    def __init__(self, algorithm: Algorithm, aggregator: Aggregator):
        self._algorithm, self._aggregator = algorithm, aggregator
        self._open = jax.jit(self._open)
        self._run_block = jax.jit(self._run_block, donate_argnums=2)
        self._run_empty_client = jax.jit(self._run_empty_client, donate_argnums=2)

    def run(self, message, aggregator_state, cohort: Cohort, key, round_number: int) -> RoundSums:
        """See `Executor.run`."""
        lane = self._open(message, aggregator_state, key)
        in_flight = collections.deque()
        try:
            for block in _blocks(cohort):
                if isinstance(block, int):
                    lane = self._run_empty_client(message, aggregator_state, lane, key, block)
                    continue
                lane, token = self._run_block(message, aggregator_state, lane, key, *block)
                in_flight.append(token)
                if len(in_flight) > BLOCKS_IN_FLIGHT:
                    in_flight.popleft().block_until_ready()
        except ClientFailure:
            raise
        except (TypeError, ValueError) as error:  # while tracing the user's model, which all clients share
            raise ClientFailure("(any)", round_number, "step", error) from error
        return add_sums(lane.total, lane.partial)

    def _open(self, message, aggregator_state, key):
        zero = empty_sums(self._algorithm, self._aggregator, message, aggregator_state, key)
        return _Lane(self._algorithm.client.begin(message, client_key(key, 0)), zero, jax.tree.map(jnp.copy, zero))

    def _run_block(self, message, aggregator_state, lane, key, slots: _Slot, count):
        work = self._algorithm.client

        def body(i, lane):
            slot = jax.tree.map(lambda column: column[i], slots)
            own_key = client_key(key, slot.client)
            local = lax.cond(slot.first, lambda local: work.begin(message, own_key), lambda local: local, lane.local)
            local = work.step(message, local, slot.batch, step_key(own_key, slot.step))
            lane = lane._replace(local=local)
            return lax.cond(
                slot.last, lambda lane: self._finish(message, aggregator_state, lane, key, slot.client), lambda lane: lane, lane
            )

        return lax.fori_loop(0, count, body, lane), count + 0  # a token: ready when the block is

    def _run_empty_client(self, message, aggregator_state, lane, key, client):
        lane = lane._replace(local=self._algorithm.client.begin(message, client_key(key, client)))
        return self._finish(message, aggregator_state, lane, key, client)

    def _finish(self, message, aggregator_state, lane, key, client):
        output = self._algorithm.client.finish(message, lane.local)
        partial = add_sums(lane.partial, contribute(self._aggregator, aggregator_state, output, client_key(key, client)))
        full = (client + 1) % CLIENTS_PER_PARTIAL_SUM == 0
        zero = jax.tree.map(jnp.zeros_like, partial)
        total, partial = lax.cond(full, lambda: (add_sums(lane.total, partial), zero), lambda: (lane.total, partial))
        return _Lane(lane.local, partial, total)


def _blocks(cohort: Cohort) -> Iterator[tuple[_Slot, int] | int]:
    """Blocks of equally shaped slots with how many of them are filled; for a client without batches, its index."""
    waiting: list[_Slot] = []
    for slot in _slots(cohort):
        if isinstance(slot, int) or (waiting and (_shapes(slot) != _shapes(waiting[0]) or len(waiting) == _capacity(slot))):
            if waiting:
                yield _stack(waiting), len(waiting)
            waiting = []
        if isinstance(slot, int):
            yield slot
        else:
            waiting.append(slot)
    if waiting:
        yield _stack(waiting), len(waiting)


def _slots(cohort: Cohort) -> Iterator[_Slot | int]:
    for index, client in enumerate(cohort):
        step, previous = 0, None
        for batch in client.batches():
            if previous is not None:
                yield _slot(previous, index, step, last=False)
                step += 1
            previous = batch
        yield index if previous is None else _slot(previous, index, step, last=True)


def _slot(batch: Batch, client: int, step: int, last: bool) -> _Slot:
    return _Slot(batch, np.int32(client), np.int32(step), np.bool_(step == 0), np.bool_(last))


def _shapes(slot: _Slot) -> list:
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(slot.batch)]


def _capacity(slot: _Slot) -> int:
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(slot.batch))
    return max(1, min(MAX_BATCHES_PER_BLOCK, MAX_BYTES_PER_BLOCK // max(1, size)))


def _stack(slots: list[_Slot]) -> _Slot:
    """One block, padded to its full capacity with slots that are never run."""
    padded = slots + [slots[-1]] * (_capacity(slots[0]) - len(slots))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
