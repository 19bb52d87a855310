"""load finds the reader that a source needs, by what the source is."""

import sqlite3
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from data.every_source import ROWS, SOURCES, X
from data.tff_layout import write_hdf5, write_sqlite

from fedloom.data import FederatedDataset, load


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_of_any_kind(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "here"
    folder.mkdir()
    source = SOURCES[kind](folder)
    data = load(source, name="mine")
    assert data.name == "mine" and sorted(data) == ["ada", "bob"] and dict(data.sizes) == {"ada": 2, "bob": 1}
    assert {client: np.ravel(data[client]["x"]).tolist() for client in data} == X
    if hasattr(source, "name") and not isinstance(source, dict):
        assert dict(load(str(source)).sizes) == dict(data.sizes)


def test_the_client_column_has_a_usual_name():
    with pytest.raises(ValueError, match=r"'client_id'.*'user', 'x'"):
        load(pa.table({"user": ["a"], "x": [1]}))
    assert list(load(pa.table({"user": ["a"], "x": [1], "z": [2]}), client="user", columns=["x"])["a"]) == ["x"]


def test_a_public_data_set_by_name():
    assert load("shakespeare")["HAMLET_OPHELIA"]["snippets"][0] == "Do you doubt that?"
    assert sum(load("shakespeare", split="test").sizes.values()) < sum(load("shakespeare").sizes.values())
    assert load("shakespeare", name="plays").name == "plays"
    with pytest.raises(ValueError, match="split must be one of train, test"):
        load("shakespeare", split="held_out")


def test_a_split_out_of_several(tmp_path):
    splits = {split: {"ada": [{"x": i}]} for i, split in enumerate(("train", "test"))}
    path = write_sqlite(tmp_path / "two.sqlite", splits)
    assert load(path, split="test")["ada"]["x"].tolist() == [1]
    with pytest.raises(ValueError, match="split.*test.*train"):
        load(path)
    for split in ("train", "test"):
        write_hdf5(tmp_path / f"x_{split}.h5", {"ada": {"x": np.zeros(len(split))}})
    assert load(tmp_path, split="test").sizes["ada"] == 4
    with pytest.raises(ValueError, match=r"split must name one of the files \['x_test.h5', 'x_train.h5'\]"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": {"ada": {"x": [1]}}, "client": "x"}, r"client must be left out for a source of this kind \(dict\), got 'x'"),
        ({"source": {"ada": {"x": [1]}}, "columns": ["x"]}, "columns must be left out"),
        ({"source": pa.table(ROWS), "split": "train"}, r"split must be left out for a source of this kind \(table\)"),
    ],
)
def test_arguments_that_a_source_has_no_use_for(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**arguments)


def test_sources_of_no_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a file, a folder or the name of a data set \(.*shakespeare.*\), got 'shakspear'"):
        load("shakspear")
    for source in (7, [1, 2], {"x": [1, 2]}, FederatedDataset.from_dict({})):
        with pytest.raises(TypeError, match="source"):
            load(source)
    (tmp_path / "movie.mkv").write_bytes(b"\x1aE\xdf\xa3")
    with pytest.raises(ValueError, match=r"movie\.mkv must be a file of a known kind.*starts with"):
        load(tmp_path / "movie.mkv")
    with closing(sqlite3.connect(tmp_path / "rows.db")) as database:
        database.execute("CREATE TABLE visits (user TEXT, page TEXT)")
    with pytest.raises(ValueError, match=r"got an SQLite database with others.*fl\.data\.convert"):
        load(tmp_path / "rows.db")
    (tmp_path / "bad.db").write_bytes(b"SQLite format 3\x00 and then noise")
    with pytest.raises(ValueError, match=r"bad\.db must be"):
        load(tmp_path / "bad.db")
    (tmp_path / "bad.arrow").write_bytes(b"ARROW1\x00\x00 and then noise")
    with pytest.raises(ValueError, match=r"bad\.arrow must be"):
        load(tmp_path / "bad.arrow")
