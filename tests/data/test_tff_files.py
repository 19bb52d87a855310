"""TFF's files: the real HDF5 ones, and SQLite ones made here in TFF's layout."""

import lzma
import pickle
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.data.datasets import _tff, shakespeare
from fedloom.data.datasets._tff import decompress, example_bytes, read_hdf5, read_sqlite, read_tff

KING = "THE_TRAGEDY_OF_KING_LEAR_KING"

# Client ids that would break out of a carelessly quoted query or path.
CLIENTS = {"O'BRIEN\"; --": [b"one", b"", b"caf\xc3\xa9"], "../%20?x": [b"\xff four"], "EMPTY": []}


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def example(values: list[bytes], name: str = "snippets", other: bytes = b"") -> bytes:
    """A serialized tf.train.Example with one feature, besides what `other` holds of it."""
    bytes_list = b"".join(field(1, value) for value in values)
    return field(1, other + field(1, field(1, name.encode()) + field(2, field(1, bytes_list))))


def write_sqlite(path: Path, clients=CLIENTS, *, serialize=lambda snippet: example([snippet])) -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)")
        db.execute("CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER)")
        for split in ("train", "test"):
            for client, snippets in clients.items():
                held = snippets if split == "train" else snippets[:1]
                db.execute("INSERT INTO client_metadata VALUES (?, ?, ?)", (client, split, len(held)))
                rows = [(split, client, serialize(snippet)) for snippet in held]
                db.executemany("INSERT INTO examples VALUES (?, ?, ?)", rows)
        db.commit()
    return path


def write_hdf5(path: Path, clients=CLIENTS) -> Path:
    with h5py.File(path, "w") as root:
        for client, snippets in clients.items():
            root[f"examples/{client.replace('/', '_')}/snippets"] = np.array(snippets, "S8")
    return path


# --- the real files


@pytest.fixture(scope="module")
def real(tff_folder):
    return shakespeare("tff", path=tff_folder)


def test_the_real_files_have_the_documented_sizes(real):
    train, test = real
    assert train.client_ids == test.client_ids == tuple(sorted(train.client_ids))
    assert len(train) == 715
    assert (sum(train.sizes.values()), sum(test.sizes.values())) == (16068, 2356)


def test_the_real_snippets(real):
    train, test = real
    assert train[KING]["snippets"][0].startswith("Live regist'red upon our brazen tombs")
    empty = [sum(not snippet for client in split.values() for snippet in client["snippets"]) for split in real]
    assert empty == [150, 45]
    assert all(len(test[client]["snippets"]) == size for client, size in test.sizes.items())


# --- SQLite


@pytest.mark.parametrize("compressed", [False, True])
def test_sqlite_in_tffs_layout(tmp_path, compressed):
    path = write_sqlite(tmp_path / "a ?#%41.sqlite")
    if compressed:
        (tmp_path / "b.sqlite.lzma").write_bytes(lzma.compress(path.read_bytes()))
        path = tmp_path / "b.sqlite.lzma"
    train, test = shakespeare("tff", path=path, cache_dir=tmp_path / "cache")
    assert train.client_ids == test.client_ids == tuple(sorted(CLIENTS))
    assert dict(train.sizes) == {client: len(snippets) for client, snippets in CLIENTS.items()}
    assert train["O'BRIEN\"; --"]["snippets"].tolist() == ["one", "", "café"]
    assert test["O'BRIEN\"; --"]["snippets"].tolist() == ["one"]
    assert train["../%20?x"]["snippets"].tolist() == ["\ufffd four"]
    assert train["EMPTY"]["snippets"].shape == (0,)
    assert all(train[client]["snippets"].dtype == object for client in train)


def test_sqlite_in_a_folder_that_cannot_be_written_to(tmp_path):
    path = write_sqlite(tmp_path / "x.sqlite")
    before = path.read_bytes()
    tmp_path.chmod(0o500)
    try:
        assert len(read_sqlite(path, "train")) == 3
    finally:
        tmp_path.chmod(0o700)
    assert path.read_bytes() == before


