"""Numbers that cannot be right, refused when an algorithm is built."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any


def check_positive(name: str, value: float, *, such_as: str) -> None:
    """Raises ValueError unless 0 < `value` < infinity; `such_as` says what to pass."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value}. Pass {such_as}.")


def check_not_negative(name: str, value: float, *, such_as: str) -> None:
    """Raises ValueError unless 0 <= `value` < infinity; `such_as` says what to pass."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number >= 0, got {value}. Pass {such_as}.")


def check_share(name: str, value: float, *, such_as: str) -> None:
    """Raises ValueError unless 0 <= `value` <= 1; `such_as` says what to pass."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}. Pass {such_as}.")


def check_count(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a whole number of at least 1."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
