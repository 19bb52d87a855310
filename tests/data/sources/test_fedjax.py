"""FedJAX's layout: a file that FedJAX wrote, and files made here.

fedjax.sqlite is what FedJAX 0.0.17 (jax 0.10.2, NumPy 2.4.6) wrote with

    with fedjax.SQLiteFederatedDataBuilder("fedjax.sqlite") as builder:
        builder.add_many(...)

of the clients in WRITTEN, in this order, whose ids were b"bob", b"O'BRIEN\\"; --/007", b"\\xff\\x00" and b"hex:ff00".
"""

import pickle
import sqlite3
import zlib
from contextlib import closing, suppress
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.data.sources import _fedjax, from_fedjax
from fedloom.data.sources._fedjax import to_bytes, to_text
from fedloom.data.sources._fedjax_msgpack import decode

FILE = Path(__file__).with_name("fedjax.sqlite")


def client(x, y, snippets, seen):
    return {
        "x": np.array(x, np.float32).reshape(-1, 2, 2),
        "y": np.array(y, np.int32),
        "snippets": np.array(snippets, object),
        "seen": np.array(seen, bool),
    }


WRITTEN = {
    "bob": client(np.arange(12), [1, -2, 3], [b"one", b"", b"caf\xc3\xa9"], [True, False, True]),
    "O'BRIEN\"; --/007": client(np.zeros(4), [4], [b"\xff"], [False]),
    "hex:ff00": client(np.full(8, np.nan), [5, 6], [b"a", b"b\x00"], [True, True]),
    "hex:6865783a66663030": client([], [], [], []),
}


def test_a_file_that_fedjax_wrote():
    data = from_fedjax(FILE)
    assert data.name == "fedjax"
    assert data.client_ids == tuple(sorted(WRITTEN))
    assert dict(data.sizes) == {name: len(columns["y"]) for name, columns in WRITTEN.items()}
    for name, columns in WRITTEN.items():
        assert list(data[name]) == list(columns)
        for key, values in columns.items():
            np.testing.assert_array_equal(data[name][key], values, strict=True)


@given(st.binary(max_size=12) | st.text(max_size=8).map(str.encode) | st.binary(max_size=4).map(lambda rest: b"hex:" + rest))
def test_ids_can_be_told_apart(raw):
    """Every id has a text, from which it can be made again: so no two have the same."""
    text = to_text(raw)
    assert to_bytes(text) == raw
    assert text.encode().decode() == text
    with suppress(UnicodeDecodeError):
        assert text == raw.decode() or raw.startswith(b"hex:")


def test_it_can_be_pickled():
    read = pickle.loads(pickle.dumps(from_fedjax(FILE)._read))
    assert read("bob")["y"].tolist() == [1, -2, 3]


def test_columns_are_the_readers_own():
    """What is read may be changed without a trace."""
    data = from_fedjax(FILE)
    data["bob"]["x"][:] = 7
    assert data["bob"]["x"][0, 0, 0] == 0


# --- what FedJAX can write besides


def packed(columns) -> bytes:
    return msgpack.packb(columns)


def numbers(dtype: str, shape: list[int], buffer: bytes) -> msgpack.ExtType:
    return msgpack.ExtType(1, msgpack.packb([shape, dtype, buffer]))


def byte_strings(shape: list[int], values: list[object]) -> msgpack.ExtType:
    return msgpack.ExtType(4, msgpack.packb([shape, values]))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float64"])
def test_every_dtype(dtype):
    values = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    decoded = decode(packed({"x": numbers(dtype, [2, 3], values.astype(values.dtype.newbyteorder("<")).tobytes())}))
    np.testing.assert_array_equal(decoded["x"], values, strict=True)


def test_bfloat16_becomes_float32():
    """1.0, -2.0 and 2^-133, its smallest: sign, 8 bits of exponent, 7 of fraction."""
    bits = np.array([0b0_01111111_0000000, 0b1_10000000_0000000, 1], "<u2")
    decoded = decode(packed({"x": numbers("bfloat16", [3], bits.tobytes())}))
    np.testing.assert_array_equal(decoded["x"], np.array([1, -2, 2.0**-133], np.float32), strict=True)


# --- what it should not be

