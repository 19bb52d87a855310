"""Runs the systems on a case: each in a process of its own, round by round in turn, so that what else the machine does hits all of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._models import MODELS
from ._systems import DEBUG, MACHINE, System
from ._tasks import Case
from ._worker import Starter, Worker, WorkerFailed
from ._workload import Workload


@dataclass
class Row:
    """What was measured of a system."""

    system: str
    exact: bool  # whether its losses must be those of the debug executor
    peer: bool
    first_cold: float | None = None  # seconds from process start to the end of the first round, with empty caches of compiled programs
    first: float | None = None  # the same when they are full
    seconds: list[float] = field(default_factory=list)  # of each later round
    losses: list[float] = field(default_factory=list)  # of each round: mean over what clients trained on, as they did
    waited: list[list[float]] = field(default_factory=list)  # of each later round: seconds the device waited for data, from below and above
    compiled: list[int] = field(default_factory=list)  # programs, in each later round
    peak_mb: float = 0.0
    private_mb: float = 0.0  # of which no file's
    error: str = ""  # why there is no more


@dataclass
class Result:
    """What was measured of a case."""

    case: Case
    rows: list[Row]
    gflop: list[float]  # of each round: floating-point operations of all clients, in 10^9
    machine: dict[str, list[float]]  # GFLOP/s of a large matrix product, by type, at each turn
    debug_losses: list[float]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return dataclasses.asdict(self)


def run_case(case: Case, workload: Workload, systems: Sequence[System], *, envs: Path, cold: bool, tell: Callable[[str], None]) -> Result:
    """Measures systems on a case.

    Args:
        case: What to measure.
        workload: Of the case, with its first round and the later ones.
        systems: Who takes part.
        envs: The folder of the peers' environments.
        cold: Whether each system is also started once before, with empty caches, for its first round alone; else all that is known of its
            first round is with empty caches.
        tell: Is told what goes on.
    """
    rounds = len(workload.rows)
    systems = [system for system in systems if not system.models or case.model in system.models]
    rows = {system.name: Row(system.name, system.exact, bool(system.peer)) for system in systems}
    start = Starter(workload.folder, envs)
    if cold:
        for system in systems:
            _attempt(rows[system.name], tell, lambda row, system=system: _first(row, start(system), "first_cold").stop())
    machine, workers = start(MACHINE), {}
    which = "first" if cold else "first_cold"  # caches were filled, or are still empty
    rates: dict[str, list[float]] = {}
    try:
        _add_rates(rates, machine)
        for system in systems:
            _attempt(rows[system.name], tell, lambda row, system=system: workers.update({row.system: _first(row, start(system), which)}))
        for number in range(1, rounds):
            order = list(workers)
            for name in order[number % len(order) :] + order[: number % len(order)] if order else []:
                if not rows[name].error:
                    _attempt(rows[name], tell, lambda row, name=name: _later(row, workers[name]))
            _add_rates(rates, machine)
            tell(f"  round {number}: " + ", ".join(f"{row.system} {row.seconds[-1]:.3g} s" for row in rows.values() if not row.error))
    finally:
        for worker in [machine, *workers.values()]:
            worker.stop()
    debug = Row(DEBUG.name, True, False)
    if case.debug_rounds:
        _attempt(debug, tell, lambda row: _losses(row, start(DEBUG), min(case.debug_rounds, rounds)))
    flops = MODELS[case.model].training_flops
    return Result(case, list(rows.values()), [count * flops / 1e9 for count in workload.rows], rates, debug.losses)


def _attempt(row: Row, tell: Callable[[str], None], do: Callable[[Row], Any]) -> None:
    """Does something unless the system has failed already; a failure is that system's alone."""
    if row.error:
        return
    try:
        do(row)
    except WorkerFailed as error:
        row.error = str(error)
        tell(f"  {row.system} failed: {row.error}")


def _first(row: Row, worker: Worker, which: str) -> Worker:
    answer = worker.turn()
    setattr(row, which, time.perf_counter() - worker.started)
    row.losses = [answer["loss"]]
    row.peak_mb, row.private_mb = worker.memory.resident_mb, worker.memory.private_mb
    return worker


def _later(row: Row, worker: Worker) -> None:
    answer = worker.turn()
    row.seconds.append(answer["seconds"])
    row.losses.append(answer["loss"])
    if answer.get("waited"):
        row.waited.append(answer["waited"])
    if "compiled" in answer:
        row.compiled.append(answer["compiled"])
    row.peak_mb, row.private_mb = worker.memory.resident_mb, worker.memory.private_mb


def _losses(row: Row, worker: Worker, rounds: int) -> None:
    try:
        for _ in range(rounds):
            row.losses.append(worker.turn()["loss"])
    finally:
        worker.stop()


def _add_rates(rates: dict[str, list[float]], machine: Worker) -> None:
    for name, rate in machine.turn()["gflops"].items():
        rates.setdefault(name, []).append(rate)
