"""Parquet by a client column: in a file, in many, in the names of folders; what is refused, and damaged files."""

import random
import re
from urllib.parse import quote

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.rows_by_client import CLIENT_IDS, assert_holds, assert_same, grouped, rows
from hypothesis import given, settings
from hypothesis import strategies as st

import fedloom as fl
from fedloom.data import from_parquet, from_table
from fedloom.data.sources import _row_pieces

WRITERS = {
    "pyarrow": lambda columns, path: pq.write_table(pa.table(columns), path, row_group_size=500),
    "pandas": lambda columns, path: pd.DataFrame(columns).to_parquet(path),
    "polars": lambda columns, path: pl.DataFrame(columns).write_parquet(path),
    "Hugging Face": lambda columns, path: datasets.Dataset.from_dict(columns).to_parquet(path),
}


def write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path)
    return path


@pytest.mark.parametrize("writer", WRITERS)
def test_real_snippets_come_back_as_they_were(tff_folder, tmp_path, writer):
    train, _ = fl.data.shakespeare("tff", path=tff_folder)
    source = train.subset(train.client_ids[::7])
    rows = sorted((i, role, text) for role, examples in source.items() for i, text in enumerate(examples["snippets"]))
    WRITERS[writer]({"role": [row[1] for row in rows], "snippets": [row[2] for row in rows]}, tmp_path / "plays.parquet")
    read = from_parquet(tmp_path / "plays.parquet", client="role")
    assert_same(read, source)
    assert read.name == "plays"


def test_real_snippets_partitioned_by_role(tff_folder, tmp_path):
    """A folder per role, whose names have what URLs must quote."""
    _, test = fl.data.shakespeare("tff", path=tff_folder)
    source = test.filter_sizes(at_least=1)
    source = source.subset(source.client_ids[::9])
    table = {"role": np.repeat(list(source), source.size_array()), "snippets": np.concatenate([e["snippets"] for e in source.values()])}
    pq.write_to_dataset(pa.table(table), tmp_path / "plays", partition_cols=["role"])
    assert len(list((tmp_path / "plays").iterdir())) == len(source)
    assert_same(from_parquet(tmp_path / "plays", client="role"), source)


@given(rows, st.sampled_from(["zstd", "none"]), st.integers(1, 40), st.booleans())
@settings(max_examples=20)
def test_what_was_written_is_read(tmp_path_factory, rows, compression, group, dictionary):
    path = tmp_path_factory.mktemp("parquet") / "rows.parquet"
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, path, row_group_size=group, compression=compression, use_dictionary=dictionary)
    read = from_parquet(path, client="who")
    assert_holds(read, grouped(rows, "who"))
    assert_same(read, from_table(table, client="who"))


def test_every_type_of_column_is_the_same_from_a_file(tmp_path):
    table = pa.table(
        {
            "who": pa.array(["b", "a", "b"]).dictionary_encode(),
            "half": pa.array(np.array([1, 2, 3], np.float16)),
            "day": pa.array([1, 2, 3], pa.date32()),
            "at": pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
            "bytes": [b"\xff", b"", b"x"],
            "matrix": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12.0).reshape(3, 2, 2)),
            "pair": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int32(), 2)),
            "ragged": [[1, 2], [], [3]],
            "label": pa.array(["p", "q", "p"]).dictionary_encode(),
            "missing": [1.0, None, 2.0],
        }
    )
    assert_same(from_parquet(write(tmp_path / "a.parquet", table), client="who"), from_table(table, client="who"))


def test_images_as_hugging_face_stores_them(tmp_path):
    def images(second):
        rows = [{"bytes": b"one", "path": None}, {"bytes": second, "path": "two.png"}]
        return {"who": ["a", "a"], "image": pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))}

    read = from_parquet(write(tmp_path / "a.parquet", images(b"two")), client="who")
    assert read["a"]["image"].tolist() == [b"one", b"two"]
    with pytest.raises(ValueError, match="Column 'image' of .*a.parquet must have a value in every row, got 1 without"):
        from_parquet(write(tmp_path / "a.parquet", images(None)), client="who")  # only a path, which is not followed


