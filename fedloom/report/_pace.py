"""How fast a run goes, and how long the rest of it will take."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta

from ._record import Row

_RECENT = 20  # rounds that tell the pace; the first, which compiles, is soon outvoted


class Pace:
    """Estimates from rounds so far what the others will take.

    Args:
        rounds: The number of the last round.
        history: Rounds done before, if the run is resumed; they tell the pace until there are new ones.
    """

    def __init__(self, rounds: int, history: Sequence[Row] = ()):
        self._rounds, self._done, self._evaluated = rounds, 0, 0
        self._seconds: list[float] = []  # of recent rounds; replaced rather than changed, for a view may read it from another thread
        self._others: list[float] = []  # time between them: checkpoints, pages, callbacks
        self._evaluations: list[float] = []
        self._is_old = True
        for row in history:
            self.add(row, None)

    def add(self, row: Row, elapsed: float | None) -> None:
        """Counts a round.

        Args:
            row: Its metrics and clocks.
            elapsed: Seconds since the end of the round before, if that was seen.
        """
        if row["round"] == 0:
            return
        if self._is_old and elapsed is not None:
            self._seconds = []  # they are of another process, perhaps on another machine
            self._is_old = False
        self._done = row["round"]
        evaluation = row.get("evaluate_seconds", 0.0)
        seconds = row.get("seconds", max((elapsed or 0.0) - evaluation, 0.0))
        self._seconds = [*self._seconds, seconds][-_RECENT:]
        if elapsed is not None:
            self._others = [*self._others, max(elapsed - seconds - evaluation, 0.0)][-_RECENT:]
        if "evaluate_seconds" in row:
            self._evaluated += 1
            self._evaluations = [*self._evaluations, evaluation][-_RECENT:]

    @property
    def seconds_per_round(self) -> float | None:
        """The median of recent rounds, without evaluation; None before round 1."""
        return statistics.median_low(self._seconds) if self._seconds else None

    @property
    def remaining(self) -> float | None:
        """Seconds that the rounds from here to the last will take with their evaluations; None before round 2, for round 1 compiles."""
        if self.seconds_per_round is None or len(self._seconds) < 2:
            return None
        left = self._rounds - self._done
        others = statistics.fmean(self._others) if self._others else 0.0
        evaluation = statistics.median_low(self._evaluations) * self._evaluated / self._done if self._evaluations else 0.0
        return left * (self.seconds_per_round + others + evaluation)


def duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> duration(7.6), duration(432), duration(3 * 3600 + 62), duration(50 * 3600)
        ('0:08', '7:12', '3:01:02', '2 d 2 h')
    """
    minutes, second = divmod(round(max(seconds, 0.0)), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def clock_time(now: datetime, seconds: float) -> str:
    """What a clock will show then.

    Example:
        >>> clock_time(datetime(2024, 5, 6, 23, 0), 1800), clock_time(datetime(2024, 5, 6, 23, 0), 7200)
        ('23:30', 'Tue 01:00')
    """
    then = now + timedelta(seconds=seconds)
    days = (then.date() - now.date()).days
    return then.strftime("%H:%M" if days == 0 else "%a %H:%M" if days < 7 else "%d %b %H:%M")
