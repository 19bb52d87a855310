"""LEAF's json, as its preprocessing writes it (one object, `json.dump`), and as nobody should."""

import json
import os
import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.data.sources import _leaf, from_leaf
from fedloom.data.sources._leaf_json import parse, walk

# As LEAF's Shakespeare has it: 80 characters and the next one; here 4.
TEXTS = {"O'BRIEN\"; --/\\": {"x": ["to b", "o be"], "y": ["e", ","]}, "007": {"x": ["café"], "y": ["\U0001f600"]}}


def leaf(clients, **changes) -> dict:
    return {
        "users": list(clients),
        "num_samples": [len(next(iter(columns.values()))) for columns in clients.values()],
        "user_data": clients,
        **changes,
    }


def write(path, clients, *, ensure_ascii=True, indent=None, encoding="utf-8", **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(leaf(clients, **changes), ensure_ascii=ensure_ascii, indent=indent), encoding=encoding)
    return path


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_text(tmp_path, ensure_ascii, indent, encoding):
    path = write(tmp_path / "all_data.json", TEXTS, ensure_ascii=ensure_ascii, indent=indent, encoding=encoding, hierarchies=["a", "é"])
    data = from_leaf(path)
    assert data.name == "all_data"
    assert list(data.sizes.items()) == [("007", 1), ("O'BRIEN\"; --/\\", 2)]
    assert {client: {name: column.tolist() for name, column in columns.items()} for client, columns in data.items()} == TEXTS
    assert all(column.dtype == object for columns in data.values() for column in columns.values())


def test_the_members_may_come_in_any_order(tmp_path):
    content = leaf(TEXTS)
    for names in (["user_data", "users", "num_samples"], ["num_samples", "user_data", "users"]):
        path = tmp_path / "x.json"
        path.write_text(json.dumps({name: content[name] for name in names}, ensure_ascii=False))
        assert from_leaf(path)["007"]["x"].tolist() == ["café"]


# --- dtypes and shapes


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([1, -2], np.array([1, -2])),
        ([2**63 - 1, -(2**63)], np.array([2**63 - 1, -(2**63)])),
        ([1.5, 2], np.array([1.5, 2])),
        ([True, False], np.array([True, False])),
        ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
        ([[[0.5, 1]], [[2, 3]]], np.array([[[0.5, 1]], [[2, 3]]])),
        ([[["a"], ["b"]], [["c"], ["d"]]], np.array([[["a"], ["b"]], [["c"], ["d"]]], object)),
        ([[], []], np.zeros((2, 0))),
    ],
)
def test_numbers_and_lists(tmp_path, x, expected):
    data = from_leaf(write(tmp_path / "x.json", {"a": {"x": x}, "b": {"x": []}}))
    np.testing.assert_array_equal(data["a"]["x"], expected, strict=True)
    np.testing.assert_array_equal(data["b"]["x"], expected[:0], strict=True)


def test_ragged_lists(tmp_path):
    data = from_leaf(write(tmp_path / "x.json", {"a": {"x": [[1, 2], [], [3]], "y": [["b", "c"], ["d"], []]}}))
    x, y = data["a"]["x"], data["a"]["y"]
    assert (x.dtype, x.shape, y.dtype) == (object, (3,), object)
    assert [(row.dtype, row.tolist()) for row in x] == [(np.int64, [1, 2]), (np.int64, []), (np.int64, [3])]
    assert [(row.dtype, row.tolist()) for row in y] == [(object, ["b", "c"]), (object, ["d"]), (object, [])]


@pytest.mark.parametrize("files", [1, 2])
def test_all_clients_have_one_dtype_and_shape(tmp_path, files):
    """Half a number in one client makes all clients' numbers float64, and lists of another length all clients' lists ragged."""
    clients = {"a": {"x": [1], "y": [[1, 2]]}, "b": {"x": [0.5], "y": [[3]]}, "c": {"x": [2], "y": [[4, 5]]}, "d": {"x": [], "y": []}}
    names = sorted(clients)
    for i in range(files):
        write(tmp_path / "folder" / f"{i}.json", {name: clients[name] for name in names[i::files]})
    data = from_leaf(tmp_path / "folder")
    assert {columns["x"].dtype for columns in data.values()} == {np.dtype(np.float64)}
    assert [row.tolist() for columns in data.values() for row in columns["y"]] == [[1, 2], [3], [4, 5]]
    assert {columns["y"].dtype for columns in data.values()} == {np.dtype(object)}


