"""Scales of charts: where an axis has its ticks, how numbers become places, and how long lines are thinned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ._numbers import MINUS, Metric, byte_unit, number, power_of_ten

MOST_POINTS = 1000
_LEAST_POWER, _MOST_POWER = -4, 5  # of ten, that a label has room for
_LARGEST, _SMALLEST = 1e100, 1e-100  # beyond these differences overflow or vanish, and there is nothing to see

Point = tuple[float, float]


class Axis(NamedTuple):
    """A range with ticks at round values."""

    low: float
    high: float
    ticks: list[float]
    labels: list[str]
    log: bool = False
    factor: str = ""  # by which labels are to be multiplied: a power of ten

    def place(self, value: float) -> float:
        """From 0 at the low end to 1 at the high one."""
        low, high, value = (math.log(max(v, 1e-300)) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return min(max((value - low) / (high - low), 0.0), 1.0)


def drawable(value: float) -> bool:
    """Whether a chart can have it."""
    return math.isfinite(value) and abs(value) < _LARGEST


def step_for(span: float, most: int, whole: bool = False) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... (or 0.5, 0.2, ...) of which at most so many fit into a span."""
    least = span / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    return max(step, 1.0) if whole else step


def axis(values: Sequence[float], *, most: int = 5, tight: bool = False, zero: bool = False, whole: bool = False, **labels) -> Axis:
    """A linear axis.

    Args:
        values: To be shown; those that are not `drawable` are passed over.
        most: Ticks, about.
        tight: Ends where the values do, rather than at a tick.
        zero: Begins at 0.
        whole: Ticks are whole numbers.
        labels: As `_labels` takes them.
    """
    kept = [value for value in values if drawable(value)]
    low, high = min(kept, default=0.0), max(kept, default=1.0)
    low = min(low, 0.0) if zero else low
    if _is_one(low, high):
        margin = max(_margin(low, high), 0.5 if whole else 0.0)
        low, high = low - (0 if zero and low == 0 else margin), high + margin
    step = step_for(high - low, most, whole)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if not tight:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [i * step for i in range(first, last + 1)]
    if not tight:
        low, high = ticks[0], ticks[-1]
    texts, factor = _labels(ticks, step, **labels)
    return Axis(low, high, ticks, texts, factor=factor)


def _is_one(low: float, high: float) -> bool:
    """Whether a range is one value, or so small that ticks would all read the same."""
    return high - low <= max(1e-9 * abs(low), 1e-9 * abs(high), _SMALLEST)


def _margin(low: float, high: float) -> float:
    """What to add on both sides of such a range."""
    size = max(abs(low), abs(high))
    return 0.05 * size if size > _SMALLEST else 0.5


def log_axis(values: Sequence[float], most: int = 6) -> Axis:
    """A logarithmic axis for numbers above 0, with ticks at powers of ten, or also at twice and five times these."""
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [f * 10.0**p for p in powers for f in (1, 2, 5) if low <= f * 10.0**p <= high]
    ticks = every if len(every) <= most else [10.0**p for p in powers if low <= 10.0**p <= high]
    ticks = ticks[:: -(-len(ticks) // most)] or [low]
    return Axis(low, high, ticks, [number(tick) for tick in ticks], log=True)


def _labels(
    ticks: Sequence[float], step: float, *, metric: Metric | None = None, in_bytes: bool = False, signed: bool = False
) -> tuple[list[str], str]:
    """How ticks that are a step apart are written: of a metric, in bytes, or with a sign; and the power of ten that they leave out."""
    size = max((abs(tick) for tick in ticks), default=1.0)
    share = bool(metric and metric.share)
    scale = 1 / byte_unit(size)[0] if in_bytes else 100.0 if share else 1.0
    power = math.floor(math.log10(size * scale) + 1e-9)
    factor = ""
    if not _LEAST_POWER <= power <= _MOST_POWER:
        scale, factor = scale / 10.0**power, power_of_ten(power)
    decimals = max(-math.floor(math.log10(step * scale) + 1e-9), 0)

    def label(tick: float) -> str:
        value = 0.0 if abs(tick) < step / 2 else tick * scale
        text = f"{value:+,.{decimals}f}" if signed and value else f"{value:,.{decimals}f}"
        return text.replace("-", MINUS) + ("%" if share and not signed else "")

    return [label(tick) for tick in ticks], factor


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most so many of the points, in their order: the first, the last, and of each stretch the lowest and the highest.

    Example:
        >>> thin([(x, 1.0 if x == 500 else 0.0) for x in range(10_000)], 8).count((500, 1.0))
        1
    """
    if len(points) <= most:
        return list(points)
    stretches = (most - 2) // 2
    kept = {0, len(points) - 1}
    for i in range(stretches):
        stretch = range(i * len(points) // stretches, (i + 1) * len(points) // stretches)
        kept |= {min(stretch, key=lambda j: points[j][1]), max(stretch, key=lambda j: points[j][1])}
    return [points[i] for i in sorted(kept)]


def evenly(items: Sequence, most: int) -> list:
    """At most so many of the items, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def bins(values: Sequence[float], most: int = 24) -> tuple[list[float], float]:
    """Edges of bins at round values, 0 among them if it is in the range, and their width."""
    low, high = min(values), max(values)
    if _is_one(low, high):
        low, high = low - _margin(low, high), high + _margin(low, high)
    step = step_for(high - low, most)
    first, last = math.floor(low / step + 1e-9), max(math.ceil(high / step - 1e-9), math.floor(low / step + 1e-9) + 1)
    return [i * step for i in range(first, last + 1)], step


def counts(values: Sequence[float], edges: Sequence[float], step: float) -> list[int]:
    """How many values each bin has; the last one has its upper edge too."""
    found = [0] * (len(edges) - 1)
    for value in values:
        found[min(max(math.floor((value - edges[0]) / step + 1e-9), 0), len(found) - 1)] += 1
    return found
