"""Values of a data set as short text that is safe to print: data come from strangers, and a terminal obeys the escapes in them.

Free to change: how a value looks. With care: that nothing but printable characters comes out.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

_FEW = 6  # entries of an array that are shown
_WORD = 14  # characters of a text inside an array
_SPEAKING = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)  # short and clear as `str`


def printable(text: object, limit: int = 80) -> str:
    r"""One line of at most `limit` characters, in which what is not printable is written as an escape, and so is a backslash.

    Not printable is what `str.isprintable` says: control characters, line ends, marks that turn the direction of text.

    Example:
        >>> printable("red: \x1b[31m, end")
        'red: \\x1b[31m, end'
        >>> printable("Shall I compare thee", 12)
        'Shall I com…'
    """
    shown = _escaped(str(text)[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def shorten(value: object, limit: int = 60) -> str:
    """One example's value: text and bytes in quotes, a large array as its shape and range, an unknown object as its type.

    Args:
        value: An entry of a column.
        limit: Characters of text that are shown; quotes and length come on top.

    Example:
        >>> shorten(np.zeros((28, 28), np.float32))
        '28 x 28 float32, 0 to 0'
        >>> shorten("Shall I compare thee to a summer's day?", 12)
        "'Shall I com…' (39 characters)"
    """
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, str):
        cut = len(_escaped(value[: limit + 1])) > limit
        return f"'{printable(value, limit)}'" + (f" ({len(value):,} characters)" if cut else "")
    if isinstance(value, bytes):
        cut = len(value) > limit // 4  # each may take four characters
        return f"{value[: limit // 4]!r}" + (f"… ({len(value):,} bytes)" if cut else "")
    if isinstance(value, list | tuple | dict | set | frozenset):
        return f"a {type(value).__name__} of {len(value)}"
    return number(value)


def number(value: object) -> str:
    """A number, date or the like; an object that is none of these as its type."""
    if value is None or isinstance(value, bool | np.bool_ | np.datetime64 | np.timedelta64):
        return str(value)
    if isinstance(value, int | np.integer):
        value = int(value)
        return str(value) if value.bit_length() <= 64 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float | complex | np.inexact):
        return f"{value:.6g}"
    return printable(value if isinstance(value, _SPEAKING) else f"<{type(value).__name__}>")


def spread(values: np.ndarray) -> tuple[Any, Any] | None:
    """The smallest and the largest number or time, NaN and NaT left out; None if there is none, or no order."""
    if values.dtype.kind not in "biufmM" or not values.size:
        return None
    with np.errstate(all="ignore"):
        low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
    if low != low:  # nothing but NaN
        return None
    return (low, high) if values.dtype.kind in "mM" else (low.item(), high.item())


def between(low: object, high: object) -> str:
    """A range, such as "0 to 1"."""
    return f"{number(low)} to {number(high)}"


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape, such as "28 x 28"; a size that is not always the same is None."""
    return " x ".join("any" if size is None else f"{size:,}" for size in shape)


def _escaped(text: str) -> str:
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode("ascii") for c in text)


def _array(values: np.ndarray) -> str:
    if values.ndim == 1 and values.dtype.names is None:
        rest = f", … {len(values):,} in all]" if len(values) > _FEW else "]"
        return f"[{', '.join(map(_entry, values[:_FEW]))}{rest}"
    found = spread(values)
    return _kind(values) + (f", {between(*found)}" if found else "")


def _entry(value: object) -> str:
    # An array in an array by its kind alone: an array of objects may hold itself.
    return _kind(value) if isinstance(value, np.ndarray) else shorten(value, _WORD)


def _kind(values: np.ndarray) -> str:
    return f"{shape_text(values.shape)} {printable(values.dtype, 30)}".lstrip()
