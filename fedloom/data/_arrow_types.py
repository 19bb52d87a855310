"""Arrow's types as a data set keeps them: the same values, in the few types that NumPy has.

Free to change: how a type is converted. With care: no value may change on the way; what has no counterpart is refused.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds


def numpy_type(kind: pa.DataType) -> pa.DataType | None:
    """The type that a data set keeps for values of this type, or None where NumPy has no counterpart.

    Offsets are of 64 bits, since those of 32 end at 2 GiB of text; times are UTC without saying so; examples of several dimensions are
    tensors; a file within a row, which is how Hugging Face stores images and sounds, is its bytes.
    """
    if kinds.is_dictionary(kind):
        return numpy_type(kind.value_type)
    if is_text(kind):
        return pa.large_string()
    if kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind) or kinds.is_fixed_size_binary(kind):
        return pa.large_binary()
    if kinds.is_timestamp(kind):
        return pa.timestamp(kind.unit)
    if kinds.is_date64(kind):
        return pa.timestamp("ms")
    if _is_plain(kind):
        return kind
    if kinds.is_list(kind) or kinds.is_large_list(kind):
        value = numpy_type(kind.value_type)
        flat = value is not None and (_is_plain(value) or kinds.is_large_string(value) or kinds.is_large_binary(value))
        return pa.large_list(value) if flat else None
    if kinds.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}:
        return pa.large_binary() if numpy_type(kind.field("bytes").type) == pa.large_binary() else None
    shape, value = shape_inside(kind)
    if not shape or 0 in shape or not _is_plain(value):
        return None
    return pa.list_(value, shape[0]) if len(shape) == 1 else pa.fixed_shape_tensor(value, shape)


def shape_inside(kind: pa.DataType) -> tuple[tuple[int, ...], pa.DataType]:
    """The shape that every value of a type has, () if it has none, and the type of the numbers inside."""
    if kinds.is_fixed_size_list(kind):
        shape, value = shape_inside(kind.value_type)
        return (kind.list_size, *shape), value
    if isinstance(kind, pa.FixedShapeTensorType):
        permuted = kind.permutation is not None and list(kind.permutation) != sorted(kind.permutation)
        return ((), kind) if permuted else (tuple(kind.shape), kind.value_type)
    shape = getattr(kind, "shape", None) if isinstance(kind, pa.BaseExtensionType) else None
    if not isinstance(shape, tuple) or not all(isinstance(size, int) for size in shape):
        return (), kind
    value = kind.storage_type  # Array2D to Array5D of Hugging Face: lists in lists
    for _ in shape:
        value = getattr(value, "value_type", pa.null())
    return shape, value


def to_type(column: pa.Array, target: pa.DataType) -> pa.Array:
    """A column in another type, with the same values.

    Raises:
        pa.ArrowException: A value does not fit.
        ValueError: An example of several dimensions has another shape.
    """
    kind = column.type
    if kind == target:
        return column
    if isinstance(column, pa.DictionaryArray):
        # Not `dictionary_decode`: Arrow cannot look up string views, which polars has in its dictionaries.
        values = to_type(column.dictionary, numpy_type(kind.value_type) or kind.value_type)
        return to_type(values.take(column.indices), target)
    if kinds.is_struct(kind) and kinds.is_large_binary(target):
        return pc.struct_field(column, ["bytes"]).cast(target)
    if isinstance(target, pa.FixedShapeTensorType):
        flat = pa.FixedSizeListArray.from_arrays(_numbers(column).cast(target.value_type), math.prod(target.shape))
        return pa.ExtensionArray.from_storage(target, flat.cast(target.storage_type))
    if isinstance(column, pa.ExtensionArray) and kinds.is_fixed_size_list(target):
        column = pa.FixedSizeListArray.from_arrays(_numbers(column), target.list_size)
    return column.cast(target)


def rows_without_value(column: pa.Array) -> np.ndarray:
    """Which rows lack a value, or hold a list that lacks one: booleans (n,), or (0,) if none does.

    A floating-point number may be missing: it is NaN then.
    """
    if column.null_count:
        return np.zeros(0, bool) if kinds.is_floating(column.type) else np.asarray(column.is_null())
    lists = column.storage if isinstance(column, pa.ExtensionArray) else column
    if not (kinds.is_large_list(lists.type) or kinds.is_fixed_size_list(lists.type)):
        return np.zeros(0, bool)
    values = lists.flatten()
    if kinds.is_floating(values.type) or not values.null_count:
        return np.zeros(0, bool)
    row = np.repeat(np.arange(len(lists)), np.asarray(lists.value_lengths()))
    return np.bincount(row[np.asarray(values.is_null())], minlength=len(lists)) > 0


def is_text(kind: pa.DataType) -> bool:
    """Whether this is a type of strings."""
    return kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether NumPy has this very type."""
    is_utc = kinds.is_timestamp(kind) and kind.tz is None
    is_number = kinds.is_boolean(kind) or kinds.is_integer(kind) or kinds.is_floating(kind)
    return is_number or is_utc or kinds.is_date32(kind) or kinds.is_duration(kind)


def _numbers(column: pa.Array) -> pa.Array:
    """What lists in lists hold, one number after the other, if every list has the length that the type says."""
    shape, _ = shape_inside(column.type)
    sizes = (math.prod(shape),) if isinstance(column.type, pa.FixedShapeTensorType) else shape
    lists = column.storage if isinstance(column, pa.ExtensionArray) else column
    for size in sizes:
        if lists.null_count or not np.all(np.asarray(lists.value_lengths()) == size):
            raise ValueError(f"a value is missing, or is not of shape {shape}")
        lists = lists.flatten()
    return lists
