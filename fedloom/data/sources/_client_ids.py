"""The column that says whose a row is: from whatever type it has to text, or an error that names the first bad row.

Free to change: the wording. With care: which types are ids. A float or a date has no one spelling, so two files might spell a client twice.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from .._arrow_types import is_text, numpy_type, to_type


def text_ids(values: pa.Array, *, column: str, source: str, first_row: int = 0) -> pa.Array:
    """Client ids as large strings: text as it is, integers as `str` writes them.

    Args:
        values: The client column, shape (n,).
        column: Its name, for error messages.
        source: The file or table, for error messages.
        first_row: The number in `source` of the first of these rows, from 0.

    Raises:
        ValueError: The type is another one, or an id is missing; an empty text counts as missing.
    """
    if kinds.is_dictionary(values.type):
        values = to_type(values, numpy_type(values.type) or values.type.value_type)
    kind = values.type
    where = f"the client column {column!r} of {source}"
    if not (kinds.is_integer(kind) or is_text(kind)):
        shown = f", such as {values[0].as_py()!r} in row {first_row}" if len(values) else ""
        raise ValueError(f"Client ids must be text or whole numbers, got {kind} in {where}{shown}. {_remedy(kind)}")
    text = values.cast(pa.large_string())
    missing = np.asarray(text.is_null() if text.null_count else pc.equal(pc.binary_length(text), 0))
    if missing.any():
        row = first_row + int(np.argmax(missing))
        what = "no value" if text.null_count else "an empty text"
        raise ValueError(
            f"Every row must have a client id, got {what} in {where} in {missing.sum()} of the rows {first_row} to "
            f"{first_row + len(values) - 1}, first in row {row}. Fill in the id, or drop these rows."
        )
    return text


def ids_from_objects(values: Iterable[Any], *, column: str, source: str, first_row: int = 0) -> pa.Array:
    """Client ids that are Python objects, as large strings.

    Raises:
        ValueError: They are not all strings or all integers.
    """
    values = values if isinstance(values, Sequence) else list(values)
    found = set(map(type, values))
    text = {kind for kind in found if issubclass(kind, str)}
    whole = {kind for kind in found if issubclass(kind, numbers.Integral) and not issubclass(kind, bool)}
    if found - text - whole or (text and whole):
        ok = whole if type(values[0]) in whole else text
        row = next(i for i, value in enumerate(values) if type(value) not in ok)
        before = f" after {values[0]!r}" if row else ""
        raise ValueError(
            f"Client ids must all be text, or all be whole numbers, got {values[row]!r} of type {type(values[row]).__name__}{before} in "
            f"row {first_row + row} of the client column {column!r} of {source}. Convert it with str, and drop rows without an id."
        )
    try:
        array = pa.array([str(value) for value in values], pa.large_string())
    except UnicodeEncodeError as error:
        row = next(i for i, value in enumerate(values) if not _is_unicode(value))
        raise ValueError(
            f"Client ids must be text that UTF-8 can hold, got {values[row]!r} in row {first_row + row} of the client column {column!r} of "
            f"{source}. Replace its lone surrogates."
        ) from error
    return text_ids(array, column=column, source=source, first_row=first_row)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _remedy(kind: pa.DataType) -> str:
    if kinds.is_null(kind):
        return "Fill in the ids, or drop these rows."
    if kinds.is_floating(kind):
        return "Whole numbers become floats where one is missing: drop those rows, then convert the column to int64 or text."
    return "Convert the column to text."
