"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", "_.-:=+*#"
_NOT_FINITE = "x"


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """The values from left to right, the lowest at the bottom and the highest at the top.

    Args:
        values: In order; where there are more than `width`, a character is the mean of its share of them. One without a finite value is
            an "x".
        width: Characters at most, at least 1.
        ascii_only: For terminals without block characters.

    Example:
        >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8)
        '▁▂▃▄▅▆▇█'
        >>> sparkline([3, 3, 1, 1, 2, 2], 3, ascii_only=True)
        '#_='
    """
    n = min(len(values), width)
    means = [_mean(values[i * len(values) // n : (i + 1) * len(values) // n]) for i in range(n)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    levels = _ASCII if ascii_only else _BLOCKS

    def character(mean: float) -> str:
        if not math.isfinite(mean):
            return _NOT_FINITE
        share = (mean / 2 - low / 2) / (high / 2 - low / 2) if high / 2 > low / 2 else 0.5  # halves: the difference may be too large
        return levels[min(int(share * len(levels)), len(levels) - 1)]

    return "".join(character(mean) for mean in means)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
