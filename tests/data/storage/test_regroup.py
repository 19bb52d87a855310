"""Conversion of rows: equal to reading them into memory, in bounded memory, whole or not at all."""

import csv
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from collections import Counter
from contextlib import closing
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.rows_by_client import CLIENT_IDS, assert_holds, assert_same, grouped, rows
from hypothesis import given, settings
from hypothesis import strategies as st

import fedloom as fl
from fedloom.data import convert, from_csv, from_parquet, from_table
from fedloom.data.sources import _csv, _sql_rows
from fedloom.data.sources._row_pieces import wanted
from fedloom.data.sources._row_sources import row_source
from fedloom.data.storage import _regroup
from fedloom.data.storage._regroup import regroup


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return path


def write_sql(path, rows, *, table="rows", declared="who TEXT, x INTEGER, y REAL, text TEXT", tail=""):
    with closing(sqlite3.connect(path)) as database:
        database.execute(f'CREATE TABLE "{table}" ({declared}){tail}')
        marks = ", ".join("?" * len(rows[0]))
        database.executemany(f'INSERT INTO "{table}" VALUES ({marks})', [tuple(row.values()) for row in rows])
        database.commit()
    return path


def some_rows(count, clients=20):
    rng = random.Random(0)
    return [{"who": f"{rng.randrange(clients):03d}", "x": i, "y": i / 7, "text": f"text {i}"} for i in range(count)]


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def plays(tff_folder):
    """TFF's Shakespeare, and its snippets as rows in random order."""
    train, _ = fl.data.shakespeare("tff", path=tff_folder)
    rows = [{"role": role, "snippets": text} for role, examples in train.items() for text in examples["snippets"]]
    random.Random(0).shuffle(rows)
    return train, rows


# --- the same as in memory


@pytest.mark.parametrize(
    "kind", ["csv", "parquet", "sqlite", "batches", "pandas", "chunks of pandas", "pandas' reader", "Hugging Face", "streamed"]
)
def test_all_real_snippets(plays, tmp_path, kind):
    source, rows = plays
    table = pa.Table.from_pylist(rows)
    arguments = {}
    if kind == "csv":
        made = write_csv(tmp_path / "plays.csv", rows)
    elif kind == "parquet":
        made = tmp_path / "plays.parquet"
        pq.write_table(table, made, row_group_size=5000)
    elif kind == "sqlite":
        made = write_sql(tmp_path / "plays.db", rows, declared="role TEXT, snippets TEXT")
        arguments = {"table": "rows"}
    elif kind == "Hugging Face":
        made = datasets.Dataset(table.sort_by("snippets"))
        made = made.select(np.argsort(np.array(table["snippets"].to_pylist(), object), kind="stable").argsort())
        assert made[:3]["snippets"] == table["snippets"].to_pylist()[:3]
    else:
        frame = pd.DataFrame(rows)
        kinds = {
            "batches": lambda: iter(table.to_batches(1000)),
            "pandas": lambda: frame,
            "chunks of pandas": lambda: (frame[i : i + 3000] for i in range(0, len(frame), 3000)),
            "pandas' reader": lambda: pd.read_csv(write_csv(tmp_path / "plays.csv", rows), chunksize=3000, keep_default_na=False),
            "streamed": lambda: datasets.Dataset(table).to_iterable_dataset().with_format("arrow").iter(3000),
        }
        made = kinds[kind]()
    data = convert(made, tmp_path / "by_role", client="role", memory=1 << 20, **arguments)
    assert_holds(data, grouped(rows, "role"))
    assert list(data) == [role for role in source if source.sizes[role]]
    assert_same(fl.data.load(tmp_path / "by_role"), data)


FORMS = {
    "csv": (write_csv, from_csv, {}),
    "parquet": (lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7) or path, from_parquet, {}),
    "sqlite": (write_sql, None, {"table": "rows"}),
}


