"""`tf.train.Example`, read without TensorFlow: from the serialized messages of a client to its columns.

The wire format of protocol buffers (protobuf.dev/programming-guides/encoding), as far as it goes:

    Example.features = 1;  Features.feature = 1, a map entry with key = 1 and value = 2
    Feature.bytes_list = 1, float_list = 2, int64_list = 3, of which the last one set counts; each has its values in field 1

Numbers come packed, or one field each, or in a mixture; other fields are skipped; of a key's entries the last one counts.
Free to change: how fast. With care: everything is checked, for a message may be made to mislead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .._columns import ragged_column
from ._features import Feature, text_column, with_dtype

_BYTES, _FLOATS, _INTS = 1, 2, 3  # fields of Feature
_KINDS = {0: "nothing", _BYTES: "byte strings", _FLOATS: "floats", _INTS: "integers"}
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # wire types


class Values(NamedTuple):
    """What an example has under one name."""

    kind: int = 0
    parts: Sequence[bytes] = ()  # byte strings; or stretches of little-endian float32, or of varints, to be joined


def parse(message: bytes) -> dict[str, Values]:
    """The features of a serialized example.

    Raises:
        ValueError: The bytes are no such message.
    """
    found: dict[str, Values] = {}
    for number, wire, at, end in _fields(message, 0, len(message)):
        if number == 1:
            _require(number, wire, _DELIMITED)
            for inner, inner_wire, start, stop in _fields(message, at, end):
                if inner == 1:
                    _require(inner, inner_wire, _DELIMITED)
                    _read_entry(message, start, stop, found)
    return found


def _read_entry(message: bytes, at: int, end: int, found: dict[str, Values]) -> None:
    name, values = "", Values()
    for number, wire, start, stop in _fields(message, at, end):
        if number <= 2:
            _require(number, wire, _DELIMITED)
            if number == 1:
                name = message[start:stop].decode()
            else:
                values = _read_feature(message, start, stop, values)
    found[name] = values


def _read_feature(message: bytes, at: int, end: int, before: Values) -> Values:
    kind, parts = before.kind, list(before.parts)
    for number, wire, start, stop in _fields(message, at, end):
        if number <= _INTS:
            _require(number, wire, _DELIMITED)
            if number != kind:
                kind, parts = number, []
            parts += _list_parts(message, start, stop, kind)
    return Values(kind, parts)


def _list_parts(message: bytes, at: int, end: int, kind: int) -> Iterator[bytes]:
    single = {_FLOATS: _FIXED32, _INTS: _VARINT}.get(kind, _DELIMITED)
    for number, wire, start, stop in _fields(message, at, end):
        if number == 1:
            if wire != _DELIMITED:
                _require(number, wire, single)
            elif kind == _FLOATS and (stop - start) % 4:
                raise ValueError(f"{stop - start} bytes of floats of 4 bytes")
            elif kind == _INTS and stop > start and message[stop - 1] >= 0x80:
                raise ValueError(f"integers that end within one, before byte {stop}")
            yield message[start:stop]


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and stop of the content of each field in message[at:end]."""
    while at < end:
        # Most tags and sizes are a single byte.
        if message[at] < 0x80:
            tag, at = message[at], at + 1
        else:
            tag, at = _varint(message, at, end)
        number, wire = tag >> 3, tag & 7
        if not 1 <= number < 1 << 29:
            raise ValueError(f"field number {number} before byte {at}")
        start = at
        if wire == _DELIMITED:
            if at < end and message[at] < 0x80:
                size, start = message[at], at + 1
            else:
                size, start = _varint(message, at, end)
            at = start + size
        elif wire == _VARINT:
            _, at = _varint(message, at, end)
        elif wire == _FIXED32:
            at += 4
        elif wire == _FIXED64:
            at += 8
        else:
            raise ValueError(f"wire type {wire} before byte {at}")
        if at > end:
            raise ValueError(f"a field of {at - start} bytes at byte {start} of {end}")
        yield number, wire, start, at


