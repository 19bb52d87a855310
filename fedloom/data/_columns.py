"""Columns of examples as NumPy arrays and as Arrow arrays, both ways without a loss.

| NumPy | Arrow |
| --- | --- |
| numbers, bool, datetime64, timedelta64, shape (n,) | the same type |
| numbers, bool, shape (n, a, b, ...) | a list of fixed size a * b * ..., the shape in the field's metadata |
| `str`, as objects or `<U` | large_string |
| `bytes`, as objects or `S` | large_binary |
| objects that are 1-d arrays, ragged | large_list |

Free to change: how a type is converted. With care: what a field says of itself, for it is written to disk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from ._arrow_types import numpy_type, shape_inside

_SHAPE = b"shape"  # the key of a field's metadata


def to_field(name: str, column: np.ndarray, *, client: str) -> pa.Field:
    """What a column is in Arrow.

    Args:
        name: Of the column.
        column: Shape (n, ...); an empty one of objects counts as text.
        client: For error messages.

    Raises:
        ValueError: There is no such column in Arrow, e.g. of complex numbers, or of objects that are neither text nor arrays.
    """
    if column.dtype == object or column.dtype.kind in "US":
        if column.ndim != 1:
            raise ValueError(
                f"Column {name!r} of client {client!r} must have one dimension to hold text, bytes or arrays, got {column.ndim}. "
                "Give each example one value, or a numeric dtype."
            )
        return pa.field(name, _object_type(name, column, client))
    try:
        value = pa.from_numpy_dtype(column.dtype.newbyteorder("="))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise ValueError(f"Column {name!r} of client {client!r} has dtype {column.dtype}, which cannot be stored. Convert it.") from error
    if column.ndim == 1:
        return pa.field(name, value)
    shape = column.shape[1:]
    if 0 in shape:
        raise ValueError(f"Column {name!r} of client {client!r} has shape {column.shape}: examples without any value. Leave it out.")
    return pa.field(name, pa.list_(value, math.prod(shape)), metadata={_SHAPE: json.dumps(shape).encode()})


def stored_field(field: pa.Field) -> pa.Field:
    """The field by which a column of a table is kept, as `to_field` makes it for the same column in NumPy.

    Raises:
        ValueError: NumPy has no such type.
    """
    kind = numpy_type(field.type)
    if kind is None:
        raise ValueError(f"Column {field.name!r} has the Arrow type {field.type}, which NumPy has not. Convert it, or leave it out.")
    shape, value = shape_inside(kind)
    if not shape:
        return pa.field(field.name, kind)
    return pa.field(field.name, pa.list_(value, math.prod(shape)), metadata={_SHAPE: json.dumps(shape).encode()})


def to_arrow(column: np.ndarray, field: pa.Field, *, client: str) -> pa.Array:
    """A column as its field has it.

    Raises:
        ValueError: The column does not fit the field; the message names both and the client.
    """
    try:
        if kinds.is_fixed_size_list(field.type):
            flat = np.ascontiguousarray(column).reshape(-1)
            return pa.FixedSizeListArray.from_arrays(_exact(flat, field.type.value_type), type=field.type)
        if kinds.is_large_list(field.type):
            lengths = np.fromiter((len(row) for row in column), np.int64, len(column))
            offsets = np.concatenate([[0], np.cumsum(lengths)])
            values = np.concatenate([np.asarray(row) for row in column]) if len(column) else np.zeros(0)
            return pa.LargeListArray.from_arrays(offsets, _exact(values, field.type.value_type), type=field.type)
        return _exact(column, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"Column {field.name!r} of client {client!r} must be {field.type} as that of the clients before it, got {column.dtype} "
            f"{column.shape}: {error}. Convert it with `dataset.map`."
        ) from error


def to_numpy(array: pa.Array | pa.ChunkedArray, *, column: str, client: str, field: pa.Field | None = None) -> np.ndarray:
    """A column of examples from Arrow, without a copy where Arrow's memory has the form of NumPy's.

    Args:
        array: Any Arrow array, its length the number of examples.
        column: Its name, for error messages.
        client: Whose it is, for error messages.
        field: Says the shape of an example, if this array was made by `to_arrow`.

    Returns:
        Shape (n,) or (n, ...). Missing numbers of floating point become NaN, missing times NaT. It may be read-only.

    Raises:
        ValueError: Another value is missing, or the type has no counterpart, such as a decimal or a struct.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    shape = json.loads(field.metadata[_SHAPE]) if field is not None and field.metadata and _SHAPE in field.metadata else None
    if isinstance(array.type, pa.FixedShapeTensorType):
        shape = array.type.shape
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    kind = array.type
    if array.null_count and not _has_missing(kind):
        first = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise ValueError(
            f"Column {column!r} of client {client!r} must have a value in every example, got {array.null_count} without, "
            f"first in its example {first}. Fill them or drop these rows."
        )
    if kinds.is_fixed_size_list(kind):
        values = to_numpy(array.flatten(), column=column, client=client)
        return values.reshape(len(array), *(shape or (kind.list_size, *values.shape[1:])))
    if kinds.is_list(kind) or kinds.is_large_list(kind):
        values = to_numpy(array.flatten(), column=column, client=client)
        return ragged_column(values, array.value_lengths().to_numpy(zero_copy_only=False))
    if not (kinds.is_primitive(kind) or kinds.is_string(kind) or kinds.is_large_string(kind) or _is_binary(kind)):
        raise ValueError(
            f"Column {column!r} has the Arrow type {kind}, which NumPy cannot hold. Convert it, or leave it out with `columns=`."
        )
    return array.to_numpy(zero_copy_only=False)


