"""What a run leaves in its folder, when, and in which order.

A checkpoint has all that decides what files say, and a resumed run writes again what is due after it; so whatever a kill leaves half done
is done again, to the same bytes. Tables and pages, which are written whole, are at times some rounds behind.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import jax

from fedloom.core import CheckpointMismatch
from fedloom.report import Row, RunFolder, plain, plot_curve, write_report

from ._checkpoint import CheckpointFolder
from ._environment import environment
from ._job import Job
from ._run_state import RunState

_MOST_HELD_OUT = 10_000  # held-out clients up to which each is looked at by itself
_SHARE = 0.05  # of the time that may go into pictures and pages, and again into tables, which are written whole


class Outputs:
    """The writing half of a run.

    Args:
        job: What the run does.
        folder: Its folder, open.
    """

    def __init__(self, job: Job, folder: RunFolder):
        self._job, self._folder = job, folder
        self.path = folder.path
        self.checkpoints = CheckpointFolder(folder.path / "checkpoints", job.process, job.checkpoints)
        self.environment = plain(environment())
        self._held_out: list[Row] = []  # each client with the model at the start
        self._written = -1  # the last round whose files, but for pictures and pages, are all there
        self._pages, self._tables = _Sparing(_SHARE), _Sparing(_SHARE)

    def start(self, run: RunState) -> None:
        """Writes the settings."""
        weights = jax.tree.leaves(self._job.process.get_weights(run.process))
        size = {"parameters": sum(w.size for w in weights), "model_bytes": sum(w.nbytes for w in weights)}
        self._folder.write_config({**self._job.settings, "rounds": self._job.rounds, **size, "environment": self.environment})
        self.tell_status(run, "running")

    def go_on(self, run: RunState) -> None:
        """Forgets what was written of rounds that will be done again."""
        self._folder.forget_after(run.round)
        rows = self._folder.read_held_out_clients()
        self._held_out = [{name: value for name, value in row.items() if not name.endswith("_after")} for row in rows]

    def check_nothing_done(self) -> None:
        """Raises CheckpointMismatch if rounds were written down, although there is no checkpoint."""
        if done := self._folder.rounds_written():
            raise CheckpointMismatch(
                f"The run in {str(self.path)!r} has {done} rounds in metrics.csv, but no checkpoint to go on from. Restore the folder "
                "`checkpoints`, or start a new run."
            )

    def add_clients(self, rows: list[Row]) -> None:
        """Further lines of the table of clients."""
        if rows:
            self._folder.add_clients(rows)

    def warn(self, run: RunState) -> None:
        """Writes all warnings."""
        self._folder.write_warnings(run.warnings)

    def end_round(self, run: RunState, *, evaluated: bool, new_best: bool) -> None:
        """Writes what is due after the last row of the history."""
        r, job = run.round, self._job
        if r == 0 and evaluated:
            self._held_out = self._each_held_out(run, "before")
            if self._held_out:
                self._folder.write_held_out_clients(self._held_out)
        if new_best:
            (self.path / "best").mkdir(exist_ok=True)
            job.process.model.save(job.process.get_weights(run.process), self.path / "best")
        self._written = r
        if evaluated and self._pages.is_due():
            with self._pages:
                self.draw(run, "running")
        elif self._tables.is_due():
            with self._tables:
                self._folder.write_metrics(run.history)
        if r in (0, job.rounds) or (new_best and self._keeps_best) or self.checkpoints.is_due(r):
            self._save(run)

    def finish(self, run: RunState, status: str, reason: str = "") -> None:
        """Writes what is due at the end."""
        self.save(run)
        if self._held_out:
            after = {row["client"]: row for row in self._each_held_out(run, "after")}
            self._folder.write_held_out_clients([{**row, **after.get(row["client"], {})} for row in self._held_out])
        self.draw(run, status, reason)

    def save(self, run: RunState) -> None:
        """Writes a checkpoint, if there is none of the last round."""
        if self.checkpoints.newest_round < run.round:
            self._save(run)

    def fail(self, run: RunState, error: BaseException) -> None:
        """After an error: saves the rounds that are done; where this fails too, the checkpoint before is there still."""
        with contextlib.suppress(OSError, ValueError):
            self.tell_status(run, "failed", f"{type(error).__name__}: {error}")
            self._folder.write_metrics(run.history)
            if self.checkpoints.newest_round < self._written == run.round == run.process.round_number:
                self._save(run)
            self.draw(run, "failed", f"{type(error).__name__}: {error}")

    def draw(self, run: RunState, status: str, reason: str = "") -> None:
        """The model, the tables, the picture and the page, as things are now."""
        job = self._job
        self._folder.write_metrics(run.history)
        job.process.model.save(job.process.get_weights(run.process), self.path)
        plot_curve(run.history, self.path / "curve.png", title=f"{job.cohort_size} of {len(job.dataset)} clients per round")
        self.tell_status(run, status, reason)
        try:
            write_report(self.path)
        except ValueError as error:  # somebody's hand in the folder is no reason to end the run
            if not any(str(error) in warning["text"] for warning in run.warnings):
                run.warnings.append({"round": run.round, "text": f"The report could not be written: {error}"})
                self.warn(run)

    def tell_status(self, run: RunState, status: str, reason: str = "") -> None:
        """How far the run is, or how it ended."""
        best = None
        if run.standing:
            best = {"metric": run.standing.metric, "value": run.standing.best, "round": run.standing.best_round}
        self._folder.write_status({"status": status, "round": run.round, "rounds": self._job.rounds, "reason": reason, "best": best})

    def _save(self, run: RunState) -> None:
        notes: Mapping[str, Any] = {"settings": self._job.settings, "environment": self.environment, "run": run.notes()}
        self.checkpoints.save(run.process, notes, run.best_round if self._keeps_best else None)

    @property
    def _keeps_best(self) -> bool:
        return self._job.checkpoints.keep_best or self._job.guard.action == "rollback"  # which needs it

    def _each_held_out(self, run: RunState, when: str) -> list[Row]:
        """Each held-out client by itself, if there are several and not too many."""
        clients = self._job.evaluate
        if not hasattr(clients, "keys") or not 1 < len(clients) <= _MOST_HELD_OUT:
            return []
        rows = []
        for found in self._job.process.evaluate_clients(run.process, clients):
            metrics = {name: value for name, value in flat(found).items() if name != "client" and not name.startswith("num_")}
            own = {"client": found["client"], "num_examples": found["num_examples"]}
            rows.append(own | {f"{name}_{when}": value for name, value in metrics.items()})
        return rows


class _Sparing:
    """For what is nice to have at all times, and may take a share of the time only."""

    def __init__(self, share: float):
        self._share, self._took, self._ended = share, 0.0, time.monotonic()

    def is_due(self) -> bool:
        return (time.monotonic() - self._ended) * self._share >= self._took

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: Any) -> None:
        self._ended = time.monotonic()
        self._took = self._ended - self._began


def flat(metrics: Mapping[str, Any], prefix: str = "") -> Row:
    """Nested metrics as one row: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    row: Row = {}
    for name, value in metrics.items():
        row |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return row
