"""Progress as lines: for logs that people read, for machines, and for those who want to hear of trouble only."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from numbers import Integral, Real
from typing import Any

from rich.console import Console
from rich.text import Text

from ._callback import Callback, RunInfo
from ._pace import Pace, clock_time, duration
from ._record import Row

_TRAINING = ("loss", "accuracy", "epsilon")  # what a round shows of itself, if it has it
_SILENCE = 60.0  # seconds after which a round without evaluation gets a line too


class QuietLines(Callback):
    """Warnings and nothing else.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console):
        self._console = console

    def on_warning(self, round_number: int, text: str) -> None:
        """A line that stands out."""
        self._say(f"warning (round {round_number}): {text}", "bold yellow")

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)


class PlainLines(QuietLines):
    """A line for each evaluated round, and in between for a round a minute.

    Args:
        console: Where to.
        clock: Seconds that only grow.
        now: The time of day.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], datetime] = datetime.now):
        super().__init__(console)
        self._clock, self._now = clock, now
        self._started: float | None = None

    def on_start(self, run: RunInfo) -> None:
        """Says so if the run is resumed."""
        self._rounds, self._pace = run.rounds, Pace(run.rounds, run.history)
        self._started = self._round_ended = self._spoke = self._clock()
        self._done = run.history[-1]["round"] if run.history else 0
        if run.history:
            self._say(f"resumed after round {self._done}/{run.rounds}")

    def on_round_end(self, state: Any, row: Row) -> None:
        """A line, if it is time for one."""
        clock, r = self._clock(), row["round"]
        self._pace.add(row, clock - self._round_ended)
        self._round_ended, self._done = clock, r
        held_out = _metrics(row, "eval_", ("loss", "accuracy"))
        if not held_out and (r == 0 or clock - self._spoke < _SILENCE):
            return
        self._spoke = clock
        parts = [f"round {r:>4}/{self._rounds}"]
        if held_out:
            parts.append(f"held out {' '.join(held_out)}")
        if r and (training := _metrics(row, "", _TRAINING)):
            parts.append(f"training {' '.join(training)}")
        if "seconds" in row and r:
            parts.append(f"{row['seconds']:.1f} s")
        if r < self._rounds and (left := self._pace.remaining) is not None:
            parts.append(f"left {duration(left)}, until {clock_time(self._now(), left)}")
        self._say("  ".join(parts))

    def on_end(self, status: str) -> None:
        """How it ended."""
        if self._started is not None:
            self._say(f"{status} after round {self._done}/{self._rounds} in {duration(self._clock() - self._started)}")


class JsonLines(Callback):
    """A JSON object per line and event: "start", "round" with the row, "warning", "end". Numbers that JSON does not have are null.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console):
        self._console = console

    def on_start(self, run: RunInfo) -> None:
        """{"event": "start", "rounds": 100, "resumed_after": 20 or null, "run_dir": ..., "best_by": ..., "config": {...}}."""
        resumed_after = run.history[-1]["round"] if run.history else None
        run_dir = None if run.run_dir is None else str(run.run_dir)
        start = {"event": "start", "rounds": run.rounds, "resumed_after": resumed_after, "run_dir": run_dir, "best_by": run.best_by}
        self._write({**start, "config": run.config})

    def on_round_end(self, state: Any, row: Row) -> None:
        """{"event": "round", "round": 3, "loss": ..., ...}."""
        self._write({"event": "round", **row})

    def on_warning(self, round_number: int, text: str) -> None:
        """{"event": "warning", "round": 3, "text": ...}."""
        self._write({"event": "warning", "round": round_number, "text": text})

    def on_end(self, status: str) -> None:
        """{"event": "end", "status": "finished"}."""
        self._write({"event": "end", "status": status})

    def _write(self, event: Mapping[str, Any]) -> None:
        self._console.out(json.dumps(_jsonable(event), allow_nan=False), highlight=False)


def _metrics(row: Row, prefix: str, names: tuple[str, ...]) -> list[str]:
    return [f"{name} {row[prefix + name]:.4f}" for name in names if prefix + name in row]


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if not isinstance(value, Real):  # which NumPy's scalars are
        return str(value)
    number = int(value) if isinstance(value, Integral) else float(value)
    return number if math.isfinite(number) else None
