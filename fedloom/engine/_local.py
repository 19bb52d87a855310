"""The local executor: a cohort as blocks of batches through one compiled loop.

While a device works on a block, the host reads, prepares and batches the next ones: work is handed over without waiting for it, so a
thread for reading would gain nothing. Memory is a few copies of the weights per lane and a few blocks, whatever the size of the cohort.

Lanes (see `_lanes`) come in groups: the lanes of a group are vectorized on one device, and groups are spread over the devices. Every group
runs the same program, so it does not matter to a single bit how many devices there are.

Where clients are reported one by one, there is one lane, no block holds more than one client, and what a client kept goes in and out with
its blocks.
"""

from __future__ import annotations

import collections
import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from fedloom.core import NOTHING_KEPT, Aggregator, Algorithm, ClientFailure, ClientReport, Kept, stack_contributions

from ._blocks import Block, Buffers, Empty, Slot, blocks
from ._cohort import Client, Cohort
from ._lanes import Lane, LaneWork, Round
from ._number_of_lanes import default_lanes
from ._waiting import Clock, Waited, Watch
from ._works import Kind, Work, works

BLOCKS_IN_FLIGHT = 2
_log = logging.getLogger("fedloom")


class LocalExecutor:
    """Compiled, on this host's devices; see `Executor`.

    Args:
        algorithm: What clients do.
        aggregator: What becomes of their contributions.
        reports: Whether `run` reports every client by itself; then there is one lane, whatever else is asked for.
        lanes: Clients at work at a time in each group, vectorized; None chooses by the size of the model and the kind of device, see
            `default_lanes`. It decides the order in which contributions are added, and so the last bits of the sums.
        groups: Of lanes; None takes one per device. Bits depend on it as on `lanes`.
        devices: Which take the groups in turn; None takes all of the default backend. They change no bit.

    Attributes:
        waited: Of the last `run`, from its beginning to its last block.
        lanes: Of a group; None before the first `run` with batches, if it is chosen there.

    Raises:
        ValueError: `lanes`, `groups` or `devices` is not at least one.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        aggregator: Aggregator,
        *,
        reports: bool = False,
        lanes: int | None = None,
        groups: int | None = None,
        devices: Sequence[Any] | None = None,
    ):
        for name, number in (("lanes", lanes), ("groups", groups), ("devices", devices if devices is None else len(devices))):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}. Leave it out for the default.")
        self._algorithm, self._aggregator, self._gives_reports = algorithm, aggregator, reports
        self._devices, self._groups = devices, 1 if reports else groups
        self.lanes = 1 if reports else lanes
        self.waited = Waited()
        self._buffers = Buffers()
        self._in_flight: collections.deque[_InFlight] = collections.deque()
        work = LaneWork(algorithm, aggregator, reports=reports)
        self._open = jax.jit(work.open, static_argnums=0)
        self._one = jax.jit(work.one, donate_argnums=1)
        self._many = jax.jit(work.many, static_argnums=0, donate_argnums=2)
        self._empty_client = jax.jit(work.empty_client, static_argnums=0, donate_argnums=2)
        self._close = jax.jit(work.close, static_argnums=1)

    def run(self, message, aggregator_state, cohort: Cohort, key, round_number: int, blank: Kept = NOTHING_KEPT):
        """See `Executor.run`."""
        clients = list(cohort)
        while self._in_flight:  # of the round before
            self._in_flight.popleft().wait(self._buffers)
        devices = self._devices or jax.local_devices()
        try:
            waiting = works(clients, self._algorithm.client.passes)
            lanes, waiting = self._choose_lanes(clients, waiting, message, blank, devices[0].platform, round_number)
            devices = devices[: self._groups or len(devices)]
            rounds = self._on_each(devices, Round(message, aggregator_state, key))
            groups = [self._open(lanes, rounds[i % len(devices)], blank) for i in range(self._groups or len(devices))]
            reports = self._run_blocks(clients, waiting, lanes, rounds, groups, blank, round_number)
        except ClientFailure:
            raise
        except (TypeError, ValueError) as error:  # while tracing what clients do before and after their batches
            raise ClientFailure("(any)", round_number, "begin", error) from error
        if len(devices) > 1:
            groups = jax.device_put(groups, devices[0])
        return stack_contributions(self._aggregator, self._close(groups, lanes), reports), reports

    def _choose_lanes(
        self, clients: list[Client], waiting: Iterator[Work], message, blank: Kept, platform: str, round_number: int
    ) -> tuple[int, Iterator[Work]]:
        """The number of lanes, found once, with the first batch; and the clients still to come."""
        if self.lanes is not None:
            return self.lanes, waiting
        seen = []
        for work in waiting:
            seen.append(work)
            if work.ready:
                try:
                    self.lanes = default_lanes(self._algorithm, message, blank, work.kind.batch(), platform)
                except Exception as error:  # while tracing the user's model
                    raise ClientFailure(clients[work.index].name, round_number, "step 0", error) from error
                _log.info("%s: %d lanes on each device (%s)", self._algorithm.name, self.lanes, platform)
                break
        return self.lanes or 1, itertools.chain(seen, waiting)

    def _on_each(self, devices: Sequence[Any], round_: Round) -> list[Round]:
        if len(devices) == 1 and self._devices is None:
            return [round_]
        return [jax.device_put(round_, device) for device in devices]

    def _run_blocks(
        self,
        clients: list[Client],
        waiting: Iterator[Work],
        lanes: int,
        rounds: list[Round],
        groups: list[Lane],
        blank: Kept,
        round_number: int,
    ) -> list[ClientReport]:
        """Puts the lanes after the last client into `groups`; returns the reports."""
        at_work, kept, reports = -1, blank, []
        clock, watch = Clock(), Watch()
        stream = blocks(waiting, self._buffers, groups=len(groups), lanes=lanes, one_client_each=self._gives_reports)
        for block, kind in watch.waits_for(stream):
            if self._gives_reports and block.client != at_work:
                at_work, kept = block.client, clients[block.client].kept()
            try:
                tokens, report = self._hand_over(block, lanes, rounds, groups, kept)
            except jax.errors.JaxRuntimeError:  # of the device: out of memory, say
                raise
            except Exception as error:  # while tracing the user's model: nothing else runs in Python here
                raise _failure_in(block, clients, round_number, error) from error
            watch.running = tokens
            ends = self._gives_reports and (isinstance(block, Empty) or block.ends)
            if ends:
                reports.append(report)
            slots = None if isinstance(block, Empty) else block.slots
            self._in_flight.append(_InFlight(tokens, kind, slots, clock if ends else None))
            if len(self._in_flight) > BLOCKS_IN_FLIGHT:
                self._in_flight.popleft().wait(self._buffers)
        self.waited = watch.waited
        if self._gives_reports:
            while self._in_flight:
                self._in_flight.popleft().wait(self._buffers)
        return [report._replace(seconds=seconds) for report, seconds in zip(reports, clock.seconds, strict=False)]

    def _hand_over(self, block: Block | Empty, lanes: int, rounds: list[Round], groups: list[Lane], kept: Kept) -> tuple[list[Any], Any]:
        """Hands a block to the devices; returns what is ready when they are done, and a report."""
        if isinstance(block, Empty):
            groups[0], token, report = self._empty_client(lanes, rounds[0], groups[0], kept, block.client, block.full)
            return [token], report
        tokens, report = [], ()
        for i in range(len(groups)):
            if block.busy[i]:
                own = rounds[i % len(rounds)], groups[i], kept, jax.tree.map(lambda column, i=i: column[i], block.slots), block.count
                groups[i], token, report = self._one(*own) if lanes == 1 else self._many(block.holes, *own)
                tokens.append(token)
        return tokens, report


def _failure_in(block: Block | Empty, clients: list[Client], round_number: int, error: Exception) -> ClientFailure:
    """Names the first batch of a block that could not be compiled."""
    if isinstance(block, Empty):
        return ClientFailure(clients[block.client].name, round_number, "begin", error)
    client, step = (int(column[block.slots.works][0]) for column in (block.slots.client, block.slots.step))
    return ClientFailure(clients[client].name, round_number, f"step {step}", error)


class _InFlight:
    """A block that the devices have not done yet, as far as is known."""

    def __init__(self, tokens: list[Any], kind: Kind | None, slots: Slot | None, clock: Clock | None):
        self._tokens, self._kind, self._slots, self._clock = tokens, kind, slots, clock

    def wait(self, buffers: Buffers) -> None:
        """Until it is done; then its arrays can be used again."""
        for token in self._tokens:
            token.block_until_ready()
        if self._slots is not None and self._kind is not None:
            buffers.release(self._kind, self._slots)
        if self._clock is not None:
            self._clock.client_ends()
