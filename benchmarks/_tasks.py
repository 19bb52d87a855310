"""What is measured: the five tasks, each one or more cases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Case:
    """Rounds of one size. All systems train on the same clients and batches, from the same weights, with plain SGD."""

    task: str
    model: str  # of `MODELS`
    cohort: int  # clients per round
    batch_size: int
    max_batches: int | None  # of a client in a round
    learning_rate: float
    later_rounds: int  # after the first one, which is reported by itself
    clients: Literal["most text", "any"] = "any"  # cohorts of those with most text, one after the other, or drawn at random
    systems: Literal["all", "best peer", "fedloom"] = "all"  # "best peer": fedloom and the best peer of the case before
    debug_rounds: int = 0  # that the debug executor repeats, to compare the losses
    goal: float | None = None  # how many times as fast as the best peer
    population: int = 0  # clients that are made up for it; 0: TFF's Shakespeare

    @property
    def name(self) -> str:
        """E.g. "T1-4"."""
        return f"{self.task}-{self.cohort}"

    @property
    def seed(self) -> int:
        """Of cohorts, of the order of examples and of fresh weights."""
        return 0


_T1 = Case(
    task="T1",
    model="gru",
    cohort=4,
    batch_size=8,
    max_batches=5,
    learning_rate=0.1,
    later_rounds=4,
    clients="most text",
    goal=3.0,
)
_T2 = Case(task="T2", model="lstm", cohort=10, batch_size=4, max_batches=50, learning_rate=1.0, later_rounds=5, goal=2.0)
_T3 = Case(
    task="T3", model="cnn", cohort=10, batch_size=20, max_batches=None, learning_rate=0.05, later_rounds=6, goal=1.5, population=1_000
)
_T4 = Case(
    task="T4",
    model="logistic",
    cohort=100,
    batch_size=10,
    max_batches=None,
    learning_rate=0.1,
    later_rounds=10,
    goal=10.0,
    population=10_000,
)
_SCALE = {"systems": "fedloom", "goal": None, "debug_rounds": 0, "later_rounds": 3}

TASKS: dict[str, list[Case]] = {
    "T1": [replace(_T1, debug_rounds=1), replace(_T1, cohort=16, later_rounds=2, systems="best peer")],
    "T2": [replace(_T2, debug_rounds=1)],
    "T3": [replace(_T3, debug_rounds=2), replace(_T3, cohort=100, later_rounds=4)],
    "T4": [replace(_T4, debug_rounds=2), replace(_T4, cohort=1_000, later_rounds=4)],
    "T5": [
        *[replace(_T4, task="T5-logistic", cohort=cohort, **_SCALE) for cohort in (10, 100, 1_000, 10_000)],
        *[replace(_T1, task="T5-gru", cohort=cohort, max_batches=1, **_SCALE) for cohort in (10, 50, 200)],
    ],
}


def quick(case: Case) -> Case:
    """The same with two later rounds and as few made-up clients as three rounds need: to see whether everything runs."""
    return replace(case, later_rounds=min(case.later_rounds, 2), population=min(case.population, 3 * case.cohort))