@pytest.mark.parametrize("form", FORMS)
@given(rows, st.integers(1, 4000), st.integers(100, 1000))
@settings(max_examples=15)
def test_any_rows_with_any_load_and_block(tmp_path_factory, form, rows, load, block):
    """Loads of a few rows are scattered over files again and again; CSV is cut into blocks anywhere."""
    write, _, arguments = FORMS[form]
    folder = tmp_path_factory.mktemp("rows")
    path = write(folder / f"rows.{form}", rows)
    want = wanted("who", None, {"text": "string", "x": "int64", "y": "float64"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_csv, "_BLOCK", block)
        patch.setattr(_sql_rows, "_FIRST_ROWS", 1 + block % 5)
        pieces, name = row_source(path, want, table=arguments.get("table"), delimiter=None)
        regroup(pieces, want, folder / "out", load, name=name)
    data = fl.data.load(folder / "out")
    assert_holds(data, grouped(rows, "who"))
    assert_same(data, from_table(pa.Table.from_pylist(rows), client="who"))
    assert left_in(folder) == ["out", path.name]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 2000))
@settings(max_examples=20)
def test_ids_whose_checksums_are_all_equal(tmp_path_factory, owners, load):
    """They can never be told apart by it, so they end in one load."""
    folder = tmp_path_factory.mktemp("rows")
    rows = [{"who": f"client {owner}", "x": i} for i, owner in enumerate(owners)]
    want = wanted("who", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_regroup.zlib, "crc32", lambda client: 2**32 - 1)
        pieces, name = row_source(iter(pa.Table.from_pylist(rows).to_batches(5)), want, table=None, delimiter=None)
        regroup(pieces, want, folder / "out", load, name=name)
    assert_holds(fl.data.load(folder / "out"), grouped(rows, "who"))


def test_every_type_of_column(tmp_path):
    table = pa.table(
        {
            "who": ["b", "a", "b", "c"] * 50,
            "half": pa.array(np.arange(200).astype(np.float16)),
            "day": pa.array(range(200), pa.date32()),
            "at": pa.array(range(200), pa.timestamp("us", "UTC")),
            "took": pa.array(range(200), pa.duration("s")),
            "yes": [True, False] * 100,
            "bytes": [b"\xff", b"", b"x", b"y"] * 50,
            "matrix": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(800.0).reshape(200, 2, 2)),
            "pair": pa.array([[1, 2], [3, 4]] * 100, pa.list_(pa.int32(), 2)),
            "ragged": [[], [1, 2], [3], [4]] * 50,
            "words": [[], ["u"], ["v", "w"], ["x"]] * 50,
            "label": pa.array(["p", "q"] * 100).dictionary_encode(),
            "missing": [1.0, None] * 100,
            "client id": range(200),
        }
    )
    want = wanted("who", None)
    for load in (1000, 1 << 20):
        pieces, name = row_source(iter(table.to_batches(20)), want, table=None, delimiter=None)
        regroup(pieces, want, tmp_path / str(load), load, name=name)
        assert_same(fl.data.load(tmp_path / str(load)), from_table(table, client="who"))


def test_one_client_larger_than_a_load_is_not_scattered_again(tmp_path, monkeypatch):
    scattered = Counter()  # level -> rows
    add = _regroup._Scattered.add

    def counted(self, batches):
        scattered[self._level] += sum(batch.num_rows for batch in batches)
        add(self, batches)

    monkeypatch.setattr(_regroup._Scattered, "add", counted)
    rows = [{"who": "giant" if i % 10 else f"client {i % 7}", "x": i} for i in range(5000)]
    pieces, name = row_source(iter(pa.Table.from_pylist(rows).to_batches(100)), want := wanted("who", None), table=None, delimiter=None)
    regroup(pieces, want, tmp_path / "out", 4000, name=name)
    assert_holds(fl.data.load(tmp_path / "out"), grouped(rows, "who"))
    assert scattered[0] == 5000
    assert sum(scattered.values()) < 5000 + 4500


