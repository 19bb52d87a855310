"""What a column holds: its dtype and the shape of one example, as said by the user or found in a file.

Free to change: the wording. With care: that no number changes its value on its way into another dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .._columns import object_column

Features = Mapping[str, tuple[str, tuple[int | None, ...]]]
"""Column -> (dtype name, shape of one example). The dtypes "str" and "bytes" have shape (); (None,) is ragged: 1-d arrays of any length."""

_TEXT = ("str", "bytes")


class Feature(NamedTuple):
    """One column: text, or numbers of this shape per example."""

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def is_text(self) -> bool:
        """Whether its values are `str` or `bytes`."""
        return self.dtype in _TEXT

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def checked(features: Features) -> dict[str, Feature]:
    """The user's argument `features`.

    Raises:
        ValueError: There is no column, or one has no such dtype or shape.
    """
    if not features:
        raise ValueError("features must name at least one column, got none. Leave it out to have all of them.")
    made = {}
    for name, value in features.items():
        if not _is_feature(value):
            raise ValueError(
                f"features[{name!r}] must be (dtype, shape of one example), such as ('float32', (28, 28)), ('str', ()), ('bytes', ()), or "
                f"('int64', (None,)) for numbers of any count, got {value!r}."
            )
        made[name] = Feature(value[0], tuple(value[1]))
    return made


def _is_feature(value: object) -> bool:
    if not (isinstance(value, Sequence) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], Sequence)):
        return False
    dtype, shape = value[0], tuple(value[1])
    if dtype in _TEXT:
        return shape == ()
    return is_number(dtype) and (shape == (None,) or all(type(size) is int and size > 0 for size in shape))


def is_number(dtype: str | np.dtype) -> bool:
    """Whether this is a dtype of plain numbers: booleans, integers, floats up to 64 bits."""
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        return False
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def with_dtype(values: np.ndarray, dtype: str) -> np.ndarray:
    """The same numbers in another dtype.

    Raises:
        ValueError: A number would change; the message says which dtype there is.
    """
    target = np.dtype(dtype)
    if values.dtype == target:
        return values
    if not _fits(values, target):
        raise ValueError(f"{values.dtype} with values that {dtype} cannot hold")
    return values.astype(target)


def _fits(values: np.ndarray, target: np.dtype) -> bool:
    kinds = values.dtype.kind + target.kind
    if kinds == "ff":
        with np.errstate(over="ignore"):
            return np.array_equal(values.astype(target).astype(values.dtype), values, equal_nan=True)
    if kinds[0] == "f":
        return False
    lowest, highest = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if kinds[1] == "b":
        return 0 <= lowest <= highest <= 1
    if kinds[1] == "f":  # every whole number up to here has a float of its own
        bound = 2 ** (np.finfo(target).nmant + 1)
        return -bound <= lowest <= highest <= bound
    limits = np.iinfo(target)
    return int(limits.min) <= lowest <= highest <= int(limits.max)


def text_column(values: Sequence[bytes], dtype: str) -> np.ndarray:
    """Byte strings as an object array, shape (n,): as they are, or decoded, where U+FFFD stands for what is not UTF-8."""
    return object_column([value.decode("utf-8", errors="replace") for value in values] if dtype == "str" else values)
