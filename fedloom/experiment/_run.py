"""A run: round after round, evaluated, judged and written down as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from fedloom.core import CheckpointMismatch, RunInterrupted
from fedloom.report import Callback, Row, RunInfo
from fedloom.report.trackers import guarded

from ._cohorts import draw
from ._failures import told, too_few_reports
from ._guard import Standing, complaint, measure, verdict
from ._job import Job, check_environment, check_settings
from ._outputs import Outputs, flat
from ._process import ProcessState, RoundOutcome
from ._round_metrics import failure_rows
from ._run_state import RunState


class Run:
    """One call of `train`.

    Args:
        job: What to do.
        start: The state before the first round; None where a run is to be gone on with.
        outputs: What writes; None writes nothing.
        callbacks: Are told.
        interrupted: Gives the name of the signal that asked the run to stop, if there was one.
        anywhere: Whether to go on with other versions or hardware too.
    """

    def __init__(
        self,
        job: Job,
        start: ProcessState | None,
        outputs: Outputs | None,
        callbacks: Sequence[Callback],
        interrupted: Callable[[], str | None],
        *,
        anywhere: bool,
    ):
        self._job, self._outputs, self._interrupted = job, outputs, interrupted
        self._callbacks = [guarded(callback, self._warn) for callback in callbacks]
        self.clients: list[Row] = []  # as in clients.csv, of this call
        self._early_warnings: list[str] = []
        resumed = self._resume(outputs, anywhere) if start is None and outputs else None
        self.state = resumed or RunState(start or job.initialize())  # the latter if nothing was done before the kill
        if outputs and resumed:
            outputs.go_on(resumed)

    def go(self) -> Literal["finished", "stopped"]:
        """Runs to the end, or to where it is stopped."""
        status, started = "failed", []
        try:
            for callback in self._callbacks:
                callback.on_start(self._info())
                started.append(callback)
            if self._outputs:
                self._outputs.start(self.state)
            for text in self._early_warnings + self._short_budget():
                self._warn(text)
            if not self.state.history:
                self._end_round({"round": 0})
            status = self._rounds()
            return status
        except RunInterrupted:
            status = "interrupted"
            raise
        except BaseException as error:
            if self._outputs:
                self._outputs.fail(self.state, error)
            raise
        finally:
            for callback in started:
                callback.on_end(status)

    def _short_budget(self) -> list[str]:
        """A warning, if the budget does not suffice for all rounds; the round that would exceed it is refused in any case."""
        process, state = self._job.process, self.state
        if not process.privacy:
            return []
        fitting = state.round + process.privacy.rounds(process.noise_multiplier(state.process), spent=state.process.ledger)
        if fitting >= self._job.rounds:
            return []
        return [
            f"The privacy budget allows {fitting} rounds with this noise, fewer than the {self._job.rounds} planned; the next is refused."
        ]

    def _info(self) -> RunInfo:
        job = self._job
        return RunInfo(
            rounds=job.rounds,
            config={**job.settings, "rounds": job.rounds},
            run_dir=self._outputs.path if self._outputs else None,
            history=list(self.state.history),
            best_by=(job.best_by or "").rpartition(":")[2] or "accuracy",
        )

    def _resume(self, outputs: Outputs, anywhere: bool) -> RunState | None:
        """What the newest whole checkpoint says; None if there never was one, and no round was done."""

        def check(notes: Mapping[str, Any]) -> None:
            check_settings(notes["settings"], self._job.settings)
            if not anywhere:
                check_environment(notes["environment"], outputs.environment)

        loaded = outputs.checkpoints.newest(self._early_warnings.append, check)
        if loaded is None:
            outputs.check_nothing_done()
            return None
        state = RunState.from_notes(loaded.state, loaded.notes["run"])
        if state.round > self._job.rounds:
            raise ValueError(
                f"rounds must be at least {state.round}, which the run in {str(outputs.path)!r} has done, got {self._job.rounds}. Give as "
                "many as it should have in all."
            )
        if self._rolls_back and state.standing:
            best = outputs.checkpoints.of_round(state.standing.best_round)
            if best is None:
                raise CheckpointMismatch(
                    f"The guard rolls back to the best round, {state.standing.best_round}, whose checkpoint is missing or damaged in "
                    f"{str(outputs.path / 'checkpoints')!r}. Restore it, or start a new run."
                )
            state.best_server = best.state.server
        return state

    @property
    def _rolls_back(self) -> bool:
        return self._job.guard.action == "rollback"

    def _rounds(self) -> Literal["finished", "stopped"]:
        state, job = self.state, self._job
        while state.round < job.rounds and not self._stopped_by_guard():
            if signal := self._interrupted():
                self._stop_for(signal)
            row, outcome = self._round(state.round + 1)
            state.process = outcome.state
            self._add_clients(row, outcome)
            self._end_round(row)
        stopped = self._stopped_by_guard()
        if self._outputs:
            self._outputs.finish(state, *(("stopped", "the model was worse than at the start") if stopped else ("finished",)))
        return "stopped" if stopped else "finished"

    def _round(self, r: int) -> tuple[Row, RoundOutcome]:
        """The first attempt that counts."""
        job, policy, state = self._job, self._job.failures, self.state
        needed = policy.needed(job.cohort_size)
        for attempt in range(1, policy.max_attempts + 1):
            began = time.perf_counter()
            cohort = draw(job.sample, state.draws)
            state.draws += 1
            outcome = job.process.run_round(
                state.process,
                job.dataset.subset(cohort.ids),
                leave_out_failing=policy.leave_out,
                at_most=job.cohort_size if policy.over_selection > 1 else None,
                timeout=policy.timeout,
            )
            if not outcome.failures or outcome.num_reports >= needed or not policy.leave_out:
                return self._row(r, attempt, outcome, cohort.metrics, time.perf_counter() - began), outcome
            self._warn(
                f"The round did not count, for of {len(cohort.ids)} clients {outcome.num_reports} reported, and {needed} must: "
                f"{told(outcome.failures)}. It is tried with a new cohort.",
                r,
            )
        raise too_few_reports(r - 1, policy.max_attempts, outcome.num_reports, needed, outcome.failures)

    def _row(self, r: int, attempt: int, outcome: RoundOutcome, devices: Mapping[str, float], seconds: float) -> Row:
        row = {"round": r, **flat({name: value for name, value in outcome.metrics.items() if name != "clients"})}
        if attempt > 1:
            row["attempts"] = attempt
        if not self._job.process.privacy:
            row |= devices
        clocks = {f"{name}_seconds": value for name, value in outcome.clocks._asdict().items()}
        return {**row, "seconds": seconds, **clocks, "clients_per_second": outcome.num_reports / max(seconds, 1e-9)}

    def _add_clients(self, row: Row, outcome: RoundOutcome) -> None:
        """Every client of the round, if the process reports them; else those that were left out, but under privacy nobody."""
        failures = [] if self._job.process.privacy else outcome.failures
        reported = outcome.metrics.get("clients")
        rows = failure_rows(row["round"] - 1, failures) if reported is None else [flat(client) for client in reported]
        self.clients += rows
        if self._outputs:
            self._outputs.add_clients(rows)
        if trouble := _trouble(row, failures):
            self._warn(trouble, row["round"])

    def _end_round(self, row: Row) -> None:
        """Evaluates if it is time, judges, tells and writes."""
        job, r = self._job, row["round"]
        is_time = r % job.evaluate_every == 0 or r == job.rounds
        evaluated = is_time and job.evaluate is not None
        if evaluated or (is_time and job.also_evaluate):
            self._evaluate(row)
        self.state.history.append(row)
        new_best = evaluated and self._judge(row)
        for callback in self._callbacks:
            callback.on_round_end(self.state.process, row)
        if self._outputs:
            self._outputs.end_round(self.state, evaluated=evaluated, new_best=new_best)

    def _evaluate(self, row: Row) -> None:
        process, state, began = self._job.process, self.state.process, time.perf_counter()
        if self._job.evaluate is not None:
            row |= {f"eval_{name}": value for name, value in process.evaluate(state, self._job.evaluate).items()}
        for data, clients in self._job.also_evaluate.items():
            row |= {f"eval_{data}.{name}": value for name, value in process.evaluate(state, clients).items()}
        row["evaluate_seconds"] = time.perf_counter() - began

    def _judge(self, row: Row) -> bool:
        """Brings the standing up to date, complains and rolls back as the guard says; returns whether this is the best round so far."""
        job, state, r = self._job, self.state, row["round"]
        by = measure(job.best_by, {name.removeprefix("eval_"): value for name, value in row.items() if name.startswith("eval_")})
        value = float(row[f"eval_{by.name}"])
        state.standing = state.standing.after(by, value, r) if state.standing else Standing(value, value, r, value, metric=by.name)
        if state.standing.best_round == r:
            state.best_server = state.process.server if self._rolls_back else None
            return True
        if job.guard.action != "off" and (text := complaint(by, state.standing)):
            self._warn(text, r)
        if verdict(job.guard, state.standing) == "rollback":
            self._warn(f"Rolled back to the weights of round {state.standing.best_round}.", r)
            state.process = state.process._replace(server=state.best_server)
            state.standing = state.standing._replace(worse_in_a_row=0, rollbacks=state.standing.rollbacks + 1)
        return False

    def _stopped_by_guard(self) -> bool:
        return self.state.standing is not None and verdict(self._job.guard, self.state.standing) == "stop"

    def _stop_for(self, signal: str) -> None:
        """Saves, and raises RunInterrupted."""
        assert self._outputs
        self._outputs.save(self.state)
        self._outputs.draw(self.state, "interrupted", signal)
        raise RunInterrupted(
            f"Stopped by {signal} after round {self.state.round} of {self._job.rounds}, and saved. Go on with `fedloom resume "
            f"{self._outputs.path}`, or with resume=True in Python.",
            run_dir=str(self._outputs.path),
            round_number=self.state.round,
        )

    def _warn(self, text: str, round_number: int | None = None) -> None:
        r = self.state.round if round_number is None else round_number
        self.state.warnings.append({"round": r, "text": text})
        for callback in self._callbacks:
            callback.on_warning(r, text)
        if self._outputs:
            self._outputs.warn(self.state)


def _trouble(row: Row, failures: Sequence[dict[str, str]]) -> str:
    if "num_asked" in row and not row["num_clients"]:
        return f"The round was abandoned: {row['num_reported']:.0f} of the {row['num_asked']:.0f} devices asked reported in time."
    if not row["accepted"]:
        return "The round changed nothing: no client had data to learn from, or the mean update was not finite."
    return f"{len(failures)} client{'s' if len(failures) > 1 else ''} left out: {told(failures)}." if failures else ""
