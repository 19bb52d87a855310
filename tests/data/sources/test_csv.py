"""CSV by a client column: what comes back, and what is refused."""

import csv
import gzip
import random
import re
from pathlib import Path

import numpy as np
import pytest
from data.rows_by_client import CLIENT_IDS, assert_holds, assert_same, grouped, rows
from hypothesis import given, settings

import fedloom as fl
from fedloom.data import from_csv
from fedloom.data.sources import _csv


def write(path: Path, rows, *, delimiter=",", header=True) -> Path:
    """By Python's own module, as spreadsheets do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([list(rows[0])] * header + [list(row.values()) for row in rows])
    return path


def people(count, start=0):
    return [{"who": f"{i % 3:03d}", "n": i, "text": f'say "{i}",\n{i}'} for i in range(start, start + count)]


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_real_snippets_come_back_as_they_were(tff_folder, tmp_path, ending):
    """Verses with quotes, commas and line breaks."""
    _, source = fl.data.shakespeare("tff", path=tff_folder)
    rows = [{"play": role, "snippets": text} for role, examples in source.items() for text in examples["snippets"]]
    assert any("\n" in row["snippets"] for row in rows)
    assert any('"' in row["snippets"] for row in rows)
    random.Random(0).shuffle(rows)
    read = from_csv(write(tmp_path / f"plays{ending}", rows), client="play")
    assert_holds(read, grouped(rows, "play"))
    assert {role: sorted(examples["snippets"]) for role, examples in read.items()} == {
        role: sorted(examples["snippets"]) for role, examples in source.items() if source.sizes[role]
    }
    assert read.name == "plays"


@given(rows)
@settings(max_examples=30)
def test_what_was_written_is_read(tmp_path_factory, rows):
    """Floats by repr, which loses nothing; text of digits stays text where that is asked for, and line breaks of any kind are kept."""
    folder = tmp_path_factory.mktemp("csv")
    read = from_csv(write(folder / "rows.csv", rows), client="who", types={"text": "string", "x": "int64", "y": "float64"})
    assert_holds(read, grouped(rows, "who"))


def test_ids_stay_as_they_are_written(tmp_path):
    rows = [{"who": who, "n": i} for i, who in enumerate(CLIENT_IDS)]
    assert_holds(from_csv(write(tmp_path / "a.csv", rows), client="who"), grouped(rows, "who"))


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    for start, name in enumerate(["2.csv", "10.csv", "sub/1.csv.gz", "b/a.csv", "_notes.csv", ".hidden.csv", "other.txt"]):
        write(tmp_path / name, [{"n": start, "who": "a"}] if start % 2 else [{"who": "a", "n": start}])
    assert from_csv(tmp_path, client="who")["a"]["n"].tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize(("name", "delimiter", "argument"), [("a.tsv", "\t", None), ("a.csv", ";", ";"), ("a.tsv.gz", "\t", None)])
def test_other_delimiters(tmp_path, name, delimiter, argument):
    rows = people(4)
    assert_holds(from_csv(write(tmp_path / name, rows, delimiter=delimiter), client="who", delimiter=argument), grouped(rows, "who"))


def test_columns_in_the_order_asked_for(tmp_path):
    path = write(tmp_path / "a.csv", [{"a": 1, "who": "x", "b": 2, "c": "not read"}])
    assert list(from_csv(path, client="who", columns=["b", "a"])["x"]) == ["b", "a"]


def test_a_byte_order_mark_and_windows_line_ends(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfwho,n\r\n01,1\r\n01,2\r\n")
    assert from_csv(tmp_path / "a.csv", client="who")["01"]["n"].tolist() == [1, 2]


def test_empty_fields(tmp_path):
    """Numbers are missing, texts empty."""
    (tmp_path / "a.csv").write_text("who,y,s\na,1.5,u\na,,\na,NA,null\n")
    examples = from_csv(tmp_path / "a.csv", client="who")["a"]
    np.testing.assert_array_equal(examples["y"], [1.5, np.nan, np.nan])
    assert examples["s"].tolist() == ["u", "", "null"]


def test_types_do_not_depend_on_where_a_block_ends(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", people(500))
    whole = from_csv(path, client="who")
    monkeypatch.setattr(_csv, "_BLOCK", 100)
    assert_same(from_csv(path, client="who"), whole)


def test_a_late_value_of_another_type(tmp_path, monkeypatch):
    monkeypatch.setattr(_csv, "_BLOCK", 100)
    rows = [*people(100), {"who": "a", "n": 0.5, "text": "t"}]
    path = write(tmp_path / "a.csv", rows)
    message = "Column 'n' of .*a.csv must be int64, .* got something else in row 100: invalid value '0.5'.*`types={'n': \"string\"}`"
    with pytest.raises(ValueError, match=message):
        from_csv(path, client="who")
    assert_holds(from_csv(path, client="who", types={"n": "float64"}), grouped(rows, "who"))


def test_types_of_later_files_are_those_of_the_first(tmp_path):
    write(tmp_path / "1.csv", [{"who": "a", "code": "x7"}])
    write(tmp_path / "2.csv", [{"who": "a", "code": "007"}])
    assert from_csv(tmp_path, client="who")["a"]["code"].tolist() == ["x7", "007"]
    write(tmp_path / "0.csv", [{"who": "a", "code": "5"}])
    with pytest.raises(ValueError, match="Column 'code' of .*1.csv must be int64"):
        from_csv(tmp_path, client="who")


def test_files_with_other_columns(tmp_path):
    write(tmp_path / "1.csv", [{"who": "a", "n": 1}])
    write(tmp_path / "2.csv", [{"who": "a", "n": 1, "m": 2}])
    with pytest.raises(ValueError, match=re.escape("2.csv must have the columns of") + r".*got \['m'\] besides and none missing"):
        from_csv(tmp_path, client="who")
    assert from_csv(tmp_path, client="who", columns=["n"]).sizes["a"] == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.csv must be CSV in UTF-8, got a file that cannot be read: Empty CSV file"),
        (b"who,n\n", "There must be a row at least"),
        (b"whom,n\na,1\n", "client must name a column of .*a.csv, got 'who'. Is it 'whom'? There are 'whom', 'n'."),
        (b"who,n,n\na,1,2\n", "distinct names, got 'n' twice in .*a.csv"),
        (b"who\na\n", "a.csv must have a column besides the client column"),
        (b"who,n\na,1\nb,2,3\n", "a.csv must be CSV in UTF-8.*Expected 2 columns, got 3"),
        (b"who,n\na,1\n,2\n", "got an empty text in the client column 'who' of .*a.csv in 1 of the rows 0 to 1, first in row 1"),
        (b"who,n\na,1\nb,\n", "Column 'n' of .*a.csv must have a value in every row, got 1 .*first row 1, of client 'b'"),
        (b"who,n\na,\nb,\n", "Column 'n' of .*a.csv must hold numbers, .* got no value at all"),
        (b"who,n\na,12:30:00\n", "Column 'n' of .*a.csv must hold numbers, .* got the Arrow type time32"),
        (b"who,n\na,\xff\n", "Column 'n' of .*a.csv must be UTF-8"),
        (b"who,n\n\xff,1\n", "Column 'who' of .*a.csv must be large_string"),
        (b"who,\xff\na,1\n", "a.csv must be CSV in UTF-8"),
    ],
)
def test_files_that_do_not_fit(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message.replace("? There", r"\? There")):
        from_csv(tmp_path / "a.csv", client="who")


def test_bytes_where_asked_for(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"who,n\na,\xff\n")
    assert from_csv(tmp_path / "a.csv", client="who", types={"n": "binary"})["a"]["n"].tolist() == [b"\xff"]


def test_a_quote_that_is_never_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(_csv, "_BLOCK", 1 << 12)
    (tmp_path / "a.csv").write_text('who,n\na,"1\n' + "b,2\n" * 5000)
    with pytest.raises(ValueError, match="a.csv must be CSV with rows of less than .* Look for a quote that is not closed"):
        from_csv(tmp_path / "a.csv", client="who")


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="path must be a file or a folder, got .*nowhere.csv"):
        from_csv(tmp_path / "nowhere.csv", client="who")
    with pytest.raises(FileNotFoundError, match=r"a folder with files ending in .csv or .csv.gz or .tsv or .tsv.gz, got .* without any"):
        from_csv(tmp_path, client="who")


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "é"])
def test_delimiters_that_are_none(tmp_path, delimiter):
    with pytest.raises(ValueError, match="delimiter must be one ASCII character"):
        from_csv(write(tmp_path / "a.csv", people(1)), client="who", delimiter=delimiter)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", people(1))
    monkeypatch.setattr(_csv, "_open", lambda *args: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(PermissionError):
        from_csv(path, client="who")


def test_a_gzip_file_cut_off_anywhere(tmp_path):
    whole = write(tmp_path / "whole.csv.gz", people(300)).read_bytes()
    for size in range(2, len(whole), 13):
        (tmp_path / "a.csv.gz").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"a.csv.gz must be CSV in UTF-8, got a file that cannot be read"):
            from_csv(tmp_path / "a.csv.gz", client="who")


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_damaged_files_are_read_or_refused(tmp_path, ending):
    """300 files with bytes changed, or cut off, or both."""
    whole, rng = write(tmp_path / f"whole{ending}", people(100)).read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.choice([0, 1, 3, 30])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path = tmp_path / f"a{ending}"
        path.write_bytes(damaged[: rng.choice([len(damaged), rng.randrange(1, len(damaged))])])
        try:
            data = from_csv(path, client="who")
            assert [len(data[client]["n"]) for client in data] == data.size_array().tolist()
        except ValueError as error:
            assert path.name in str(error) or "There must be a row" in str(error)
            refused += 1
    assert 0 < refused < 300
