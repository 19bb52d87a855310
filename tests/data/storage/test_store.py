"""fedloom's own form on disk: the same data come back, by any client, and what is not whole is not there."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.data import FederatedDataset
from fedloom.data.storage import StoreWriter, _writer, open_store

# Ids that break out of careless paths, queries or sorting.
IDS = ["o'brien\"; --", "../%20?x", "007", "7", "", "Zoë", "zoe", "\u00e9", "e\u0301", "\U0001f600", "a\nb"]


def equal(left, right):
    """Whether two clients' columns are the same, dtypes included."""
    assert left.keys() == right.keys()
    for name in left:
        a, b = left[name], right[name]
        assert a.dtype == b.dtype and a.shape == b.shape
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))  # row by row: rows may be ragged
    return True


def text(*values):
    column = np.empty(len(values), object)
    column[:] = values
    return column


def pets(num_clients=7):
    rng = np.random.default_rng(0)
    sizes = rng.integers(0, 5, num_clients)
    return FederatedDataset.from_dict(
        {
            client: {"x": rng.normal(size=(n, 2, 3)).astype(np.float32), "y": rng.integers(0, 9, n), "said": text(*"woof"[:n])}
            for client, n in zip(IDS, sizes, strict=False)
        },
        name="pets",
    )


@pytest.fixture
def small_batches(monkeypatch):
    """So that a few examples fill several record batches."""
    monkeypatch.setattr(_writer, "_ROWS_PER_BATCH", 4)


def test_what_is_saved_comes_back(tmp_path, small_batches):
    source = pets()
    saved = source.save(tmp_path / "pets")
    for data in (saved, open_store(tmp_path / "pets")):
        assert data.client_ids == source.client_ids and dict(data.sizes) == dict(source.sizes) and data.name == "pets"
        assert all(equal(data[client], source[client]) for client in source)
    with pytest.raises(KeyError, match="pets has no client 'rex'"):
        saved["rex"]


CLIENTS = st.lists(st.tuples(st.text(max_size=4), st.integers(0, 6)), unique_by=lambda client: client[0], min_size=1, max_size=8)
COLUMN_SETS = st.fixed_dictionaries(
    {"x": hnp.array_shapes(max_dims=2, max_side=3), "kind": st.sampled_from(["i1", "f8", "?", "U", "ragged"]), "rows": st.integers(0, 6)}
)


@settings(max_examples=30)
@given(CLIENTS, COLUMN_SETS, st.booleans())
def test_any_columns_of_any_clients(tmp_path_factory, clients, columns, sort):
    rng = np.random.default_rng(len(clients))

    def column(n):
        if columns["kind"] == "U":
            return text(*(chr(65 + int(i)) * int(i) for i in rng.integers(0, 9, n)))
        if columns["kind"] == "ragged":
            rows = np.empty(n, object)
            for i in range(n):
                rows[i] = rng.normal(size=rng.integers(0, 4))
            return rows
        return (100 * rng.random((n, *columns["x"]))).astype(columns["kind"])

    source = {client: {"x": column(n)} for client, n in clients}
    folder = tmp_path_factory.mktemp("stores") / "any"
    with StoreWriter(folder, sort=sort) as writer:
        for client, examples in source.items():
            writer.add(client, examples)
    data = open_store(folder)
    assert list(data) == (sorted(source) if sort else list(source))
    for client, n in clients:
        assert data.sizes[client] == n
        # Of a client without examples only the count is known where no other tells what objects would be.
        assert equal(data[client], source[client]) or not n


def test_tables_and_clients_may_be_mixed(tmp_path, small_batches):
    with StoreWriter(tmp_path / "mixed") as writer:
        writer.add("one", {"x": np.arange(3), "y": text("a", "b", "c")})
        writer.add_table(
            pa.table({"y": list("defghij"), "x": pa.array(range(7), pa.int32())}), ["two", "none", "three"], np.array([5, 0, 2])
        )
        writer.add("four", {"y": text("k"), "x": np.array([9])})
    data = open_store(tmp_path / "mixed")
    assert dict(data.sizes) == {"one": 3, "two": 5, "none": 0, "three": 2, "four": 1}
    assert {client: (data[client]["x"].tolist(), "".join(data[client]["y"])) for client in data} == {
        "one": ([0, 1, 2], "abc"), "two": ([0, 1, 2, 3, 4], "defgh"), "none": ([], ""), "three": ([5, 6], "ij"), "four": ([9], "k")
    }  # fmt: skip