def _varint(message: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(message[at : min(at + 10, end)]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at + i + 1
    raise ValueError(f"no varint at byte {at} of {end}")


def _require(number: int, wire: int, expected: int) -> None:
    if wire != expected:
        raise ValueError(f"field {number} with wire type {wire} instead of {expected}")


def infer(rows: Sequence[Values]) -> Feature:
    """What a column holds, from its values in some examples.

    One number in each example is a scalar, several are a vector, and where their count varies the column is ragged. Floats are float32,
    integers int64; byte strings are `str` if all of them are UTF-8, else `bytes`.

    Raises:
        ValueError: The examples differ in kind, or have not one byte string each.
    """
    kinds = sorted({row.kind for row in rows})
    if len(kinds) > 1 or kinds == [0]:
        raise ValueError(f"{' and '.join(_KINDS[kind] for kind in kinds)} in its examples")
    if kinds == [_BYTES]:
        for i, row in enumerate(rows):
            if len(row.parts) != 1:
                raise ValueError(f"{len(row.parts)} byte strings in example {i} where there may be one")
        return Feature("str" if all(_is_utf8(row.parts[0]) for row in rows) else "bytes", ())
    _, counts = _numbers(rows, kinds[0])
    count = int(counts[0]) if len(set(counts.tolist())) == 1 else 0
    return Feature("float32" if kinds == [_FLOATS] else "int64", () if count == 1 else (count or None,))


def column(rows: Sequence[Values], feature: Feature) -> np.ndarray:
    """The column of a client, one entry of `rows` per example.

    Returns:
        Shape (n, *feature.shape) of its dtype; text and ragged ones (n,) of objects.

    Raises:
        ValueError: An example has something else; the message says which and what.
    """
    kinds = {_BYTES} if feature.is_text else {_FLOATS, _INTS}
    for i, row in enumerate(rows):
        if row.kind not in kinds or (feature.is_text and len(row.parts) != 1):
            count = f"{len(row.parts)} " if row.kind == _BYTES else ""
            raise ValueError(f"{count}{_KINDS[row.kind]} in example {i} where {feature} is expected")
        kinds = {row.kind}
    if feature.is_text:
        return text_column([row.parts[0] for row in rows], feature.dtype)
    values, counts = _numbers(rows, rows[0].kind if rows else _INTS)
    values = with_dtype(values, feature.dtype)
    if feature.shape == (None,):
        return ragged_column(values, counts)
    shape = tuple(size or 0 for size in feature.shape)
    wrong = np.flatnonzero(counts != np.prod(shape, dtype=np.int64))
    if wrong.size:
        raise ValueError(f"{counts[wrong[0]]} numbers in example {wrong[0]} where {feature} is expected")
    return values.reshape(len(rows), *shape)


def _numbers(rows: Sequence[Values], kind: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of all examples, one after the other, and how many each has."""
    joined = [b"".join(row.parts) for row in rows]
    lengths = np.array([len(part) for part in joined], np.int64)
    if kind == _FLOATS:
        return np.frombuffer(b"".join(joined), "<f4").astype(np.float32), lengths // 4
    numbers, last_bytes = varints(b"".join(joined))
    upto = np.searchsorted(last_bytes, np.cumsum(lengths))  # numbers that end before the end of each example
    return numbers, np.diff(upto, prepend=0)


def varints(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Varints one after the other, as the signed integers of 64 bits that they are in two's complement.

    Returns:
        The numbers, int64 (n,), and where the last byte of each stands, int64 (n,).

    Raises:
        ValueError: One is cut off, or longer than 64 bits.
    """
    stream = np.frombuffer(data, np.uint8)
    last = np.flatnonzero(stream < 0x80)
    if len(last) == len(stream):
        return stream.astype(np.int64), last
    if not len(last) or last[-1] != len(stream) - 1:
        raise ValueError("integers that end within one")
    first = np.concatenate([[0], last[:-1] + 1])
    longest = int((last - first).max()) + 1
    if longest > 10 or (longest == 10 and (stream[last[last - first == 9]] > 1).any()):
        raise ValueError("an integer of more than 64 bits")
    numbers = (stream[first] & 0x7F).astype(np.uint64)
    for i in range(1, longest):
        longer = np.flatnonzero(last - first >= i)
        numbers[longer] |= (stream[first[longer] + i] & 0x7F).astype(np.uint64) << np.uint64(7 * i)
    return numbers.view(np.int64), last


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