@pytest.mark.parametrize("form", [lzma.FORMAT_XZ, lzma.FORMAT_ALONE])
def test_lzma_is_decompressed_once_per_content(tmp_path, form, monkeypatch):
    path, cache = tmp_path / "x.sqlite.lzma", tmp_path / "cache"
    (tmp_path / "x.sqlite").write_bytes(b"not what is in the .lzma")
    path.write_bytes(lzma.compress(b"first" * 1000, form))
    first = decompress(path, cache_dir=cache)
    assert first.read_bytes() == b"first" * 1000
    monkeypatch.setattr(lzma, "LZMADecompressor", None)
    assert decompress(path, cache_dir=cache) == first
    monkeypatch.undo()
    path.write_bytes(lzma.compress(b"second", form))
    assert decompress(path, cache_dir=cache).read_bytes() == b"second"
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "trailing", "noise", "empty", "bomb"])
def test_damaged_lzma(tmp_path, damage, monkeypatch):
    good = lzma.compress(bytes(range(256)) * 100)
    damaged = {"truncated": good[:-9], "trailing": good + b"x", "noise": b"\x93" * 999, "empty": b"", "bomb": good}
    if damage == "bomb":
        monkeypatch.setattr(_tff, "_MAX_DATABASE_BYTES", 1000)
    path = tmp_path / "x.sqlite.lzma"
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=r"x\.sqlite\.lzma must be a database under LZMA"):
        read_tff(path, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_truncated_sqlite(tmp_path):
    whole = write_sqlite(tmp_path / "x.sqlite").read_bytes()
    for size in (0, 50, 4096, len(whole) - 4096):
        (tmp_path / "x.sqlite").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"x\.sqlite must be TFF's SQLite file"):
            for split in read_tff(tmp_path / "x.sqlite"):
                _ = [split[client] for client in split]


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE client_metadata",
        "ALTER TABLE examples RENAME COLUMN split_name TO split",
        "ALTER TABLE examples RENAME TO e; CREATE VIEW examples AS SELECT * FROM e",
        "UPDATE client_metadata SET num_examples = -1",
        "UPDATE client_metadata SET num_examples = 9223372036854775807",
        "UPDATE client_metadata SET num_examples = 'many'",
        "UPDATE client_metadata SET client_id = x'41'",
        "UPDATE client_metadata SET client_id = 'twice'",
        "DELETE FROM client_metadata",
        "UPDATE client_metadata SET num_examples = num_examples + 1",
        "UPDATE client_metadata SET num_examples = 0",
        "PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = CAST(x'43ff' AS TEXT)",
        "UPDATE examples SET serialized_example_proto = 'text'",
        "UPDATE examples SET serialized_example_proto = NULL",
        "UPDATE examples SET serialized_example_proto = x'0affff'",
    ],
)
def test_sqlite_of_another_layout(tmp_path, change):
    path = write_sqlite(tmp_path / "x.sqlite")
    with closing(sqlite3.connect(path)) as db:
        db.executescript(change)
    with pytest.raises(ValueError, match=r"x\.sqlite must "):
        for split in read_tff(path):
            _ = [split[client] for client in split]


def test_oversized_examples(tmp_path, monkeypatch):
    path = write_sqlite(tmp_path / "x.sqlite", {"A": [bytes(5000), bytes(5000)]})
    monkeypatch.setattr(_tff, "_MAX_CLIENT_BYTES", 9000)
    with pytest.raises(ValueError, match=r"more than 9000 bytes for client 'A'"):
        read_sqlite(path, "train")["A"]
    monkeypatch.setattr(_tff, "_MAX_EXAMPLE_BYTES", 1000)
    with pytest.raises(ValueError, match="too big"):
        read_sqlite(path, "train")["A"]


def test_two_snippets_in_an_example_are_refused(tmp_path):
    path = write_sqlite(tmp_path / "x.sqlite", serialize=lambda snippet: example([snippet, snippet]))
    with pytest.raises(ValueError, match="with one snippet"):
        read_sqlite(path, "train")["../%20?x"]


def test_an_unknown_split(tmp_path):
    with pytest.raises(ValueError, match="split must be one of"):
        read_sqlite(write_sqlite(tmp_path / "x.sqlite"), "heldout")


# --- HDF5


def test_hdf5_in_tffs_layout(tmp_path):
    data = read_hdf5(write_hdf5(tmp_path / "x.h5"))
    assert dict(data.sizes) == {"..__%20?x".replace("__", "_"): 1, "EMPTY": 0, "O'BRIEN\"; --": 3}
    assert data["O'BRIEN\"; --"]["snippets"].tolist() == ["one", "", "café"]
    assert data["EMPTY"]["snippets"].shape == (0,)


def test_readers_can_be_pickled(tmp_path):
    """Workers in other processes are handed the data set, not an open file."""
    for read in (
        read_hdf5(write_hdf5(tmp_path / "x.h5"))._read,
        read_sqlite(write_sqlite(tmp_path / "x"), "train")._read,
    ):
        assert pickle.loads(pickle.dumps(read))("EMPTY")["snippets"].shape == (0,)


def external_link(root):
    root["examples/B/snippets"] = h5py.ExternalLink("secret.h5", "/x")


def soft_link(root):
    root["examples/B"] = h5py.SoftLink("/examples/EMPTY")


def linked_examples(root):
    del root["examples"]
    root["examples"] = h5py.ExternalLink("secret.h5", "/")


