"""Databases in TFF's layout, made here."""

import lzma
import pickle
import sqlite3
from contextlib import closing, suppress

import numpy as np
import pytest
from data.tff_layout import serialized, write_sqlite

from fedloom.data.sources import _sqlite, _tff_sqlite, from_tff_sqlite

# Client ids that would break out of a carelessly quoted query or path.
TEXTS = {"O'BRIEN\"; --": [b"one", b"", b"caf\xc3\xa9"], "../%20?x": [b"\xff four"], "EMPTY": [], "007": [b"bond"]}
TRAIN = {client: [{"snippets": text} for text in texts] for client, texts in TEXTS.items()}
SPLITS = {"train": TRAIN, "test": {client: examples[:1] for client, examples in TRAIN.items()}}
TEXT = {"snippets": ("str", ())}


def read_all(path, **arguments):
    for split in SPLITS:
        data = from_tff_sqlite(path, split, **arguments)
        for client in data:
            data[client]


@pytest.mark.parametrize("suffix", ["", ".lzma", ".xz"])
def test_tffs_layout(tmp_path, suffix):
    path = write_sqlite(tmp_path / "a ?#%41.sqlite", SPLITS)
    if suffix:
        path = path.rename(tmp_path / "plain")
        path = tmp_path / f"a ?#%41.sqlite{suffix}"
        path.write_bytes(lzma.compress((tmp_path / "plain").read_bytes()))
    train, test = (from_tff_sqlite(path, split, features=TEXT, cache_dir=tmp_path / "cache") for split in SPLITS)
    assert train.name == "a ?#%41 train"
    assert train.client_ids == test.client_ids == tuple(sorted(TEXTS))
    assert dict(train.sizes) == {client: len(texts) for client, texts in TEXTS.items()}
    assert train["O'BRIEN\"; --"]["snippets"].tolist() == ["one", "", "café"]
    assert test["O'BRIEN\"; --"]["snippets"].tolist() == ["one"]
    assert train["../%20?x"]["snippets"].tolist() == ["\ufffd four"]
    assert train["EMPTY"]["snippets"].shape == (0,)
    assert all(train[client]["snippets"].dtype == object for client in train)


def test_bytes_stay_as_they_are(tmp_path):
    data = from_tff_sqlite(write_sqlite(tmp_path / "x.sqlite", SPLITS), "train", features={"snippets": ("bytes", ())})
    assert {client: columns["snippets"].tolist() for client, columns in data.items()} == TEXTS


def test_columns_of_every_kind_are_found_out(tmp_path):
    examples = [{"pixels": np.array([i, 0.5], np.float32), "label": -i, "title": f"no {i}", "tokens": [1] * i} for i in (1, 2)]
    data = from_tff_sqlite(write_sqlite(tmp_path / "x.sqlite", {"only": {"a": [], "b": examples}}))
    assert data.name == "x only"
    assert list(data["b"]) == ["label", "pixels", "title", "tokens"]
    np.testing.assert_array_equal(data["b"]["pixels"], np.array([[1, 0.5], [2, 0.5]], np.float32))
    assert data["b"]["label"].tolist() == [-1, -2]
    assert data["b"]["title"].tolist() == ["no 1", "no 2"]
    assert [row.tolist() for row in data["b"]["tokens"]] == [[1], [1, 1]]
    assert {name: (column.dtype, column.shape) for name, column in data["a"].items()} == {
        "label": (np.int64, (0,)),
        "pixels": (np.float32, (0, 2)),
        "title": (object, (0,)),
        "tokens": (object, (0,)),
    }


def test_features_choose_columns_dtypes_and_shapes(tmp_path):
    examples = [{"image": np.arange(12), "label": 5, "extra": b"x"}]
    path = write_sqlite(tmp_path / "x.sqlite", {"train": {"a": examples}})
    columns = from_tff_sqlite(path, features={"image": ("uint8", (2, 2, 3)), "label": ("int32", ())})["a"]
    np.testing.assert_array_equal(columns["image"], np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3))
    assert (list(columns), columns["image"].dtype, columns["label"].dtype) == (["image", "label"], np.uint8, np.int32)


