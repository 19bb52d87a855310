"""The guard: a run notices when the model is worse than the one it started from, and which round was best.

The tutorial of TensorFlow Federated, for one, falls from an accuracy of 0.401 to 0.171 without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from fedloom.report import lower_is_better


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What to do when held-out data say that the model became worse than it was at the start.

    Args:
        action: "warn" says so at every evaluation, "stop" also ends the run, "rollback" also puts the server's state back to that of the
            best evaluation and goes on from there, "off" says nothing.
        patience: Evaluations in a row that must be worse before it stops or rolls back, at least 1.
        max_rollbacks: After so many in a row, none of them followed by a new best, a run that becomes worse again is stopped.

    Raises:
        ValueError: A setting is out of range.
    """

    action: Literal["warn", "stop", "rollback", "off"] = "warn"
    patience: int = 1
    max_rollbacks: int = 3

    def __post_init__(self):
        if self.action not in ("warn", "stop", "rollback", "off"):
            raise ValueError(f'guard.action must be "warn", "stop", "rollback" or "off", got {self.action!r}.')
        for name in ("patience", "max_rollbacks"):
            if getattr(self, name) < 1:
                raise ValueError(f"guard.{name} must be at least 1, got {getattr(self, name)}.")


class Measure(NamedTuple):
    """A metric by which models are compared."""

    name: str
    lower_is_better: bool

    def better(self, a: float, b: float) -> bool:
        """Whether a is strictly better than b; NaN is worse than any number."""
        if math.isnan(a) or math.isnan(b):
            return math.isnan(b) and not math.isnan(a)
        return a < b if self.lower_is_better else a > b


def measure(best_by: str | None, metrics: Mapping[str, Any]) -> Measure:
    """The metric to compare models by.

    Args:
        best_by: Its name; "lower:NAME" or "higher:NAME" says which way is better, where the name does not (loss, error, perplexity are
            lower). None takes the accuracy, or else the loss.
        metrics: Of an evaluation.

    Raises:
        ValueError: It is not among the metrics, or is not a number.

    Example:
        >>> measure("lower:mae", {"loss": 1.0, "mae": 2.0}).better(1.0, 2.0)
        True
    """
    direction, _, name = best_by.rpartition(":") if best_by else ("", "", "accuracy" if "accuracy" in metrics else "loss")
    numbers = [key for key, value in metrics.items() if isinstance(value, int | float)]
    if name not in numbers or direction not in ("", "lower", "higher"):
        raise ValueError(
            f"best_by must be the name of a held-out metric, one of {numbers}, or such a name after 'lower:' or 'higher:', got {best_by!r}."
        )
    return Measure(name, direction == "lower" if direction else lower_is_better(name))


class Standing(NamedTuple):
    """How the run stands by its measure: what the guard remembers from evaluation to evaluation."""

    start: float
    best: float
    best_round: int
    latest: float
    worse_in_a_row: int = 0  # evaluations in which the model was worse than at the start
    rollbacks: int = 0  # since the last new best
    metric: str = ""  # the name of the measure

    def after(self, measure: Measure, value: float, round_number: int) -> Standing:
        """With a further evaluation."""
        worse = self.worse_in_a_row + 1 if measure.better(self.start, value) else 0
        if measure.better(value, self.best):
            return self._replace(best=value, best_round=round_number, latest=value, worse_in_a_row=worse, rollbacks=0)
        return self._replace(latest=value, worse_in_a_row=worse)


Verdict = Literal["go on", "stop", "rollback"]


def verdict(guard: Guard, standing: Standing) -> Verdict:
    """What the policy asks for, after an evaluation."""
    if guard.action in ("warn", "off") or standing.worse_in_a_row < guard.patience:
        return "go on"
    return "stop" if guard.action == "stop" or standing.rollbacks >= guard.max_rollbacks else "rollback"


def complaint(measure: Measure, standing: Standing) -> str:
    """What there is to say of a model that is worse than at the start; empty if it is not."""
    if not standing.worse_in_a_row:
        return ""
    best = f"the best was {standing.best:.4f}, after round {standing.best_round}" if standing.best_round else "no round was better"
    return (
        f"The model is worse than the one the run started from: held-out {measure.name} {standing.latest:.4f}, at the start "
        f"{standing.start:.4f} ({best}). Lower the learning rates, or train on more clients per round."
    )
