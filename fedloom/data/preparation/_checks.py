"""What the preparations of images and tables share: columns looked up, labels and categories numbered, settings checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, Literal

import numpy as np

_MAX_LABEL = np.iinfo(np.int32).max


def column_of(examples: Mapping[str, Any], name: str, *, asked_by: str, argument: str) -> np.ndarray:
    """A column as an array.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in examples:
        raise ValueError(f"{asked_by} needs the column {name!r}, got {sorted(examples)}. Name yours with `{argument}=`.")
    return np.asarray(examples[name])


def places(column: np.ndarray, values: Sequence[Any], name: str, *, listed_in: str, allow_unknown: bool = False) -> np.ndarray:
    """The place of each entry among `values`, int32, shape (n,).

    Args:
        column: Shape (n,); compared as Python compares, so 1, 1.0 and True are the same.
        values: Each once.
        name: Of the column, for errors.
        listed_in: The argument that holds the values, for errors.
        allow_unknown: Whether an entry that is none of the values gets the place `len(values)`; if not, it is an error.

    Raises:
        ValueError: An entry is none of the values, or no single value.
    """
    if column.ndim != 1:
        raise ValueError(f"The column {name!r} must have one value per example, got the shape {column.shape}.")
    place = {value: i for i, value in enumerate(values)}
    entries = column.tolist()
    try:
        found = np.fromiter(map(place.get, entries, repeat(len(values))), np.int32, len(entries))
    except TypeError as error:  # a list or an array cannot be looked up
        raise ValueError(f"The column {name!r} must have one value per example: {error}.") from error
    if not allow_unknown and len(unknown := np.flatnonzero(found == len(values))):
        raise ValueError(
            f"The column {name!r} must hold values listed in `{listed_in}` only, got {entries[unknown[0]]!r} in row {unknown[0]} "
            f"({len(unknown)} of {len(entries)} rows are not listed). List it, or leave these examples out with `dataset.filter`."
        )
    return found


def class_labels(column: np.ndarray, classes: Sequence[Any], name: str) -> np.ndarray:
    """Labels as int32 of at least 0, shape (n,): the places among `classes`, or if there are none, the labels themselves.

    Raises:
        ValueError: A label is not among the classes, or without them no whole number from 0 on.
    """
    if len(classes):
        return places(column, classes, name, listed_in="classes")
    if column.ndim != 1 or (column.size and column.dtype.kind not in "biu"):
        raise ValueError(
            f"The label column {name!r} must have one whole number per example, got {column.dtype} of shape {column.shape}. "
            "List the labels that there are as `classes=`."
        )
    if column.size and (column.min() < 0 or column.max() > _MAX_LABEL):
        raise ValueError(
            f"The label column {name!r} must hold whole numbers from 0 to {_MAX_LABEL}, got {column.min()} to {column.max()}. "
            "List the labels that there are as `classes=`."
        )
    return column.astype(np.int32)


def check_values(values: Sequence[Any], *, argument: str) -> None:
    """Raises ValueError unless the values of labels or categories are a list or tuple, each once."""
    if isinstance(values, str | bytes) or len(set(values)) != len(values):
        raise ValueError(f"{argument} must list values, each once, got {values!r}.")


def plain_numbers(given: Any, name: str, kind: Literal["mean", "std"]) -> float | tuple[float, ...]:
    """A mean or standard deviation as plain Python: such settings compare equal, and nobody changes them from outside.

    Raises:
        ValueError: It is not one finite number or a list of them, or as a standard deviation not above 0.
    """
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if values.ndim > 1 or not np.isfinite(values).all() or (kind == "std" and not (values > 0).all()):
        expected = "finite numbers" if kind == "mean" else "finite numbers above 0 (for what never varies, give 1, or leave it out)"
        raise ValueError(f"{name} must be one number or a list of them, {expected}, got {given!r}.")
    return tuple(values.tolist()) if values.ndim else float(values)