@pytest.mark.parametrize(
    "features",
    [
        {"x": "float32"},
        {"x": ("float32",)},
        {"x": ("object", ())},
        {"x": ("complex64", ())},
        {"x": ("no such", ())},
        {"x": ("str", (2,))},
        {"x": ("int64", (-1,))},
        {"x": ("int64", (2, None))},
        {"x": ("int64", 3)},
        {},
    ],
)
def test_bad_features(tmp_path, features):
    with pytest.raises(ValueError, match="features.* must "):
        from_tff_sqlite(write_sqlite(tmp_path / "x.sqlite", SPLITS), "train", features=features)


def test_a_client_unlike_the_first_is_named(tmp_path):
    path = write_sqlite(tmp_path / "x.sqlite", {"train": {"a": [{"x": 1}], "b": [{"x": 1}, {"x": [1, 2]}], "c": [{"y": 1}]}})
    data = from_tff_sqlite(path)
    with pytest.raises(ValueError, match=r"x\.sqlite has, in column 'x' of client 'b', 2 numbers in example 1 .*`features=`"):
        data["b"]
    with pytest.raises(ValueError, match=r"column 'x' of client 'c', nothing in example 0"):
        data["c"]


def test_nothing_to_find_columns_in(tmp_path):
    path = write_sqlite(tmp_path / "x.sqlite", {"train": {"a": []}, "test": {"b": [b""]}})
    with pytest.raises(ValueError, match=r"no example in split 'train' .* Pass `features=`"):
        from_tff_sqlite(path, "train")
    with pytest.raises(ValueError, match=r"its first client, 'b', have none"):
        from_tff_sqlite(path, "test")
    assert from_tff_sqlite(path, "train", features=TEXT)["a"]["snippets"].shape == (0,)


@pytest.mark.parametrize("split", [None, "heldout"])
def test_splits_are_listed(tmp_path, split):
    with pytest.raises(ValueError, match=r"split must be one of \['test', 'train'\]"):
        from_tff_sqlite(write_sqlite(tmp_path / "x.sqlite", SPLITS), split)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing at .*nowhere\.sqlite"):
        from_tff_sqlite(tmp_path / "nowhere.sqlite")
    with pytest.raises(FileNotFoundError, match="a folder at"):
        from_tff_sqlite(tmp_path)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    path = write_sqlite(tmp_path / "x.sqlite", SPLITS)
    before = path.read_bytes()
    tmp_path.chmod(0o500)
    try:
        assert len(from_tff_sqlite(path, "train", features=TEXT)) == 4
    finally:
        tmp_path.chmod(0o700)
    assert path.read_bytes() == before


def test_it_can_be_pickled_without_the_population(tmp_path):
    """Workers in other processes are handed a path, not an open file; and a reader does not carry a million ids."""
    path = write_sqlite(tmp_path / "x.sqlite", {"train": {f"{i:040}": [{"x": i}] for i in range(200)}})
    sent = pickle.dumps(from_tff_sqlite(path)._read)
    assert pickle.loads(sent)(f"{7:040}")["x"].tolist() == [7]
    assert len(sent) < 1000


# --- files that are not what they should be