SCALARS = st.sampled_from(
    [st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text(max_size=5)]
)


@given(st.data())
def test_what_is_written_is_read(tmp_path_factory, data):
    values = data.draw(SCALARS)
    ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    clients = data.draw(st.dictionaries(ids, st.fixed_dictionaries({"x": st.lists(values, max_size=4)}), min_size=1, max_size=4))
    path = tmp_path_factory.mktemp("leaf") / "x.json"
    read = from_leaf(write(path, clients, ensure_ascii=data.draw(st.booleans())))
    assert read.client_ids == tuple(sorted(clients))
    assert {client: {"x": read[client]["x"].tolist()} for client in read} == clients


# --- files and folders


def test_folders_with_splits(tmp_path):
    for split, texts in (("train", ["a", "b"]), ("test", ["c"])):
        write(tmp_path / "data" / split / "part_1.json", {"u1": {"x": texts}})
        write(tmp_path / "data" / split / "part_0.json", {"u2": {"x": texts}})
        (tmp_path / "data" / split / "notes.txt").write_text("no json")
    train, test = (from_leaf(tmp_path / "data", split=split) for split in ("train", "test"))
    assert (train.name, list(train), test["u2"]["x"].tolist()) == ("data train", ["u1", "u2"], ["c"])
    assert list(from_leaf(tmp_path / "data" / "test")) == ["u1", "u2"]
    for split in (None, "heldout", ".."):
        with pytest.raises(ValueError, match=r"split must be one of the folders \['test', 'train'\]"):
            from_leaf(tmp_path / "data", split=split)
    write(tmp_path / "one" / "train" / "x.json", {"u1": {"x": [1]}})
    assert list(from_leaf(tmp_path / "one")) == ["u1"]