def examples_of(rows: pa.RecordBatch, *, client: str) -> dict[str, np.ndarray]:
    """All columns of a client's rows; see `to_numpy`."""
    columns = zip(rows.schema, rows.columns, strict=True)
    return {field.name: to_numpy(column, column=field.name, client=client, field=field) for field, column in columns}


def object_column(values: Sequence[Any]) -> np.ndarray:
    """Text, bytes or other single values as an array of objects, shape (n,), where `np.asarray` would choose a dtype of its own."""
    column = np.empty(len(values), object)
    column[:] = values
    return column


def ragged_column(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """An object array of 1-d arrays, shape (n,): the first counts[0] values, the next counts[1], and so on."""
    column = np.empty(len(counts), object)
    ends = np.cumsum(counts)
    for i, (start, end) in enumerate(zip(ends - counts, ends, strict=True)):
        column[i] = values[start:end]  # one by one: rows of equal length would be taken for a matrix
    return column


def _object_type(name: str, column: np.ndarray, client: str) -> pa.DataType:
    if column.dtype.kind == "U" or all(isinstance(value, str) for value in column):
        return pa.large_string()
    if column.dtype.kind == "S" or all(isinstance(value, bytes) for value in column):
        return pa.large_binary()
    if all(isinstance(value, np.ndarray) and value.ndim == 1 for value in column):
        inner = {value.dtype for value in column}
        if len(inner) == 1:
            return pa.large_list(to_field(name, next(iter(column)), client=client).type)
    found = sorted({type(value).__name__ for value in column})
    raise ValueError(
        f"Column {name!r} of client {client!r} must hold numbers, text, bytes or 1-d arrays of one dtype, got {', '.join(found)}. "
        "Convert it with `dataset.map`."
    )


def _exact(column: Any, kind: pa.DataType) -> pa.Array:
    """An Arrow array of this type; a value that would have to change is an error."""
    if isinstance(column, np.ndarray) and not column.dtype.isnative:
        column = column.astype(column.dtype.newbyteorder("="))
    made = pa.array(column, type=kind, from_pandas=False)
    if made.null_count and not _has_missing(kind):
        raise ValueError(f"{made.null_count} values are missing")
    return made


def _has_missing(kind: pa.DataType) -> bool:
    """Whether NumPy has a value that says that there is none: NaN or NaT."""
    return kinds.is_floating(kind) or kinds.is_timestamp(kind) or kinds.is_duration(kind) or kinds.is_date(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind)