def test_the_checksum_tells_clients_apart_at_every_level():
    """What scatters again must not find all clients of a file in one file."""
    ids = pa.chunked_array([pa.array([f"client {i}" for i in range(2**14)], pa.large_string())])
    numbers = [_regroup._Scattered(Path(), level)._file_numbers(ids) for level in range(_regroup._LEVELS)]
    first = numbers[0] == numbers[0][0]
    for level in range(1, _regroup._LEVELS):
        assert len(set(numbers[level][first])) > 40  # of about 128 clients in one file, in 128 files: 81 expected
    assert numbers[0][7] == zlib.crc32(b"client 7") % 128


# --- SQLite


def test_names_in_sql_are_quoted(tmp_path):
    evil = 'rows"; DROP TABLE rows; --'
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute('CREATE TABLE "rows""; DROP TABLE rows; --" ("select" TEXT, "a ""b"" \'c\'" INTEGER)')
        database.executemany('INSERT INTO "rows""; DROP TABLE rows; --" VALUES (?, ?)', [(who, i) for i, who in enumerate(CLIENT_IDS)])
        database.commit()
    data = convert(path, tmp_path / "out", client="select", table=evil)
    assert_holds(data, {who: {"a \"b\" 'c'": [i]} for i, who in sorted(enumerate(CLIENT_IDS), key=lambda pair: pair[1])})


@pytest.mark.parametrize("tail", ["", " WITHOUT ROWID"])
def test_rows_of_sql_come_in_the_order_of_the_table(tmp_path, tail):
    """Not in that of an index which happens to hold all columns."""
    rows = [{"key": i, "who": "ab"[i % 2], "x": (i * 37) % 101} for i in range(100)]
    path = write_sql(tmp_path / "a.db", rows, declared="key INTEGER PRIMARY KEY, who TEXT, x INTEGER", tail=tail)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE INDEX i ON rows (x, who)")
    data = convert(path, tmp_path / "out", client="who", columns=["x"], table="rows")
    assert data["b"]["x"].tolist() == [row["x"] for row in rows if row["who"] == "b"]


def test_undeclared_types_are_those_of_the_first_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(_sql_rows, "_FIRST_ROWS", 2)
    rows = [{"who": 7, "n": 1, "f": 1, "b": b"\xff", "t": "u"}, {"who": 7, "n": 2, "f": 0.5, "b": b"", "t": "v"}] * 3
    path = write_sql(tmp_path / "a.db", rows, declared="who, n, f, b, t")
    data = convert(path, tmp_path / "out", client="who", table="rows")
    assert_holds(data, grouped(rows, "who"))
    assert [data["7"][name].dtype for name in "nf"] == [np.int64, np.float64]


@pytest.mark.parametrize(
    ("declared", "rows", "types", "message"),
    [
        ("who TEXT, n INTEGER", [("a", 1), ("a", "x")], None, "Column 'n' of table 'rows' of .*a.db must be int64, .* in the rows 0 to 1"),
        ("who TEXT, n INTEGER", [("a", 1), ("a", 0.5)], None, "Column 'n' of table 'rows' of .*a.db must be int64"),
        ("who TEXT, n", [("a", 1), ("a", "x")], None, "Column 'n' .* must be of one type"),
        ("who TEXT, n", [("a", 1)] * 300 + [("a", "x")], None, "Column 'n' .* must be int64, .* in the rows 256 to 300"),
        ("who TEXT, n REAL", [("a", "x")], {"n": "float64"}, "Column 'n' .* must be double"),
        ("who TEXT, n INTEGER", [("a", 1), ("b", None)], None, "Column 'n' .* got 1 without .* first row 1, of client 'b'"),
        ("who TEXT, n", [("a", None)], None, "Column 'n' .* got no value at all"),
        ("who, n INTEGER", [("a", 1), (7, 1)], None, "got 7 of type int after 'a' in row 1 of the client column 'who' of table 'rows'"),
        ("who, n INTEGER", [(7, 1)] * 300 + [("a", 1)], None, "got 'a' of type str after 7 in row 300"),
        ("who, n INTEGER", [("a", 1)] * 256 + [(7, 1)] * 256, None, "got int64 in the client column 'who' .* from row 256 on, and"),
        ("who TEXT, n INTEGER", [("a", 1), (None, 1)], None, "got None of type NoneType after 'a' in row 1"),
        ("who TEXT, n INTEGER", [("a", 1), ("", 1)], None, "got an empty text .* first in row 1"),
        ("who, n INTEGER", [(b"a", 1)], None, "got b'a' of type bytes in row 0"),
        ("who, n INTEGER", [(0.5, 1)], None, "got 0.5 of type float in row 0"),
        ("who TEXT, n INTEGER", [], None, "There must be a row at least"),
        ("whom TEXT, n INTEGER", [("a", 1)], None, "client must name a column of table 'rows' of .*a.db, got 'who'. Is it 'whom'"),
    ],
)
def test_values_in_sql_that_do_not_fit(tmp_path, declared, rows, types, message):
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute(f"CREATE TABLE rows ({declared})")
        database.executemany("INSERT INTO rows VALUES (?, ?)", rows)
        database.commit()
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "a.db", tmp_path / "out", client="who", table="rows", types=types)
    assert left_in(tmp_path) == ["a.db"]