def test_there_must_be_something(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing at .*nowhere"):
        from_leaf(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="without any"):
        from_leaf(tmp_path)
    with pytest.raises(ValueError, match="split must be None for a single file, got 'train'"):
        from_leaf(write(tmp_path / "x.json", TEXTS), split="train")
    (tmp_path / "x.json").write_text(json.dumps(leaf({})))
    with pytest.raises(ValueError, match=r"x\.json must be LEAF's json .* got no user"):
        from_leaf(tmp_path / "x.json")


def test_a_user_in_two_files(tmp_path):
    for name in ("first", "second"):
        write(tmp_path / f"{name}.json", {"twin": {"x": [1]}})
    with pytest.raises(ValueError, match=r"User 'twin' must be in one file, but is in .*first\.json and in .*second\.json"):
        from_leaf(tmp_path)


def test_a_look_up_reads_that_client_only(tmp_path):
    """The rest of the file may as well be gone, as long as it seems unchanged."""
    path = write(tmp_path / "x.json", {"a": {"x": ["é"]}, "b": {"x": ["one"]}, "c": {"x": ["two"]}}, ensure_ascii=False)
    data = from_leaf(path)
    stat, content = path.stat(), path.read_bytes()
    start = content.index(b'{"x": ["one"]}')
    path.write_bytes(b"#" * start + b'{"x": ["one"]}' + b"#" * (len(content) - start - 14))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert data["b"]["x"].tolist() == ["one"]
    for client in "ac":
        with pytest.raises(ValueError, match=r"x\.json must stay as it was"):
            data[client]


def test_a_file_that_has_changed_is_not_read(tmp_path):
    path = write(tmp_path / "x.json", {"a": {"x": [1]}})
    data = pickle.loads(pickle.dumps(from_leaf(path)._read))
    assert data("a")["x"].tolist() == [1]
    write(path, {"a": {"x": [23]}})
    with pytest.raises(ValueError, match=r"x\.json must stay as it was"):
        data("a")
    path.unlink()
    with pytest.raises(ValueError, match=r"x\.json must stay as it was"):
        data("a")


def test_a_file_too_large_to_parse(tmp_path, monkeypatch):
    monkeypatch.setattr(_leaf, "_MAX_FILE_BYTES", 10)
    with pytest.raises(ValueError, match=r"x\.json must be .* over the bound of 10; split it"):
        from_leaf(write(tmp_path / "x.json", TEXTS))


# --- files that are not what they should be


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"users": ["a"]}, "no lists 'users' and 'num_samples' of the same length"),
        ({"users": None}, "no lists 'users' and"),
        ({"num_samples": {"a": 1}}, "no lists 'users' and"),
        ({"users": ["a", "c"]}, "the user 'c' in 'users' but not in 'user_data'"),
        ({"users": ["a", 7]}, "the user 7 in 'users'"),
        ({"users": ["a", ["b"]]}, r"the user \['b'\] in 'users'"),
        ({"users": ["a", "a"]}, "the user 'a' twice in 'users'"),
        ({"users": ["a"], "num_samples": [2]}, "the user 'b' in 'user_data' but not in 'users'"),
        ({"num_samples": [2, 2]}, "2 in 'num_samples' where the user 'b' has 1 examples"),
        ({"num_samples": [2, True]}, "True in 'num_samples'"),
        ({"num_samples": [2, 1.0]}, "1.0 in 'num_samples'"),
    ],
)
def test_statements_that_do_not_agree(tmp_path, changes, expected):
    path = write(tmp_path / "x.json", {"a": {"x": [1, 2]}, "b": {"x": [3]}}, **changes)
    with pytest.raises(ValueError, match=rf"x\.json must be LEAF's json .*{expected}.* Get the file again"):
        from_leaf(path)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([1], "client 'b' with something else than an object of lists"),
        ({}, "client 'b' with something else"),
        ({"x": "text"}, "client 'b' with something else"),
        ({"x": {"tokens": [1]}}, "client 'b' with something else"),
        ({"x": [1], "y": [1, 2]}, r"client 'b' with columns of unequal length, \{'x': 1, 'y': 2\}"),
        ({"x": [1], "y": [1]}, r"client 'b' with the columns \['x', 'y'\] where clients before it have \['x'\]"),
        ({"x": [1, None]}, "client 'b' with null and whole numbers in one column .*, in column 'x'"),
        ({"x": [1, "a"]}, "client 'b' with text and whole numbers .*, in column 'x'"),
        ({"x": [1, True]}, "true or false and whole numbers"),
        ({"x": [{"y": 1}]}, "objects in one column"),
        ({"x": ["a"]}, "client 'b' with str where clients before it have int, in column 'x'"),
        ({"x": [[1]]}, r"client 'b' with examples of shape \(1,\) where clients before it have \(\)"),
        ({"x": [1, [2]]}, "lists and single values side by side"),
        ({"x": [[1], [[2]]]}, "lists and single values side by side"),
        ({"x": [[[1], [2, 3]], [[4], [5]]]}, "lists in lists of different lengths"),
        ({"x": [[[1]], [[2], [3]]]}, "lists in lists of different lengths"),
        ({"x": [2**63]}, "a whole number of more than 64 bits"),
        ({"x": [0.5, -(2**64)]}, "a whole number of more than 64 bits"),
        ({"x": [10**400]}, "a whole number of more than 64 bits"),
    ],
)
def test_bad_columns(tmp_path, columns, expected):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"users": ["a", "b"], "num_samples": [1, 1], "user_data": {"a": {"x": [7]}, "b": columns}}))
    with pytest.raises(ValueError, match=rf"x\.json must be LEAF's json .*{expected}"):
        from_leaf(path)