def external_storage(root):
    root.create_dataset("examples/B/snippets", (1,), "S4", external=[("secret.h5", 0, 4)])


def virtual(root):
    layout = h5py.VirtualLayout((1,), "S4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (1,))
    root.create_virtual_dataset("examples/B/snippets", layout)


def huge(root):
    root.create_dataset("examples/B/snippets", (1 << 50,), "S8", chunks=(1 << 10,))


def numbers(root):
    root["examples/B/snippets"] = [1.0]


def matrix(root):
    root["examples/B/snippets"] = np.array([[b"x"]])


def scalar(root):
    root["examples/B/snippets"] = np.bytes_(b"x")


def no_snippets(root):
    root.create_group("examples/B")


def client_is_a_dataset(root):
    root["examples/B"] = [1.0]


def no_examples(root):
    del root["examples"]


def no_clients(root):
    del root["examples"]
    root.create_group("examples")


@pytest.mark.parametrize(
    "spoil",
    [
        *(external_link, soft_link, linked_examples, external_storage, virtual, huge, numbers, matrix, scalar),
        *(no_snippets, client_is_a_dataset, no_examples, no_clients),
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_hostile_hdf5(tmp_path, spoil):
    with h5py.File(tmp_path / "secret.h5", "w") as root:
        root["x"] = np.array([b"mine"])
    path = write_hdf5(tmp_path / "x.h5")
    with h5py.File(path, "a") as root:
        spoil(root)
    with pytest.raises(ValueError, match=r"x\.h5 must "):
        read_hdf5(path)


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_truncated_hdf5(tmp_path, size):
    path = write_hdf5(tmp_path / "x.h5")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"x\.h5 must be TFF's HDF5 file .* cannot be read"):
        read_hdf5(path)


# --- paths


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"shakespeare_train\.h5"):
        shakespeare("tff", path=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.sqlite"):
        shakespeare("tff", path=tmp_path / "nowhere.sqlite")


def test_without_a_path_the_official_file_is_fetched(tmp_path, monkeypatch):
    asked = {}

    def fake_fetch(url, **kwargs):
        asked.update(kwargs, url=url)
        (tmp_path / "f.lzma").write_bytes(lzma.compress(write_sqlite(tmp_path / "f").read_bytes()))
        return tmp_path / "f.lzma"

    monkeypatch.setattr(_tff, "fetch", fake_fetch)
    train, _ = shakespeare("tff", cache_dir=tmp_path / "cache")
    assert len(train) == 3
    assert asked["url"].endswith("tff-datasets-public/shakespeare.sqlite.lzma")
    assert (len(asked["sha256"]), asked["size"]) == (64, 1329828)


# --- tf.train.Example


@given(st.lists(st.binary(max_size=300)), st.text(max_size=20), st.binary(max_size=9), st.integers(0, 2**64 - 1))
def test_what_is_encoded_is_decoded(values, name, noise, number):
    int64_list = field(3, field(1, varint(number)))
    other = field(1, field(1, b"other" + name.encode()) + field(2, int64_list))
    # Unknown fields of every wire type, as a later version of the format may add.
    unknown = varint(9 << 3) + varint(number) + field(77, noise) + varint(5 << 3 | 5) + b"1234" + varint(8 << 3 | 1) + b"8" * 8
    assert example_bytes(unknown + example(values, name, other) + unknown, name) == values


def test_the_encoding_is_that_of_tensorflow():
    """The bytes of `tf.train.Example` for {"snippets": [b"ab"]}, by hand from the format's description."""
    assert example([b"ab"]) == b"\x0a\x14\x0a\x12\x0a\x08snippets\x12\x06\x0a\x04\x0a\x02ab"


def test_the_last_entry_of_a_key_counts():
    assert example_bytes(example([b"old"]) + example([b"new"]), "snippets") == [b"new"]


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_value_error(message):
    with suppress(ValueError):
        assert all(isinstance(value, bytes) for value in example_bytes(message, "snippets"))


@given(st.data())
def test_a_damaged_message_decodes_or_raises_value_error(data):
    message = bytearray(example([b"some", b"snippets"]))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(message)))
    with suppress(ValueError):
        example_bytes(bytes(message[:length]), "snippets")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", "no byte strings named 'snippets'"),
        (example([b"x"], "label"), "no byte strings named 'snippets'"),
        (example([b"x"])[:-1], "a field of"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "a field of 18446744073709551615 bytes"),
        (b"\xff" * 11, "no varint"),
        (b"\xff" * 9 + b"\x02", "no varint"),
        (b"\x80", "no varint"),
        (b"\x00\x00", "field number 0"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x08\x01", "wire type 0 instead of 2"),
    ],
)
def test_malformed_messages(message, expected):
    with pytest.raises(ValueError, match=expected):
        example_bytes(message, "snippets")
