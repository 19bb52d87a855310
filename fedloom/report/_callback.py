"""What a run tells while it goes: the protocol behind progress, trackers and users' own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._record import Row


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What is known when a run starts."""

    rounds: int  # the number of the last round
    config: Mapping[str, Any]  # settings as in config.json: nested, of what JSON has
    run_dir: Path | None
    history: Sequence[Row]  # of the rounds done before, if the run is resumed; else empty
    best_by: str  # the metric by which the run is judged, such as "accuracy"


class Callback:
    """Is told of a run as it goes, and does nothing with it; override what you need. What a method raises ends the run.

    Example:
        >>> class StopWatch(Callback):
        ...     def on_round_end(self, state, row):
        ...         print(f"round {row['round']} took {row['seconds']:.1f} s")
        >>> StopWatch().on_round_end(None, {"round": 3, "seconds": 1.25})
        round 3 took 1.2 s
    """

    def on_start(self, run: RunInfo) -> None:
        """Before the first round, or the first after those of `run.history`."""

    def on_round_end(self, state: Any, row: Row) -> None:
        """After a round, and its evaluation if there was one.

        Args:
            state: The `ProcessState` after the round.
            row: As in `RunInfo.history`; round 0 is the start, which has held-out metrics at most.
        """

    def on_warning(self, round_number: int, text: str) -> None:
        """Something is wrong that does not end the run. May come before `on_start`: a resumed run has damaged checkpoints, say."""

    def on_end(self, status: str) -> None:
        """No more rounds will follow: "finished", "interrupted", "stopped" (by the guard) or "failed"."""