# --- folders


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    for n, name in enumerate(
        ["2.parquet", "10.parquet", "sub/1.pq", "b/a.parquet", "_metadata.parquet", ".hidden.parquet", "_old/x.parquet"]
    ):
        write(tmp_path / name, {"n": [n], "who": ["a"]} if n % 2 else {"who": ["a"], "n": [n]})
    assert from_parquet(tmp_path, client="who")["a"]["n"].tolist() == [1, 0, 3, 2]


def test_ids_in_the_names_of_folders_stay_as_they_are_written(tmp_path):
    for i, who in enumerate(CLIENT_IDS):
        write(tmp_path / f"who={quote(who, safe='')}" / "part-0.parquet", {"n": [i, -i]})
    assert_holds(
        from_parquet(tmp_path, client="who"), {who: {"n": [i, -i]} for i, who in sorted(enumerate(CLIENT_IDS), key=lambda p: p[1])}
    )


@pytest.mark.parametrize("library", ["pyarrow", "polars"])
def test_partitions_that_libraries_write(tmp_path, library):
    rows = [{"who": who, "year": 2020 + i % 2, "code": f"0{i % 3}", "n": i} for i, who in enumerate(CLIENT_IDS * 3)]
    table = pa.Table.from_pylist(rows)
    if library == "pyarrow":
        pq.write_to_dataset(table, tmp_path, partition_cols=["who", "year", "code"])
    else:
        pl.from_arrow(table).write_parquet(tmp_path, partition_by=["who", "year", "code"])
    read = from_parquet(tmp_path, client="who", columns=["n", "year", "code"])
    for who, examples in read.items():
        found = sorted(zip(*(examples[name].tolist() for name in ("n", "year", "code")), strict=True))
        assert found == [(row["n"], row["year"], row["code"]) for row in rows if row["who"] == who]
    assert read["007"]["year"].dtype == np.int64
    assert sorted(read) == list(read) == sorted(CLIENT_IDS)


def test_columns_of_partition_alone(tmp_path):
    write(tmp_path / "who=a" / "year=7" / "x.parquet", {"n": [1, 2, 3]})
    assert from_parquet(tmp_path, client="who", columns=["year"])["a"]["year"].tolist() == [7, 7, 7]


def test_folders_that_are_no_partition(tmp_path):
    write(tmp_path / "year" / "7" / "x.parquet", {"who": ["a"], "n": [1]})
    assert list(from_parquet(tmp_path, client="who")["a"]) == ["n"]


def test_a_partition_without_a_value(tmp_path):
    table = pa.table({"who": ["a", None], "n": [1, 2]})
    pq.write_to_dataset(table, tmp_path, partition_cols=["who"])
    with pytest.raises(ValueError, match=r"got no value in the client column 'who' of .*who=__HIVE_DEFAULT_PARTITION__"):
        from_parquet(tmp_path, client="who")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["who=a/who=b/x.parquet"], "must give each column once, got 'who' twice"),
        (["who=%FF/x.parquet"], "folder 'who=%FF' of .* must be UTF-8"),
        (["who=a/x.parquet", "y.parquet"], "client must name a column of .*y.parquet, got 'who'"),
        (["who=/x.parquet"], "got an empty text in the client column 'who'"),
    ],
)
def test_partitions_that_do_not_fit(tmp_path, names, message):
    for name in names:
        write(tmp_path / name, {"n": [1]})
    with pytest.raises(ValueError, match=message):
        from_parquet(tmp_path, client="who")


def test_files_of_different_types(tmp_path):
    write(tmp_path / "1.parquet", {"who": ["a"], "n": [1]})
    write(tmp_path / "2.parquet", {"who": ["a"], "n": [0.5]})
    with pytest.raises(ValueError, match=r"Column 'n' of .*2.parquet must be int64, as in the rows before, got double from row 0 on"):
        from_parquet(tmp_path, client="who")
    assert from_parquet(tmp_path, client="who", types={"n": "float64"})["a"]["n"].tolist() == [1.0, 0.5]