def test_types_asked_of_sql(tmp_path):
    rows = [{"who": "a", "mixed": 1, "f": 1}, {"who": "a", "mixed": "x", "f": 0.5}, {"who": "a", "mixed": 0.5, "f": None}]
    path = write_sql(tmp_path / "a.db", rows, declared="who TEXT, mixed, f INTEGER")
    data = convert(path, tmp_path / "out", client="who", table="rows", types={"mixed": "string", "f": "float32"})
    assert data["a"]["mixed"].tolist() == ["1", "x", "0.5"]
    np.testing.assert_array_equal(data["a"]["f"], np.array([1, 0.5, np.nan], np.float32), strict=True)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "table must name a table of .*a.db, got None. There are 'rows'"),
        ("row", "table must name a table of .*a.db, got 'row'. Is it 'rows'"),
        ("endless", "table must name a table of .*a.db, got 'endless'"),
    ],
)
def test_tables_that_are_none(tmp_path, table, message):
    """A view is none: this one would never end."""
    path = write_sql(tmp_path / "a.db", some_rows(1))
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE VIEW endless AS WITH RECURSIVE r(who) AS (SELECT 'a' UNION ALL SELECT who FROM r) SELECT who, 1 AS x FROM r"
        )
    with pytest.raises(ValueError, match=message):
        convert(path, tmp_path / "out", client="who", table=table)


def test_a_database_in_use(tmp_path):
    """What is committed may still lie beside the database, where it is not read."""
    path = write_sql(tmp_path / "a.db", some_rows(5))
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("INSERT INTO rows VALUES ('late', 1, 1.0, 'text')")
        database.commit()
        with pytest.raises(ValueError, match=r"a.db must not be in use, got changes that are still in a.db-wal"):
            convert(path, tmp_path / "out", client="who", table="rows")
    assert "late" in convert(path, tmp_path / "out", client="who", table="rows")


# --- sources


def test_arrow_files_and_streams(tmp_path):
    table = pa.Table.from_pylist(some_rows(50))
    for name, kind in (("file.arrow", pa.ipc.new_file), ("stream.arrow", pa.ipc.new_stream), ("a.feather", pa.ipc.new_file)):
        with kind(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table, 7)
        assert_same(convert(tmp_path / name, tmp_path / f"{name} out", client="who"), from_table(table, client="who"))


def test_a_folder_of_parquet_or_csv(tmp_path):
    rows = some_rows(50)
    pq.write_to_dataset(pa.Table.from_pylist(rows), tmp_path / "parts", partition_cols=["who"])
    assert_holds(convert(tmp_path / "parts", tmp_path / "out", client="who"), grouped(rows, "who"))
    write_csv(tmp_path / "parts" / "a.csv", rows)
    with pytest.raises(ValueError, match="must hold tables of one form, got parquet and csv files"):
        convert(tmp_path / "parts", tmp_path / "more", client="who")


def test_the_name(tmp_path):
    path = write_csv(tmp_path / "people.csv.old.csv", some_rows(5))
    assert convert(path, tmp_path / "one", client="who").name == "people"
    assert convert(path, tmp_path / "two", client="who", name="mine").name == "mine"


