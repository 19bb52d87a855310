"""What a run does about clients that fail: who is left out, how many must report, and how often a round is tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedloom.core import RoundFailed

_SHOWN = 3  # failures that a message tells of


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Policy for clients that fail: unreadable or missing data, a reader that hangs, wrong shapes, an update that is NaN or infinite.

    Such a client is left out of its round, counted, and named with the reason. Clients of the cohort are asked in order until `cohort_size`
    of them have data that can be read; with `over_selection` more are drawn, as spares. A round in which clients failed and fewer than
    `min_reports` are left does not count: nothing of it is kept, and it is tried with a new cohort.

    Args:
        leave_out: False ends the run with the first client whose data fail.
        over_selection: Clients drawn per client wanted, >= 1; 1.3 draws 13 for a cohort of 10. Not under privacy, and not with cohorts
            that are "poisson" or come from a function.
        min_reports: At least so many must report, in [1, cohort_size]; None takes half the cohort, rounded up.
        max_attempts: How many cohorts a round is tried with before the run is given up, at least 1.
        timeout: Seconds after which a client whose data are being read is left out; None waits for ever. What is left out then depends on
            the machine, and so do the bits.

    Raises:
        ValueError: A number is out of range.
    """

    leave_out: bool = True
    over_selection: float = 1.0
    min_reports: int | None = None
    max_attempts: int = 3
    timeout: float | None = None

    def __post_init__(self):
        for name, holds, expected in (
            ("over_selection", 1 <= self.over_selection < math.inf, "at least 1"),
            ("min_reports", self.min_reports is None or self.min_reports >= 1, "at least 1"),
            ("max_attempts", self.max_attempts >= 1, "at least 1"),
            ("timeout", self.timeout is None or 0 < self.timeout < math.inf, "a number of seconds above 0"),
        ):
            if not holds:
                raise ValueError(f"failures.{name} must be {expected}, got {getattr(self, name)}.")

    def drawn(self, cohort_size: int) -> int:
        """How many clients to draw for a round."""
        return math.ceil(round(cohort_size * self.over_selection, 9))  # rounded first: 100 * 1.1 is a hair more than 110

    def needed(self, cohort_size: int) -> int:
        """How many must report where some fail."""
        return math.ceil(cohort_size / 2) if self.min_reports is None else self.min_reports


def told(failures: Sequence[dict[str, str]]) -> str:
    """Failures in words: each reason once, with the clients it befell."""
    by_reason: dict[str, list[str]] = {}
    for failure in failures:
        by_reason.setdefault(failure["reason"], []).append(failure["client"])
    parts = [f"{_names(clients)}: {reason.rstrip('.')}" for reason, clients in list(by_reason.items())[:_SHOWN]]
    return "; ".join(parts) + ("; ..." if len(by_reason) > _SHOWN else "")


def _names(clients: list[str]) -> str:
    return ", ".join(clients[:_SHOWN]) + (f" and {len(clients) - _SHOWN} more" if len(clients) > _SHOWN else "")


def too_few_reports(round_number: int, attempts: int, reports: float, needed: int, failures: list[dict[str, Any]]) -> RoundFailed:
    """The error for a round that was tried as often as allowed; `round_number` is counted from 0."""
    return RoundFailed(
        f"Round {round_number + 1} was given up after {attempts} cohorts: {needed} clients must report, and in the last one {reports:.0f} "
        f"did. What failed there: {told(failures)}. Mend the data, or change failures.min_reports, over_selection or max_attempts.",
        round_number=round_number,
        attempts=attempts,
        failures=failures,
    )