def test_tables_keep_the_types_that_arrow_has(tmp_path):
    """Also where the first rows do not show them: an empty list of bytes is no list of text."""
    images = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    tags = pa.array([[], [b"a"], [b"b", b"c"]], pa.list_(pa.binary()))
    kinds = pa.array(["x", "y", "x"]).dictionary_encode()
    with StoreWriter(tmp_path / "d") as writer:
        writer.add_table(pa.table({"image": images, "tags": tags, "kind": kinds, "p": [None, 0.5, 1.0]}), ["ada", "bob"], np.array([2, 1]))
    data = open_store(tmp_path / "d")
    assert data["ada"]["image"].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]] and data["ada"]["image"].dtype == np.uint8
    assert [list(row) for row in data["ada"]["tags"]] == [[], [b"a"]] and data["bob"]["kind"].tolist() == ["x"]
    assert np.isnan(data["ada"]["p"][0])
    refused = {"tags": pa.array([[b"a", None]]), "kind": pa.array([None], pa.string()), "z": pa.array([{"a": 1}])}
    for column, values in refused.items():
        with pytest.raises(ValueError, match=f"Column '{column}'"), StoreWriter(tmp_path / "e") as writer:
            writer.add_table(pa.table({column: values}), ["ada"], np.array([1]))


def test_subsets_and_splits_of_what_is_on_disk(tmp_path):
    source = FederatedDataset.from_dict({f"c{i:03d}": {"x": np.arange(i)} for i in range(60)})
    source = source.subset(f"c{7 * i % 60:03d}" for i in range(60))  # not sorted
    data = source.save(tmp_path / "d")
    for make in (
        lambda d: d.filter_sizes(at_least=10, at_most=40),
        lambda d: d.sample(9, seed=3),
        lambda d: d.subset(["c050", "c002"]),
        lambda d: d.split(0.3)[1],
        lambda d: d.split_clients(0.3, seed=1)[0],
        lambda d: d.split_clients(0.3, seed=1)[1],
        lambda d: d.take(3),
        lambda d: d.concat(d.filter_sizes(at_least=50)),
        lambda d: d.filter(lambda columns: columns["x"] % 2 == 0).cache(),
    ):
        want, got = make(source), make(data)
        assert got.client_ids == want.client_ids and list(got.sizes.items()) == list(want.sizes.items())
        assert got.size_array().tolist() == want.size_array().tolist()
        assert all(equal(got[client], want[client]) for client in want)
        assert "c010" not in got or make(data).split(0.5)[0].sizes["c010"] == make(source).split(0.5)[0].sizes["c010"]


def test_readers_pickle_as_a_path(tmp_path):
    data = pets().save(tmp_path / "pets")
    sent = pickle.dumps(data._read)
    assert len(sent) < 1000
    assert all(equal(pickle.loads(sent)(client), data[client]) for client in data)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"x": np.zeros(2, np.float32), "y": text("a", "b")}, "Column 'x' of client 'bob' is float32"),
        ({"x": np.zeros((2, 3), int), "y": text("a", "b")}, r"Column 'x' of client 'bob' is int64 of shape \(2, 3\)"),
        ({"x": np.zeros(2, int), "y": np.zeros(2)}, "Column 'y' of client 'bob' is float64"),
        ({"x": np.zeros(2, int)}, r"Client 'bob' has columns \['x'\], those before it \['x', 'y'\]"),
        ({"x": np.zeros(2, int), "y": text("a")}, "columns of client 'bob' must be equally long"),
        ({"x": np.zeros(2, int), "y": text("a", None)}, "Column 'y' of client 'bob' must hold numbers, text"),
    ],
)
def test_clients_that_differ_are_named_and_nothing_is_left(tmp_path, second, message):
    with pytest.raises(ValueError, match=message), StoreWriter(tmp_path / "d") as writer:
        writer.add("ada", {"x": np.arange(2), "y": text("a", "b")})
        writer.add("bob", second)
    assert list(tmp_path.iterdir()) == []