ONE = numbers("int8", [1], b"\x01")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "incomplete input"),
        (packed({"x": ONE})[:-1], "incomplete input"),
        (packed({"x": ONE}) + b"\x00", "extra data"),
        (packed({}), "a dict instead of a map of columns"),
        (packed(7), "a int instead of a map"),
        (packed([ONE]), "exceeds max_array_len"),
        (b"\x91" * 5000, "exceeds max_array_len"),
        (b"\x81\xa1x" * 5000, "no msgpack|nest"),
        (b"\xdf\xff\xff\xff\xff", "exceeds max_map_len"),
        (packed({"x": 7}), "a int in column 'x' instead of an array"),
        (packed({"x": {"y": ONE}}), "a dict in column 'x'"),
        (packed({b"x": ONE}), "column b'x'"),
        (packed({7: ONE}), "not allowed for map key"),
        (b"\x82" + 2 * packed({"x": ONE})[1:], "a column twice"),
        (packed({"x": msgpack.ExtType(3, msgpack.packb([[], "int8", b"\x01"]))}), "extension type 3 in column 'x'"),
        (packed({"x": numbers("int8", [], b"\x01")}), r"an array of shape \(\) in column 'x'"),
        (packed({"x": numbers("object", [1], bytes(8))}), "an array of dtype 'object'; known are"),
        (packed({"x": numbers("O", [1], bytes(8))}), "an array of dtype 'O'"),
        (packed({"x": numbers("i4,O", [1], bytes(8))}), "an array of dtype 'i4,O'"),
        (packed({"x": numbers("complex64", [1], bytes(8))}), "an array of dtype 'complex64'"),
        (packed({"x": numbers("int32", [2], bytes(7))}), r"7 bytes for an array of int32 of shape \[2\]"),
        (packed({"x": numbers("int32", [-1], bytes(8))}), "an array of shape"),
        (packed({"x": numbers("int8", [1 << 62, 4], b"")}), "an array of shape"),
        (packed({"x": numbers("int8", [0, 1 << 39, 1 << 39], b"")}), "array is too big|maximum|too large"),
        (packed({"x": numbers("int8", [1] * 33, b"\x01")}), "exceeds max_array_len"),
        (packed({"x": numbers("bool", [1], b"\x02")}), "booleans other than 0 and 1"),
        (packed({"x": msgpack.ExtType(1, msgpack.packb([[1], "int8"]))}), "not shape, dtype and bytes"),
        (packed({"x": msgpack.ExtType(1, b"\xc1")}), "no msgpack"),
        (packed({"x": byte_strings([2], [b"a"])}), r"1 byte strings for an array of shape \[2\]"),
        (packed({"x": byte_strings([1], [7])}), "not shape and byte strings"),
        (packed({"x": byte_strings([1, 1], [b"a"])}), r"an array of shape \(1, 1\)"),
        (packed({"x": msgpack.ExtType(4, b"\xdd\xff\xff\xff\xff")}), "exceeds max_array_len"),
    ],
)
def test_bad_messages(content, expected):
    with pytest.raises(ValueError, match=expected):
        decode(content)


def write(path: Path, rows) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TABLE federated_data (client_id BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL, num_examples INTEGER NOT NULL)"
        )
        database.executemany("INSERT INTO federated_data VALUES (?, ?, ?)", rows)
        database.commit()
    return path


GOOD = zlib.compress(packed({"x": ONE}))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "no client"),
        ([("text", GOOD, 1)], r"the row \('text', 1\)"),
        ([(b"a", GOOD, -1)], "the row"),
        ([(b"a", GOOD, "many")], "the row"),
        ([(b"a", GOOD, 2)], "1 examples in column 'x' of client 'a' where its row says 2"),
        ([(b"a", "text", 1)], "no data for client 'a'"),
        ([(b"a", b"not zlib", 1)], "data of client 'a' that cannot be read"),
        ([(b"a", GOOD[:-3], 1)], "ends early"),
        ([(b"a", GOOD + b"x", 1)], "more bytes after its end"),
        ([(b"a", zlib.compress(b"\xc1"), 1)], "client 'a' that cannot be read: no msgpack"),
    ],
)
def test_bad_rows(tmp_path, rows, expected):
    path = write(tmp_path / "x.sqlite", rows)
    with pytest.raises(ValueError, match=rf"x\.sqlite must be FedJAX's SQLite file.*{expected}.* Get the file again"):
        from_fedjax(path)["a"]


def test_a_zlib_bomb(tmp_path, monkeypatch):
    path = write(tmp_path / "x.sqlite", [(b"a", zlib.compress(bytes(100_000)), 1)])
    monkeypatch.setattr(_fedjax, "_MAX_CLIENT_BYTES", 50_000)
    with pytest.raises(ValueError, match="client 'a' .* more than 50000 bytes inside"):
        from_fedjax(path)["a"]


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE federated_data",
        "ALTER TABLE federated_data RENAME COLUMN data TO x",
        "ALTER TABLE federated_data RENAME TO e; CREATE VIEW federated_data AS SELECT * FROM e",
    ],
)
def test_another_layout(tmp_path, change):
    path = write(tmp_path / "x.sqlite", [(b"a", GOOD, 1)])
    with closing(sqlite3.connect(path)) as database:
        database.executescript(change)
    with pytest.raises(ValueError, match=r"x\.sqlite must be FedJAX's .* no table federated_data with the columns"):
        from_fedjax(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing at .*nowhere\.sqlite"):
        from_fedjax(tmp_path / "nowhere.sqlite")


@given(st.data())
def test_damaged_messages_decode_or_raise_value_error(data):
    message = bytearray(packed({"x": numbers("int16", [2, 1], b"\x01\x00\x02\x00"), "t": byte_strings([2], [b"one", b""])}))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        assert all(column.ndim for column in decode(bytes(message[: data.draw(st.integers(0, len(message)))])).values())


@pytest.mark.parametrize("seed", range(60))
def test_damaged_files_are_read_or_refused(tmp_path, seed):
    rng = np.random.default_rng(seed)
    content = np.frombuffer(FILE.read_bytes(), np.uint8).copy()
    if seed % 4 == 0:
        content = content[: rng.integers(len(content))]
    else:
        at = rng.integers(len(content) // 4096, size=4) * 4096 + rng.integers([16, 120, 4096, 4096])
        content[at] = rng.integers(256, size=4)
    (tmp_path / "x.sqlite").write_bytes(content.tobytes())
    with suppress(ValueError):
        data = from_fedjax(tmp_path / "x.sqlite")
        for name in data:
            with suppress(ValueError):
                data[name]
