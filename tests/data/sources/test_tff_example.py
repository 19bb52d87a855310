"""`tf.train.Example`: what is encoded is decoded, in any encoding that the format allows, and any other bytes are refused."""

import struct
from contextlib import suppress

import numpy as np
import pytest
from data.tff_layout import feature, field, serialized, varint
from hypothesis import given
from hypothesis import strategies as st

from fedloom.data.sources._features import Feature
from fedloom.data.sources._tff_example import Values, column, infer, parse, varints

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32)
NAMES = st.text(max_size=20)

# Fields that a later version of the format may add, one of every wire type.
UNKNOWN = field(77, b"noise") + varint(9 << 3) + varint(2**64 - 1) + varint(5 << 3 | 5) + b"1234" + varint(8 << 3 | 1) + b"8" * 8


def entry(name: bytes, value: bytes) -> bytes:
    """A message with one entry of the map."""
    return field(1, field(1, field(1, name) + field(2, value)))


def one(message: bytes, name: str, dtype: str) -> list:
    (row,) = column([parse(message)[name]], Feature(dtype, (None,)))
    return row.tolist()


def test_the_encoding_is_that_of_tensorflow():
    """`tf.train.Example` for {"snippets": [b"ab"]}, {"y": [1.0]} and {"y": [-1, 300]}, by hand from the format's description."""
    assert serialized({"snippets": b"ab"}) == b"\x0a\x14\x0a\x12\x0a\x08snippets\x12\x06\x0a\x04\x0a\x02ab"
    assert serialized({"y": 1.0}) == b"\x0a\x0f\x0a\x0d\x0a\x01y\x12\x08\x12\x06\x0a\x04\x00\x00\x80\x3f"
    minus_one = b"\xff" * 9 + b"\x01"
    assert serialized({"y": [-1, 300]}) == b"\x0a\x17\x0a\x15\x0a\x01y\x12\x10\x1a\x0e\x0a\x0c" + minus_one + b"\xac\x02"


@given(st.lists(st.binary(max_size=300)), NAMES)
def test_byte_strings(values, name):
    assert parse(UNKNOWN + serialized({f"other{name}": 3, name: values}) + UNKNOWN)[name] == Values(1, values)


@given(st.lists(INT64), st.booleans())
def test_integers(values, packed):
    message = entry(b"y", feature(np.array(values, np.int64), packed=packed) + UNKNOWN)
    assert one(message, "y", "int64") == values


@given(st.lists(FLOAT32, min_size=1), st.booleans())
def test_floats(values, packed):
    message = entry(b"y", feature(np.array(values, np.float32), packed=packed) + UNKNOWN)
    np.testing.assert_array_equal(one(message, "y", "float32"), np.array(values, np.float32))


def test_packed_and_unpacked_numbers_mixed():
    """The format allows both in one list, and a list in pieces, which are joined."""
    ints = field(3, field(1, varint(1) + varint(300)) + varint(1 << 3) + varint(7)) + field(3, field(1, b"") + field(1, varint(9)))
    assert one(entry(b"y", ints), "y", "int64") == [1, 300, 7, 9]
    floats = field(2, field(1, struct.pack("<2f", 1, 2)) + varint(1 << 3 | 5) + struct.pack("<f", 3))
    assert one(entry(b"y", floats), "y", "float32") == [1, 2, 3]


def test_the_last_entry_of_a_key_and_the_last_kind_of_a_value_count():
    assert parse(serialized({"x": b"old"}) + serialized({"x": b"new"}))["x"].parts == [b"new"]
    assert parse(entry(b"x", feature(b"text") + feature(3)))["x"] == Values(3, [b"\x03"])
    assert parse(field(1, field(1, b""))) == {"": Values()}  # an entry of the map with neither key nor value


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_value_error(message):
    with suppress(ValueError):
        assert all(isinstance(part, bytes) for values in parse(message).values() for part in values.parts)


@given(st.data(), st.booleans())
def test_a_damaged_message_decodes_or_raises_value_error(data, packed):
    message = bytearray(serialized({"text": [b"some", b"text"], "x": [1.5, 2.5], "y": [1, -300, 7]}, packed=packed))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(message)))
    with suppress(ValueError):
        for values in parse(bytes(message[:length])).values():
            column([values], infer([values]))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (serialized({"snippets": b"x"})[:-1], "a field of"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "a field of 18446744073709551615 bytes"),
        (b"\x0a", "no varint"),
        (b"\xff" * 11, "no varint"),
        (b"\xff" * 9 + b"\x02", "no varint"),
        (b"\x80", "no varint"),
        (b"\x00\x00", "field number 0"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x08\x01", "wire type 0 instead of 2"),
        (b"\x4d123", "a field of 4 bytes"),
        (entry(b"\xff", b""), "utf-8"),
        (entry(b"y", field(2, field(1, b"12345"))), "5 bytes of floats"),
        (entry(b"y", field(3, field(1, b"\x80"))), "integers that end within one"),
        (entry(b"y", field(3, varint(1 << 3 | 5) + b"1234")), "wire type 5 instead of 0"),
        (entry(b"y", field(2, varint(1 << 3) + b"\x01")), "wire type 0 instead of 5"),
        (entry(b"y", field(1, varint(1 << 3) + b"\x01")), "wire type 0 instead of 2"),
    ],
)
def test_malformed_messages(message, expected):
    with pytest.raises(ValueError, match=expected):
        parse(message)


