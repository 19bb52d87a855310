"""What a run has come to so far: all that decides its future, as it goes into a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedloom.report import Row

from ._guard import Standing
from ._process import ProcessState


@dataclass
class RunState:
    """Changes from round to round.

    With care: the names in `notes`; checkpoints depend on them.
    """

    process: ProcessState
    history: list[Row] = field(default_factory=list)  # a row per round that is done, from round 0
    warnings: list[Row] = field(default_factory=list)
    draws: int = 0  # cohorts drawn so far: more than rounds, where some did not count
    standing: Standing | None = None  # None as long as nothing was evaluated
    best_server: Any = None  # the server's state of the best round, for a guard that rolls back; not in the notes

    @property
    def round(self) -> int:
        """The last round done; 0 if none."""
        return self.history[-1]["round"] if self.history else 0

    @property
    def best_round(self) -> int | None:
        """None as long as nothing was evaluated."""
        return self.standing.best_round if self.standing else None

    def notes(self) -> dict[str, Any]:
        """All but the process' state, as JSON."""
        standing = self.standing._asdict() if self.standing else None
        return {"history": self.history, "warnings": self.warnings, "draws": self.draws, "standing": standing}

    @classmethod
    def from_notes(cls, process: ProcessState, notes: Mapping[str, Any]) -> RunState:
        """What `notes` was made of."""
        standing = Standing(**notes["standing"]) if notes["standing"] else None
        return cls(process, notes["history"], notes["warnings"], notes["draws"], standing)