GOOD = '{"users": ["a"], "num_samples": [1], "user_data": {"a": {"x": [1.5]}}}'


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("1.5", "NaN", "client 'a' with the token NaN, which is not json"),
        ("1.5", "-Infinity", "client 'a' with the token -Infinity"),
        ("1.5", "1e999", "client 'a' with a number beyond the range of floating point, in column 'x'"),
        ("1.5", "1" * 5000, "client 'a' with .*4300 digits"),
        ("1.5", "[" * 200_000, "client 'a' with lists nested too deeply"),
        ("1.5", "[" * 40 + "1" + "]" * 40, "client 'a' with lists in lists of different lengths, or nested too deeply"),
        ("1.5", "1.5,", "client 'a' with "),
        ("1.5", "1.5 /* one */", "client 'a' with "),
        ("1.5", "01", "client 'a' with "),
        ('"x": [1.5]', '"x": [1.5], "x": [2.5]', "client 'a' with the name 'x' twice in an object"),
        ('"a": {', '"a": {"x": [2.5]}, "a": {', "the name 'a' twice in an object"),
        ('"a": {', '"\\ud800": {', "an id that is no text in Unicode"),
        ('"users"', '"user_data": {}, "users"', "the name 'user_data' twice in an object"),
        ('"users": ["a"]', '"users": ["a"], "users": ["a"]', "the name 'users' twice in an object"),
        ('"user_data"', '"userdata"', "an object without 'user_data'"),
        ('"users":', "7:", "no name but a int in an object"),
        ('"users":', '"users"', "instead of ':'"),
        ("{", "[", "instead of '{'"),
        ('{"a": {"x": [1.5]}}', "[]", "instead of '{'"),
        ("}}}", "}}", "'' instead of ','"),
        ("}}}", "}}}}", "more after its end"),
        ("}}}", "}}} {}", "more after its end"),
        ("}}}", "}},}", "Expecting value"),
        (GOOD, "", "'' instead of '{'"),
        (GOOD, " \n", "'' instead of '{'"),
        (GOOD, "[" * 200_000, "instead of '{'"),
        (GOOD, '{"users": ' + "[" * 200_000, "lists nested too deeply"),
    ],
)
def test_bad_json(tmp_path, old, new, expected):
    path = tmp_path / "x.json"
    path.write_text(GOOD)
    assert from_leaf(path)["a"]["x"].tolist() == [1.5]
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"x\.json must be LEAF's json .*{expected}.*Get the file again"):
        from_leaf(path)


@pytest.mark.parametrize("content", [GOOD.encode("utf-16"), GOOD.encode("utf-32"), GOOD.replace("1.5", '"\xe9"').encode("latin-1")])
def test_another_encoding(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json must be LEAF's json .* codec can't decode"):
        from_leaf(tmp_path / "x.json")


WHOLE = json.dumps(
    leaf({"a": {"x": [[1, 2.5], [3, 4]], "y": ["é", "\\"]}, "b": {"x": [], "y": []}}, hierarchies=[None, True]), ensure_ascii=False
).encode()


@given(st.data())
def test_damage_is_read_or_refused(tmp_path_factory, data):
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.one_of(st.sampled_from(b'{}[]",:\\019.eE- '), st.integers(0, 255))
        )
    path = tmp_path_factory.mktemp("leaf") / "x.json"
    path.write_bytes(content[: data.draw(st.sampled_from([len(content)] * 3 + [data.draw(st.integers(0, len(content)))]))])
    with suppress(ValueError):
        read = from_leaf(path)
        assert {len(column) for client in read for column in read[client].values()} <= {0, 1, 2}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)))
def test_the_walk_finds_what_json_finds(value):
    """Any member is what `json.loads` makes of it, and any client is found again where the walk says it is."""
    content = json.dumps({"other": value, "user_data": {"ä": value, "b": value}}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    seen = []
    with suppress(UnicodeDecodeError):
        found = walk(content, lambda client, parsed: seen.append((client, parsed)))
        assert found.others == {"other": value}
        assert seen == [("ä", value), ("b", value)]
        assert [parse(content[start:stop]) for start, stop in found.places.values()] == [value, value]