@pytest.mark.parametrize(
    ("source", "arguments", "error", "message"),
    [
        ("nowhere.csv", {}, FileNotFoundError, "source must be a file or a folder, got .*nowhere.csv, where there is nothing"),
        ("empty", {}, ValueError, "must be CSV, Parquet or Arrow files"),
        ("what.bin", {}, ValueError, "what.bin must be a file of a known kind: .* starts with b'what'"),
        ("a.csv", {"table": "rows"}, ValueError, r"table must be left out for a source of this kind \(csv\), got 'rows'"),
        ("a.csv", {"memory": 256}, ValueError, "memory must be at least 1048576 bytes, got 256"),
        ("a.csv", {"columns": ["z"]}, ValueError, "columns must name a column of .*a.csv, got 'z'"),
        ({"who": ["a"]}, {}, TypeError, "source must be a path, a table or an iterable of tables"),
        (7, {}, TypeError, "source must be a path, a table or an iterable of tables"),
        ([7], {}, TypeError, "table must be a pandas or polars DataFrame"),
        (fl.data.FederatedDataset.from_dict({"a": {"x": [1]}}), {}, TypeError, r"by client already. Call its save\(path\)"),
        (pa.table({"who": ["a"], "x": [1]}), {"delimiter": ";"}, ValueError, "delimiter must be left out for a source of this kind"),
        (iter([]), {}, ValueError, "There must be a row at least"),
    ],
)
def test_sources_and_arguments_that_do_not_fit(tmp_path, source, arguments, error, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "what.bin").write_bytes(b"what")
    write_csv(tmp_path / "a.csv", some_rows(5))
    with pytest.raises(error, match=message):
        convert(tmp_path / source if isinstance(source, str) else source, tmp_path / "out", client="who", **arguments)
    assert left_in(tmp_path) == ["a.csv", "empty", "what.bin"]


# --- whole, or not at all