# --- varints


@given(st.lists(INT64, max_size=50))
def test_varints_are_those_of_the_encoder(values):
    numbers, last = varints(b"".join(varint(value % 2**64) for value in values))
    assert numbers.tolist() == values
    assert last.tolist() == [sum(len(varint(value % 2**64)) for value in values[: i + 1]) - 1 for i in range(len(values))]


def test_varints_may_be_longer_than_they_must():
    assert varints(b"\x81\x80\x00\x05")[0].tolist() == [1, 5]


@pytest.mark.parametrize("data", [b"\x80", b"\x01\x80", b"\x80" * 10 + b"\x00", b"\xff" * 9 + b"\x02"])
def test_bad_varints(data):
    with pytest.raises(ValueError, match="an integer of more than 64 bits|integers that end within one"):
        varints(data)


# --- columns


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        ([b"a", b"caf\xc3\xa9"], ("str", ())),
        ([b"a", b"\xff"], ("bytes", ())),
        ([1, -5], ("int64", ())),
        ([1.0, 2.0], ("float32", ())),
        ([[1, 2], [3, 4]], ("int64", (2,))),
        ([[1, 2], [3]], ("int64", (None,))),
        ([np.zeros(0, np.float32)] * 2, ("float32", (None,))),
    ],
)
def test_what_a_column_holds_is_found_out(examples, expected):
    assert infer([parse(serialized({"x": value}))["x"] for value in examples]) == expected


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        ([b"a", 1], "byte strings and integers in its examples"),
        ([[b"a", b"b"]], "2 byte strings in example 0"),
        ([b"a", []], "0 byte strings in example 1"),
    ],
)
def test_what_is_no_column(examples, expected):
    with pytest.raises(ValueError, match=expected):
        infer([parse(serialized({"x": value}))["x"] for value in examples])


def test_an_example_without_the_feature_is_found():
    with pytest.raises(ValueError, match="nothing and integers"):
        infer([parse(serialized({"x": 1}))["x"], Values()])
    with pytest.raises(ValueError, match="nothing in example 1 where int64"):
        column([parse(serialized({"x": 1}))["x"], Values()], Feature("int64", ()))


@given(st.lists(st.lists(st.integers(0, 300), min_size=6, max_size=6), max_size=5))
def test_numbers_in_the_shape_asked_for(rows):
    values = column([Values(3, [varint(number) for number in row]) for row in rows], Feature("int32", (2, 3)))
    assert (values.shape, values.dtype) == ((len(rows), 2, 3), np.int32)
    assert values.reshape(-1).tolist() == [number for row in rows for number in row]


def test_ragged_numbers():
    rows = [parse(serialized({"x": value}))["x"] for value in ([300, 2], 4, [5, 600, 7])]
    values = column(rows, Feature("int64", (None,)))
    assert [row.tolist() for row in values] == [[300, 2], [4], [5, 600, 7]]


@pytest.mark.parametrize(
    ("value", "feature", "expected"),
    [
        ([1, 2, 3], Feature("int64", (2,)), "3 numbers in example 0 where int64 \\(2,\\)"),
        (256, Feature("uint8", ()), "int64 with values that uint8 cannot hold"),
        (-1, Feature("uint64", ()), "cannot hold"),
        (2, Feature("bool", ()), "cannot hold"),
        (2**24 + 1, Feature("float32", ()), "cannot hold"),
        (0.5, Feature("int64", ()), "float32 with values that int64"),
        (0.1, Feature("float16", ()), "cannot hold"),
        (0.5, Feature("str", ()), "floats in example 0 where str"),
        (b"x", Feature("float32", ()), "1 byte strings in example 0 where float32"),
    ],
)
def test_values_that_do_not_fit(value, feature, expected):
    with pytest.raises(ValueError, match=expected):
        column([parse(serialized({"x": value}))["x"]], feature)


@pytest.mark.parametrize(
    ("value", "dtype"), [(255, "uint8"), (1, "bool"), (-(2**24), "float32"), (0.5, "float16"), (float("nan"), "float16"), (0.1, "float64")]
)
def test_values_that_fit(value, dtype):
    made = column([parse(serialized({"x": value}))["x"]], Feature(dtype, ()))
    assert made.dtype == dtype
    np.testing.assert_array_equal(made.astype(np.float64), np.array([value]).astype(np.float32))