def test_a_callers_array_may_be_filled_anew(tmp_path):
    row = np.zeros(2)
    with StoreWriter(tmp_path / "d") as writer:
        for i in range(5):
            row[:] = i
            writer.add(str(i), {"x": row})
    data = open_store(tmp_path / "d")
    assert [data[client]["x"].tolist() for client in data] == [[i, i] for i in range(5)]


def test_an_id_must_be_text(tmp_path):
    with pytest.raises(TypeError, match="client_id must be a string, got 7 of type int"), StoreWriter(tmp_path / "d") as writer:
        writer.add(7, {"x": np.zeros(2)})
    assert list(tmp_path.iterdir()) == []


def test_an_id_may_come_once(tmp_path):
    with pytest.raises(ValueError, match="got 'ada' twice"), StoreWriter(tmp_path / "d") as writer:
        for client in ("ada", "bob", "ada"):
            writer.add(client, {"x": np.arange(2)})
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "d").mkdir()
    pets().save(tmp_path / "d")  # an empty folder will do
    with pytest.raises(FileExistsError, match=r"d must not exist yet"):
        pets().save(tmp_path / "d")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        pets().save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="The disk is full: .*d could not be written"), StoreWriter(tmp_path / "d") as writer:
        writer.add("ada", {"x": np.arange(9)})
        writer._flush()
        writer._file = type("Full", (), {"write_batch": full, "close": lambda self: None})()
        writer.add("bob", {"x": np.arange(9)})
    assert list(tmp_path.iterdir()) == []


def test_killed_while_writing_nothing_looks_complete(tmp_path):
    """A process writes without end, and is killed."""
    code = """
import sys, numpy as np
from fedloom.data.storage import StoreWriter, _writer, open_store
with StoreWriter(sys.argv[1]) as writer:
    for i in range(10**9):
        writer.add(str(i), {"x": np.zeros(1000)})
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "d")], cwd=Path(__file__).parents[2])
    while not any(path.stat().st_size > 10**7 for path in tmp_path.glob(".d.*/examples.arrow")):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "d").exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".") and left.name.endswith(".unfinished")
    with pytest.raises(FileNotFoundError, match=r"without fedloom\.json"):
        open_store(left)
    pets().save(tmp_path / "d")  # another try is not in the way of what was left


@pytest.mark.parametrize("name", ["clients.arrow", "examples.arrow", "fedloom.json"])
def test_a_missing_or_truncated_file(tmp_path, name):
    pets().save(tmp_path / "d")
    file = tmp_path / "d" / name
    whole = file.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 2):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=rf"must be a data set as `dataset.save` writes it, got {name}"):
            open_store(tmp_path / "d")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        open_store(tmp_path / "d")


def test_a_store_of_a_later_version(tmp_path):
    pets().save(tmp_path / "d")
    manifest = tmp_path / "d" / "fedloom.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 2}))
    with pytest.raises(ValueError, match="version 2 where this fedloom reads 1"):
        open_store(tmp_path / "d")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes_are_an_error_or_other_values(tmp_path_factory, data):
    """Whatever is damaged: a result of the right shape, or a ValueError; no crash, no other exception."""
    folder = tmp_path_factory.mktemp("fuzz") / "d"
    pets().save(folder)
    file = folder / data.draw(st.sampled_from(["clients.arrow", "examples.arrow", "fedloom.json"]))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        opened = open_store(folder)
        for client in opened:
            assert all(len(column) == opened.sizes[client] for column in opened[client].values())
    except (ValueError, KeyError, FileNotFoundError):
        pass