def test_truncated(tmp_path):
    whole = write_sqlite(tmp_path / "x.sqlite", SPLITS).read_bytes()
    for size in (0, 50, 4096, len(whole) - 4096):
        (tmp_path / "x.sqlite").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"x\.sqlite must be TFF's SQLite file"):
            read_all(tmp_path / "x.sqlite", features=TEXT)


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE client_metadata",
        "DROP TABLE examples",
        "ALTER TABLE examples RENAME COLUMN split_name TO split",
        "ALTER TABLE examples RENAME TO e; CREATE VIEW examples AS SELECT * FROM e",
        "DROP TABLE examples; CREATE VIRTUAL TABLE examples USING fts5(split_name, client_id, serialized_example_proto)",
        "DROP TABLE client_metadata; CREATE TABLE client_metadata (client_id, split_name, n, num_examples AS (abs(n)))",
        "UPDATE client_metadata SET num_examples = -1",
        "UPDATE client_metadata SET num_examples = 9223372036854775807",
        "UPDATE client_metadata SET num_examples = 'many'",
        "UPDATE client_metadata SET client_id = x'41'",
        "UPDATE client_metadata SET client_id = CAST(x'ff' AS TEXT)",
        "UPDATE client_metadata SET client_id = 'twice'",
        "UPDATE client_metadata SET split_name = x'41'",
        "DELETE FROM client_metadata",
        "UPDATE client_metadata SET num_examples = num_examples + 1",
        "UPDATE client_metadata SET num_examples = 0",
        "PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = CAST(x'43ff' AS TEXT)",
        "UPDATE examples SET serialized_example_proto = 'text'",
        "UPDATE examples SET serialized_example_proto = 7",
        "UPDATE examples SET serialized_example_proto = x'0affff'",
    ],
)
def test_another_layout(tmp_path, change):
    path = write_sqlite(tmp_path / "x.sqlite", SPLITS)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(change)
    with pytest.raises(ValueError, match=r"x\.sqlite must be TFF's SQLite file.* Get the file again"):
        read_all(path, features=TEXT)


def test_the_message_names_the_compressed_file(tmp_path):
    path = write_sqlite(tmp_path / "x", {"train": {"a": [b"\xff"]}})
    (tmp_path / "x.sqlite.lzma").write_bytes(lzma.compress(path.read_bytes()))
    with pytest.raises(ValueError, match=r"x\.sqlite\.lzma must be TFF's .* an example 0 of client 'a' that is no tf\.train\.Example"):
        from_tff_sqlite(tmp_path / "x.sqlite.lzma", cache_dir=tmp_path / "cache")


def test_oversized_examples(tmp_path, monkeypatch):
    data = from_tff_sqlite(write_sqlite(tmp_path / "x.sqlite", {"train": {"A": [{"snippets": bytes(5000)}] * 2}}), features=TEXT)
    monkeypatch.setattr(_tff_sqlite, "_MAX_CLIENT_BYTES", 9000)
    with pytest.raises(ValueError, match=r"more than 9000 bytes for client 'A'"):
        data["A"]
    monkeypatch.setattr(_tff_sqlite, "_MAX_EXAMPLE_BYTES", 1000)
    with pytest.raises(ValueError, match="too big"):
        data["A"]


def test_a_database_that_would_take_for_ever_is_given_up(tmp_path, monkeypatch):
    path = write_sqlite(tmp_path / "x.sqlite", {"train": {f"{i:04}": [] for i in range(3000)}})
    from_tff_sqlite(path, features=TEXT)
    monkeypatch.setattr(_sqlite, "_STEPS", 20)
    monkeypatch.setattr(_sqlite, "_STEPS_PER_BYTE", 0)
    with pytest.raises(ValueError, match="cannot be read: interrupted"):
        from_tff_sqlite(path, features=TEXT)


@pytest.mark.parametrize("seed", range(60))
def test_damage_is_read_or_refused(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = write_sqlite(tmp_path / "x.sqlite", {"train": {c: [serialized({"x": b"abc", "y": [1, -1]})] * 3 for c in "abcdefgh"}})
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    if seed % 4 == 0:
        content = content[: rng.integers(len(content))]
    else:
        # Near the head of a page there is more to damage than in its free space.
        at = rng.integers(len(content) // 4096, size=4) * 4096 + rng.integers([16, 120, 4096, 4096])
        content[at] = rng.integers(256, size=4)
    path.write_bytes(content.tobytes())
    with suppress(ValueError):
        data = from_tff_sqlite(path)
        for client in data:
            with suppress(ValueError):
                data[client]