def test_a_file_in_which_all_numbers_are_missing(tmp_path):
    write(tmp_path / "1.parquet", {"who": ["a"], "y": [1.5]})
    write(tmp_path / "2.parquet", {"who": ["a"], "y": [None]})
    np.testing.assert_array_equal(from_parquet(tmp_path, client="who")["a"]["y"], [1.5, np.nan])


def test_ids_of_different_types(tmp_path):
    write(tmp_path / "1.parquet", {"who": ["7"], "n": [1]})
    write(tmp_path / "2.parquet", {"who": [7], "n": [1]})
    with pytest.raises(ValueError, match=r"got int64 in the client column 'who' of .*2.parquet from row 0 on, and string in .*1.parquet"):
        from_parquet(tmp_path, client="who")


def test_the_bad_row_is_counted_within_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(_row_pieces, "_MOST_ROWS", 10)
    write(tmp_path / "1.parquet", {"who": ["a"] * 30, "n": range(30)})
    write(tmp_path / "2.parquet", {"who": ["b"] * 400, "n": [*range(333), None, *range(66)]})
    with pytest.raises(ValueError, match=r"Column 'n' of .*2.parquet .* first row 333, of client 'b'"):
        from_parquet(tmp_path, client="who")


# --- damage


def test_a_file_cut_off_anywhere(tmp_path):
    whole = write(tmp_path / "whole.parquet", {"who": ["a", "b"] * 50, "n": range(100)}).read_bytes()
    for size in [*range(0, len(whole), 37), len(whole) - 1]:
        (tmp_path / "a.parquet").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"a.parquet must be Parquet, got a file that cannot be read"):
            from_parquet(tmp_path / "a.parquet", client="who")


def test_text_that_is_not_utf8(tmp_path):
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff"))
    for name, table in (("text", {"who": ["a"], "text": broken}), ("who", {"who": broken, "text": ["a"]})):
        with pytest.raises(ValueError, match=rf"{name}.parquet must be Parquet, got a file that cannot be read: .*UTF8"):
            from_parquet(write(tmp_path / f"{name}.parquet", table), client="who")


def test_damaged_files_are_read_or_refused(tmp_path):
    """600 files with bytes changed, or cut off, or both: of every encoding, none crashes the process or keeps it."""
    table = pa.table(
        {
            "who": [f"{i % 5:03d}" for i in range(300)],
            "n": range(300),
            "text": [f"text {i % 7}" for i in range(300)],
            "ragged": [[0.5] * (i % 3) for i in range(300)],
        }
    )
    forms = [
        {},
        {"compression": "none"},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"compression": "gzip", "use_dictionary": False},
        {"write_page_checksum": True, "store_schema": False},
    ]
    wholes = []
    for form in forms:
        pq.write_table(table, tmp_path / "whole.parquet", **form)
        wholes.append((tmp_path / "whole.parquet").read_bytes())
    path, rng, refused = tmp_path / "a.parquet", random.Random(0), 0
    for i in range(600):
        damaged = bytearray(wholes[i % len(wholes)])
        for _ in range(rng.choice([1, 1, 3, 30])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice([len(damaged), len(damaged), rng.randrange(len(damaged))])])
        try:
            data = from_parquet(path, client="who")
            assert [len(data[client]["n"]) for client in data] == data.size_array().tolist()
        except ValueError as error:
            assert "a.parquet" in str(error) or "There must be a row" in str(error)
            refused += 1
    assert 0 < refused < 600


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="path must be a file or a folder, got .*nowhere.parquet"):
        from_parquet(tmp_path / "nowhere.parquet", client="who")
    with pytest.raises(FileNotFoundError, match=re.escape("a folder with files ending in .parquet or .pq")):
        from_parquet(tmp_path, client="who")
