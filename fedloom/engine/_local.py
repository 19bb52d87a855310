"""The local executor: a cohort as one stream of batches through one compiled loop.

The stream is cut into blocks of a fixed number of batches. Clients begin and end anywhere in a block, marked by flags, which are data: a
new cohort never compiles anew. While the device works on a block, the host reads, prepares and batches the next ones: work is handed over
without waiting for it, so a thread for reading would gain nothing. Memory is a few copies of the weights and a few blocks, whatever the
size of the cohort.

Where clients are reported one by one, no block holds more than one client, and what a client kept goes in and out with its blocks.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedloom.core import (
    CLIENTS_PER_PARTIAL_SUM,
    NOTHING_KEPT,
    Aggregator,
    Algorithm,
    Array,
    Batch,
    ClientFailure,
    ClientReport,
    Kept,
    Pass,
    PyTree,
    RoundSums,
    add_sums,
    client_key,
    contribute,
    empty_sums,
    stack_contributions,
    step_key,
)

from ._cohort import Client, Cohort

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
    number: Array  # of the pass over its batches
    first: Array  # whether the client begins here
    last: Array  # whether it ends here


class _Block(NamedTuple):
    slots: _Slot  # with a leading axis, filled up to the capacity
    count: int  # of slots that are real
    client: int  # index of the last client in it
    ends: bool  # whether that client ends in it


class _Empty(NamedTuple):
    client: int  # index of a client without batches


class Waited(NamedTuple):
    """Seconds in which the device had nothing to do because the next block was not there, as far as can be seen without disturbing it."""

    at_least: float = 0.0  # waits that began with the device idle
    at_most: float = 0.0  # and those in which it became so


class LocalExecutor:
    """Compiled, on this host's default device; see `Executor`.

    Args:
        algorithm: What clients do.
        aggregator: What becomes of their contributions.
        reports: Whether `run` reports every client by itself.

    Attributes:
        waited: Of the last `run`, from its beginning to its last block.
    """

    def __init__(self, algorithm: Algorithm, aggregator: Aggregator, *, reports: bool = False):
        self._algorithm, self._aggregator, self._gives_reports = algorithm, aggregator, reports
        self.waited = Waited()
        self._open = jax.jit(self._open)
        self._run_block = jax.jit(self._run_block, donate_argnums=2)
        self._run_empty_client = jax.jit(self._run_empty_client, donate_argnums=2)

    def run(self, message, aggregator_state, cohort: Cohort, key, round_number: int, blank: Kept = NOTHING_KEPT):
        """See `Executor.run`."""
        clients = list(cohort)
        lane = self._open(message, aggregator_state, key, blank)
        at_work, kept = -1, blank
        in_flight, reports = collections.deque(), []
        clock, watch = _Clock(), _Watch()
        blocks = _blocks(clients, self._algorithm.client.passes, one_client_each=self._gives_reports)
        try:
            for block in watch.waits_for(blocks):
                if self._gives_reports and block.client != at_work:
                    at_work, kept = block.client, clients[block.client].kept()
                if isinstance(block, _Empty):
                    lane, token, report = self._run_empty_client(message, aggregator_state, lane, key, kept, block.client)
                else:
                    lane, token, report = self._run_block(message, aggregator_state, lane, key, kept, block.slots, block.count)
                watch.running = token
                if self._gives_reports and (isinstance(block, _Empty) or block.ends):
                    reports.append(report)
                    in_flight.append((token, block.client))
                else:
                    in_flight.append((token, None))
                if len(in_flight) > BLOCKS_IN_FLIGHT:
                    clock.wait(*in_flight.popleft())
        except ClientFailure:
            raise
        except (TypeError, ValueError) as error:  # while tracing the user's model, which all clients share
            raise ClientFailure("(any)", round_number, "step", error) from error
        self.waited = watch.waited
        if self._gives_reports:
            for waiting in in_flight:
                clock.wait(*waiting)
            reports = [report._replace(seconds=clock.seconds[i]) for i, report in enumerate(reports)]
        return stack_contributions(self._aggregator, add_sums(lane.total, lane.partial), reports), reports

    def _open(self, message, aggregator_state, key, kept):
        zero, _ = empty_sums(self._algorithm, self._aggregator, message, aggregator_state, key, kept)
        begun = self._algorithm.client.begin(message, kept.algorithm, client_key(key, 0))
        return _Lane(begun, zero, jax.tree.map(jnp.copy, zero))

    def _run_block(self, message, aggregator_state, lane, key, kept, slots: _Slot, count):
        work = self._algorithm.client
        steps = [one.step for one in work.passes]

        def body(i, carry):
            lane, report = carry
            slot = jax.tree.map(lambda column: column[i], slots)
            own_key = client_key(key, slot.client)
            local = lax.cond(slot.first, lambda local: work.begin(message, kept.algorithm, own_key), lambda local: local, lane.local)
            if len(steps) == 1:
                local = steps[0](message, local, slot.batch, step_key(own_key, slot.step))
            else:
                local = lax.switch(slot.number, steps, message, local, slot.batch, step_key(own_key, slot.step))
            lane = lane._replace(local=local)
            return lax.cond(
                slot.last,
                lambda lane: self._finish(message, aggregator_state, lane, key, kept, slot.client),
                lambda lane: (lane, report),
                lane,
            )

        lane, report = lax.fori_loop(0, count, body, (lane, self._no_report(message, aggregator_state, key, kept)))
        return lane, count + 0, report  # count: a token, ready when the block is

    def _run_empty_client(self, message, aggregator_state, lane, key, kept, client):
        lane = lane._replace(local=self._algorithm.client.begin(message, kept.algorithm, client_key(key, client)))
        lane, report = self._finish(message, aggregator_state, lane, key, kept, client)
        return lane, client + 0, report

    def _finish(self, message, aggregator_state, lane, key, kept, client):
        output = self._algorithm.client.finish(message, lane.local)
        sums, report = contribute(self._aggregator, aggregator_state, output, client_key(key, client), kept)
        partial = add_sums(lane.partial, sums)
        full = (client + 1) % CLIENTS_PER_PARTIAL_SUM == 0
        zero = jax.tree.map(jnp.zeros_like, partial)
        total, partial = lax.cond(full, lambda: (add_sums(lane.total, partial), zero), lambda: (lane.total, partial))
        return _Lane(lane.local, partial, total), report._replace(seconds=()) if self._gives_reports else ()

    def _no_report(self, message, aggregator_state, key, kept) -> ClientReport | tuple[()]:
        if not self._gives_reports:
            return ()
        return empty_sums(self._algorithm, self._aggregator, message, aggregator_state, key, kept)[1]._replace(seconds=())


class _Clock:
    """Seconds from the end of one client's work to the end of the next one's."""

    def __init__(self):
        self.seconds: list[float] = []
        self._last = time.perf_counter()

    def wait(self, token, client: int | None) -> None:
        """Waits for a block; `client` is the one that ends in it."""
        token.block_until_ready()
        if client is not None:
            now = time.perf_counter()
            self.seconds.append(now - self._last)
            self._last = now


class _Watch:
    """Measures `Waited`: looks at the device when a wait for a block begins and when it ends."""

    def __init__(self):
        self.waited = Waited()
        self.running: Any = None  # ready when the last block handed to the device is done

    def waits_for(self, blocks: Iterator[_Block | _Empty]) -> Iterator[_Block | _Empty]:
        """The blocks, with the time spent in waiting for each of them."""
        while True:
            begin, idle = time.perf_counter(), self._is_idle()
            if (block := next(blocks, None)) is None:
                return
            seconds = time.perf_counter() - begin
            at_least, at_most = self.waited
            self.waited = Waited(at_least + seconds * idle, at_most + seconds * (idle or self._is_idle()))
            yield block

    def _is_idle(self) -> bool:
        return self.running is None or self.running.is_ready()


def _blocks(cohort: list[Client], passes: tuple[Pass, ...], *, one_client_each: bool) -> Iterator[_Block | _Empty]:
    """Blocks of equally shaped slots, and clients without batches, in the order of the cohort."""
    waiting: list[_Slot] = []

    def block() -> _Block:
        return _Block(_stack(waiting), len(waiting), int(waiting[-1].client), bool(waiting[-1].last))

    for slot in _slots(cohort, passes):
        if waiting and (
            isinstance(slot, _Empty)
            or _shapes(slot) != _shapes(waiting[0])
            or len(waiting) == _capacity(slot)
            or (one_client_each and waiting[-1].last)
        ):
            yield block()
            waiting = []
        if isinstance(slot, _Empty):
            yield slot
        else:
            waiting.append(slot)
    if waiting:
        yield block()


def _slots(cohort: list[Client], passes: tuple[Pass, ...]) -> Iterator[_Slot | _Empty]:
    for index, client in enumerate(cohort):
        step, previous = 0, None
        for number, one in enumerate(passes):
            for batch in one.batches(client.batches):
                if previous is not None:
                    yield _slot(*previous, index, step, last=False)
                    step += 1
                previous = batch, number
        yield _Empty(index) if previous is None else _slot(*previous, index, step, last=True)


def _slot(batch: Batch, number: int, client: int, step: int, last: bool) -> _Slot:
    return _Slot(batch, np.int32(client), np.int32(step), np.int32(number), np.bool_(step == 0), np.bool_(last))


def _shapes(slot: _Slot) -> list:
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(slot.batch)]


def _capacity(slot: _Slot) -> int:
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(slot.batch))
    return max(1, min(MAX_BATCHES_PER_BLOCK, MAX_BYTES_PER_BLOCK // max(1, size)))


def _stack(slots: list[_Slot]) -> _Slot:
    """One block, padded to its full capacity with slots that are never run."""
    padded = slots + [slots[-1]] * (_capacity(slots[0]) - len(slots))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
