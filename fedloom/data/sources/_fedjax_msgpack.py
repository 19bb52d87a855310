"""The columns of a client as FedJAX packs them: a msgpack map of name -> array, arrays as extension types that Flax introduced.

| type | content, msgpack again |
| --- | --- |
| 1, numbers | [shape, name of the dtype, the bytes in C order, little-endian] |
| 4, byte strings | [shape, the list of them] |

fedjax/core/serialization.py in FedJAX 0.0.17. Types 2 and 3 are scalars, which no column is.
Free to change: the bounds. With care: the dtypes; one of objects would be pointers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._columns import object_column

_NUMBERS, _BYTE_STRINGS = 1, 4
_DTYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {"float16", "float32", "float64", "bool"}
_MAX_COLUMNS = 10_000
_MAX_DIMENSIONS = 32


def decode(packed: bytes) -> dict[str, np.ndarray]:
    """The columns in the message.

    Returns:
        Arrays of shape (n, ...), those of byte strings objects of shape (n,). bfloat16, which NumPy has not, becomes float32.

    Raises:
        ValueError: The bytes are no such message.
    """
    import msgpack

    content = _unpacked(packed, raw=False, ext_hook=_array, object_pairs_hook=_distinct, max_map_len=_MAX_COLUMNS, max_array_len=0)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{_shown(content)} instead of a map of columns")
    for name, column in content.items():
        if not isinstance(name, str) or not isinstance(column, np.ndarray):
            got = f"the extension type {column.code}" if isinstance(column, msgpack.ExtType) else _shown(column)
            raise ValueError(f"{got} in column {name!r} instead of an array")
        if column.ndim == 0 or (column.dtype == object and column.ndim != 1):
            raise ValueError(f"an array of shape {column.shape} in column {name!r}")
    return content


def _array(code: int, data: bytes) -> Any:
    import msgpack

    if code == _NUMBERS:
        return _numbers(data)
    if code == _BYTE_STRINGS:
        return _byte_strings(data)
    return msgpack.ExtType(code, data)


def _numbers(data: bytes) -> np.ndarray:
    match _unpacked(data, raw=True, max_array_len=_MAX_DIMENSIONS, max_map_len=0, max_ext_len=0):
        case [list() as shape, bytes() as dtype_name, bytes() as buffer]:
            name = dtype_name.decode()
        case _:
            raise ValueError("an array that is not shape, dtype and bytes")
    if name not in _DTYPES and name != "bfloat16":
        raise ValueError(f"an array of dtype {name!r}; known are {', '.join(sorted(_DTYPES))} and bfloat16")
    dtype = np.dtype("uint16" if name == "bfloat16" else name).newbyteorder("<")
    if _count(shape) * dtype.itemsize != len(buffer):
        raise ValueError(f"{len(buffer)} bytes for an array of {name} of shape {shape}")
    if name == "bool" and buffer.strip(b"\0\1"):
        raise ValueError("booleans other than 0 and 1")
    values = np.frombuffer(buffer, dtype).reshape(shape)
    if name == "bfloat16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(dtype.newbyteorder("="))


def _byte_strings(data: bytes) -> np.ndarray:
    match _unpacked(data, raw=True, max_map_len=0, max_ext_len=0):
        case [list() as shape, list() as values] if all(isinstance(value, bytes) for value in values):
            pass
        case _:
            raise ValueError("an array that is not shape and byte strings")
    if _count(shape) != len(values):
        raise ValueError(f"{len(values)} byte strings for an array of shape {shape}")
    return object_column(values).reshape(shape)


def _count(shape: list[Any]) -> int:
    if len(shape) > _MAX_DIMENSIONS or not all(type(size) is int and 0 <= size < 1 << 40 for size in shape):
        raise ValueError(f"an array of shape {str(shape)[:100]}")
    return math.prod(shape)


def _distinct(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a column twice")
    return made


def _unpacked(data: bytes, **limits: Any) -> Any:
    import msgpack

    try:
        return msgpack.unpackb(data, **limits)
    except (msgpack.UnpackException, msgpack.ExtraData, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"no msgpack: {error}") from error


def _shown(value: object) -> str:
    return f"a {type(value).__name__}"