@pytest.fixture
def scattered_soon(monkeypatch):
    """Loads of 2 kB, so that small sources are scattered too."""
    monkeypatch.setattr(_regroup, "_SHARE", (1 << 20) // 2000)


@pytest.mark.parametrize("bad", ["id", "value", "type"])
def test_an_error_in_the_last_row_leaves_nothing(tmp_path, scattered_soon, bad):
    rows = some_rows(3000)
    rows[-1] |= {"id": {"who": ""}, "value": {"x": ""}, "type": {"x": "many"}}[bad]
    path = write_csv(tmp_path / "rows.csv", rows)
    with pytest.raises(ValueError, match="rows.csv.* row 2999"):
        convert(path, tmp_path / "out", client="who", memory=1 << 20, types={"x": "int64"})
    assert left_in(tmp_path) == ["rows.csv"]


def test_a_source_that_fails_leaves_nothing(tmp_path, scattered_soon):
    def batches():
        yield from pa.Table.from_pylist(some_rows(500)).to_batches(10)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        convert(batches(), tmp_path / "out", client="who", memory=1 << 20)
    assert left_in(tmp_path) == []


def test_a_damaged_source_leaves_nothing(tmp_path, scattered_soon):
    table = pa.Table.from_pylist(some_rows(3000))
    pq.write_table(table, tmp_path / "whole.parquet", row_group_size=100, compression="none", use_dictionary=False)
    damaged = bytearray((tmp_path / "whole.parquet").read_bytes())
    at = damaged.rindex(b"text 2950")
    damaged[at - 4 : at] = b"\xff\xff\xff\x7f"  # a length
    (tmp_path / "rows.parquet").write_bytes(damaged)
    with pytest.raises(ValueError, match="rows.parquet must be Parquet, got a file that cannot be read"):
        convert(tmp_path / "rows.parquet", tmp_path / "out", client="who", memory=1 << 20)
    assert left_in(tmp_path) == ["rows.parquet", "whole.parquet"]


@pytest.mark.parametrize("there", ["file", "folder"])
def test_what_is_there_already_is_kept(tmp_path, there):
    (tmp_path / "out").write_text("mine") if there == "file" else (tmp_path / "out" / "mine").mkdir(parents=True)

    def never():
        raise AssertionError("the source was read")
        yield

    with pytest.raises(FileExistsError, match="out must not exist yet"):
        convert(never(), tmp_path / "out", client="who")
    assert left_in(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "mine" if there == "file" else left_in(tmp_path / "out") == ["mine"]


@pytest.mark.parametrize("load", [60_000, 10**9])
def test_a_full_disk(tmp_path, load):
    """While rows are scattered, and while clients are written."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no permission to mount a small disk")
    try:
        table = pa.table({"who": [f"{i % 50}" for i in range(20_000)], "x": np.random.default_rng(0).random((20_000, 1)).tolist()})
        pieces, name = row_source(iter(table.to_batches(2000)), want := wanted("who", None), table=None, delimiter=None)
        with pytest.raises(OSError, match=r"The disk is full: .*out could not be written. Free some space") as caught:
            regroup(pieces, want, disk / "out", load, name=name)
        assert caught.value.errno == 28
        assert left_in(disk) == []
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # the error may hold a file open


def test_a_full_disk_without_one(tmp_path, scattered_soon, monkeypatch):
    class Full:
        def write_batch(self, batch):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(_regroup._Scattered, "_writer", lambda *args: Full())
    with pytest.raises(OSError, match="The disk is full: .*out could not be written"):
        convert(iter(pa.Table.from_pylist(some_rows(3000)).to_batches(100)), tmp_path / "out", client="who", memory=1 << 20)
    assert left_in(tmp_path) == []


KILLED = """
import sys, time
import pyarrow as pa
from fedloom.data.storage import _regroup
_regroup._SHARE = 500
def batches():
    for i in range(10**9):
        yield pa.record_batch({"who": [f"{j % 7}" for j in range(100)], "x": list(range(100))})
        if i == 200:
            print("half way", flush=True)
        if i > 200:
            time.sleep(0.01)
_regroup.convert(batches(), sys.argv[1], client="who", memory=1 << 20)
"""


def test_a_process_that_is_killed_leaves_nothing_at_the_target(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "half way\n"
        assert any(name.startswith(".out.") for name in left_in(tmp_path))  # at work
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    data = convert(
        iter(pa.Table.from_pylist(some_rows(10)).to_batches()), tmp_path / "out", client="who"
    )  # what was left is in nobody's way
    assert data.size_array().sum() == 10


# --- damaged files


def test_damaged_files_are_converted_or_refused(tmp_path):
    """Of Arrow and SQLite, with bytes changed, or cut off, or both; CSV and Parquet have tests like this of their own."""
    rows = some_rows(150)
    table = pa.Table.from_pylist(rows)
    for name, kind in (("a.arrow", pa.ipc.new_file), ("b.arrow", pa.ipc.new_stream)):
        with kind(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table, 50)
    write_sql(tmp_path / "c.db", rows)
    wholes = {name: (tmp_path / name).read_bytes() for name in ("a.arrow", "b.arrow", "c.db")}
    rng, outcomes, start = random.Random(0), Counter(), time.monotonic()
    for i in range(240):
        name = list(wholes)[i % 3]
        damaged = bytearray(wholes[name])
        for _ in range(rng.choice([1, 1, 3, 30])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path, out = tmp_path / name, tmp_path / f"out{i}"
        path.write_bytes(damaged[: rng.choice([len(damaged), len(damaged), rng.randrange(1, len(damaged))])])
        try:
            data = convert(path, out, client="who", table="rows" if name == "c.db" else None)
            assert [len(data[client]["x"]) for client in data] == data.size_array().tolist()
            outcomes[name, True] += 1
        except ValueError as error:
            assert name in str(error) or "There must be a row" in str(error)
            assert not out.exists()
            outcomes[name, False] += 1
    assert all(outcomes[name, fine] for name in wholes for fine in (True, False))
    assert time.monotonic() - start < 60
    assert not [name for name in left_in(tmp_path) if name.startswith(".")]
