"""Tables in memory by a client column: every library's tables, every type of column, and what is refused."""

import datetime
import pickle
import re

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
from data.rows_by_client import CLIENT_IDS, assert_holds, assert_same, grouped, rows
from hypothesis import given, settings
from hypothesis import strategies as st

import fedloom as fl
from fedloom.data import from_arrays, from_table

KINDS = {
    "pandas": pd.DataFrame,
    "pandas, objects": lambda columns: pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()}),
    "polars": pl.DataFrame,
    "polars, categorical": lambda columns: pl.DataFrame(columns).with_columns(pl.selectors.string().cast(pl.Categorical)),
    "pyarrow": pa.table,
    "record batch": pa.record_batch,
    "chunks": lambda columns: pa.concat_tables([pa.table(columns).slice(i, 3) for i in range(0, len(columns["who"]), 3)]),
    "reader": lambda columns: pa.table(columns).to_reader(3),
    "pyarrow data set": lambda columns: pyarrow.dataset.dataset(pa.table(columns)),
    "Hugging Face": datasets.Dataset.from_dict,
    "another library": lambda columns: OnlyAStream(pa.table(columns)),
}


class OnlyAStream:
    """A table of a library that is not known, such as a DuckDB relation."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.fixture(scope="module")
def plays(tff_folder):
    """Some of TFF's Shakespeare, whole; and its snippets in rows with those of other roles between."""
    train, _ = fl.data.shakespeare("tff", path=tff_folder)
    train = train.subset(train.client_ids[::12])
    rows = [(i, role, text) for role, examples in train.items() for i, text in enumerate(examples["snippets"])]
    rows.sort(key=lambda row: row[0])  # everyone's first, everyone's second, ...
    return train, {"role": [row[1] for row in rows], "snippets": [row[2] for row in rows]}


# --- real data


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "chunks"])
def test_real_snippets_come_back_as_they_were(plays, kind):
    source, columns = plays
    assert_same(from_table(KINDS[kind]({"who": columns["role"], "snippets": columns["snippets"]}), client="who"), source)


def test_real_snippets_as_arrays(plays):
    source, columns = plays
    assert_same(from_arrays({"snippets": columns["snippets"]}, columns["role"]), source)


def test_a_shuffled_and_selected_hugging_face_dataset(plays):
    """Its rows lie on disk in another order, which only its indices tell."""
    _, columns = plays
    whole = datasets.Dataset.from_dict(columns)
    view = whole.shuffle(seed=3).select(range(0, 900, 2)).filter(lambda row: len(row["snippets"]) > 40)
    assert view.data.num_rows != len(view)
    assert_holds(from_table(view, client="role"), grouped(view.to_list(), "role"))


def test_iris_by_species():
    """As frames of real measurements are: numbers, and a category to group by."""
    frame = pd.DataFrame(
        {
            "sepal": [5.1, 7.0, 4.9, 6.3],
            "petal": np.array([1.4, 4.7, 1.4, 6.0], np.float32),
            "species": ["setosa", "versi", "setosa", "virg"],
        }
    ).astype({"species": "category"})
    data = from_table(frame, client="species")
    assert_holds(data, grouped(frame.to_dict("records"), "species"))
    assert data["setosa"]["petal"].dtype == np.float32
    assert data["setosa"]["sepal"].dtype == np.float64


# --- the rule


@given(rows)
@settings(max_examples=30)
def test_rows_are_grouped_stably(rows):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    expected = grouped(rows, "who")
    table = pa.table(columns)
    assert_holds(from_table(table, client="who"), expected)
    who = columns.pop("who")
    assert_holds(from_arrays(columns, who), expected)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
@settings(max_examples=20)
def test_whole_numbers_are_ids_as_python_writes_them(numbers):
    expected = grouped([{"who": n, "x": i} for i, n in enumerate(numbers)], "who")
    x = np.arange(len(numbers))
    for who in (numbers, np.array(numbers), pa.array(numbers), pd.Series(numbers)):
        assert_holds(from_arrays({"x": x}, who), expected)
    assert_holds(from_table(pa.table({"who": numbers, "x": x}), client="who"), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_columns_of_every_kind_of_table(kind):
    n = 2 * len(CLIENT_IDS)
    columns = {"x": np.arange(n), "who": CLIENT_IDS * 2, "text": [f"text {i}" for i in range(n)], "extra": [0.5] * n}
    expected = {who: {"text": [f"text {i}", f"text {i + n // 2}"], "x": [i, i + n // 2]} for i, who in enumerate(CLIENT_IDS)}
    assert_holds(from_table(KINDS[kind](columns), client="who", columns=["text", "x"]), dict(sorted(expected.items())))


def test_ids_sort_as_python_sorts_them():
    """U+FFFF and beyond: UTF-16 would have them the other way round."""
    ids = ["\U0001f600", "\uffff", "b", "B", "é"]
    assert list(from_arrays({"x": range(5)}, ids)) == sorted(ids)


def test_rows_that_are_grouped_already_are_not_copied():
    x = np.arange(4.0)
    assert np.shares_memory(from_arrays({"x": x}, ["a", "a", "b", "c"])["a"]["x"], x)


def test_the_dataset_can_be_sent_to_another_process():
    for data in (from_arrays({"x": [1, 2, 3]}, ["b", "a", "b"]), from_table(pa.table({"w": ["b", "a", "b"], "x": [1, 2, 3]}), client="w")):
        assert_holds(pickle.loads(pickle.dumps(data)), {"a": {"x": [2]}, "b": {"x": [1, 3]}})


def test_a_view_of_a_large_table_has_only_its_own_rows():
    table = pa.table({"w": ["a", "b", "a", "b"], "x": [1, 2, 3, 4], "l": [[1], [2, 2], [], [4]]}).slice(1, 2)
    assert from_table(table, client="w")["a"]["x"].tolist() == [3]
    assert from_table(table, client="w")["b"]["l"][0].tolist() == [2, 2]


# --- types

TENSOR = pa.ExtensionArray.from_storage(
    pa.fixed_shape_tensor(pa.int16(), (2, 2)), pa.array([[1, 2, 3, 4], [5, 6, 7, 8]], pa.list_(pa.int16(), 4))
)
STRINGS = np.array(["p", "q"], object)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, 2], pa.uint8()), np.array([1, 2], np.uint8)),
        (pa.array([-1, 2], pa.int16()), np.array([-1, 2], np.int16)),
        (pa.array([True, False]), np.array([True, False])),
        (pa.array([1.5, None], pa.float32()), np.array([1.5, np.nan], np.float32)),
        (pa.array([np.float16(1.5), None], pa.float16()), np.array([1.5, np.nan], np.float16)),
        (pa.array(["p", "q"], pa.string()), STRINGS),
        (pa.array(["p", "q"], pa.large_string()), STRINGS),
        (pa.array(["p", "q"], pa.string_view()), STRINGS),
        (pa.array(["p", "q"]).dictionary_encode(), STRINGS),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.uint32()), pa.array(["p", "q"], pa.string_view())), STRINGS),
        (pa.array([b"p", b"\xff"], pa.binary()), np.array([b"p", b"\xff"], object)),
        (pa.array([b"p", b"\xff"], pa.binary(1)), np.array([b"p", b"\xff"], object)),
        (pa.array([datetime.date(2020, 1, 2), datetime.date(1969, 1, 2)]), np.array(["2020-01-02", "1969-01-02"], "M8[D]")),
        (pa.array([86_400_000, 0], pa.date64()), np.array(["1970-01-02", "1970-01-01"], "M8[ms]")),
        (pa.array([1, 2], pa.timestamp("us")), np.array([1, 2], "M8[us]")),
        (pa.array([1, 2], pa.timestamp("s", "Europe/Berlin")), np.array([1, 2], "M8[s]")),
        (pa.array([1, 2], pa.duration("ms")), np.array([1, 2], "m8[ms]")),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)), np.array([[1, 2], [3, 4]], np.int8)),
        (pa.array([[[1], [2]], [[3], [4]]], pa.list_(pa.list_(pa.int8(), 1), 2)), np.array([[[1], [2]], [[3], [4]]], np.int8)),
        (TENSOR, np.arange(1, 9, dtype=np.int16).reshape(2, 2, 2)),
        (pa.array([[1.0, None], [2.0, 3.0]], pa.list_(pa.float64(), 2)), np.array([[1, np.nan], [2, 3]])),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_a_column_of_each_type(column, expected):
    """Alone, sliced and in chunks."""
    between = pa.concat_arrays([column[1:], column, column[:1]])
    for table in (
        pa.table({"w": ["b", "a"], "x": column}),
        pa.table({"w": ["?", "b", "a", "?"], "x": between}).slice(1, 2),
        pa.table({"w": ["b", "a"], "x": pa.chunked_array([column[:1], column[1:]])}),
    ):
        data = from_table(table, client="w")
        for client, value in (("b", expected[:1]), ("a", expected[1:])):
            np.testing.assert_array_equal(data[client]["x"], value, strict=True)


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_lists_become_ragged_arrays(kind):
    table = pa.table({"w": ["b", "a", "b"], "x": pa.array([[1, 2], [], [3]], kind(pa.int32())), "s": pa.array([["u"], [], []])})
    examples = from_table(table, client="w")["b"]
    assert [(row.tolist(), row.dtype) for row in examples["x"]] == [([1, 2], np.int32), ([3], np.int32)]
    assert [row.tolist() for row in examples["s"]] == [["u"], []]


def test_hugging_face_arrays_labels_and_images():
    image = b"\x89PNG whatever"  # kept as it is
    features = datasets.Features(
        {
            "who": datasets.Value("string"),
            "matrix": datasets.Array2D((2, 3), "float32"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "image": datasets.Image(),
        }
    )
    matrix = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
    rows = {"who": ["b", "a", "b"], "matrix": matrix.tolist(), "label": [1, 0, 1], "image": [{"bytes": image, "path": None}] * 3}
    examples = from_table(datasets.Dataset.from_dict(rows, features=features), client="who")["b"]
    np.testing.assert_array_equal(examples["matrix"], matrix[[0, 2]], strict=True)
    assert examples["label"].tolist() == [1, 1]
    assert examples["image"].tolist() == [image, image]


def test_arrays_of_any_dtype_and_shape_are_kept():
    columns = {
        "z": np.array([1j, 2, 3]),
        "m": np.arange(12.0).reshape(3, 2, 2),
        "s": ["u", "v", "w"],
        "o": np.array([None, [1], "x"], object),
    }
    examples = from_arrays(columns, ["b", "a", "b"])["b"]
    assert examples["z"].tolist() == [1j, 3]
    np.testing.assert_array_equal(examples["m"], columns["m"][[0, 2]], strict=True)
    assert (examples["s"].dtype, examples["s"].tolist()) == (object, ["u", "w"])
    assert examples["o"].tolist() == [None, "x"]


def test_types_are_converted_where_asked():
    table = pa.table({"w": ["a", "a"], "price": pa.array(["1.5", "2.5"]).cast(pa.decimal128(10, 2)), "n": [1, None]})
    examples = from_table(table, client="w", types={"price": "float64", "n": pa.float32()})["a"]
    np.testing.assert_array_equal(examples["price"], [1.5, 2.5])
    np.testing.assert_array_equal(examples["n"], np.array([1, np.nan], np.float32), strict=True)


# --- what is refused


def table_of(who, **columns):
    return pa.table({"who": who, **(columns or {"x": list(range(len(who)))})})


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (pa.array([1.0, 2.0]), "got double in the client column 'who' of table, such as 1.0 in row 0. Whole numbers become floats where"),
        (pa.array([True]), "got bool in the client column 'who'"),
        (pa.array([datetime.date(2020, 1, 1)]), "got date32[day] in the client column 'who'"),
        (pa.array([["a"]]), "got list<"),
        (pa.array([b"a"]), "got binary"),
        (pa.array(["a", "b", None, None]), "got no value in the client column 'who' of table in 2 of the rows 0 to 3, first in row 2"),
        (pa.array([1, None]), "got no value in the client column 'who' of table in 1 of the rows 0 to 1, first in row 1"),
        (pa.array(["a", ""]), "got an empty text in the client column 'who' of table in 1 of the rows 0 to 1, first in row 1"),
        (pa.array(["a", None]).dictionary_encode(), "first in row 1"),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None])), "first in row 1"),
        (pa.nulls(2), "got null"),
    ],
)
def test_columns_that_are_no_ids(who, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        from_table(table_of(who), client="who")


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (["a", 1], "got 1 of type int after 'a' in row 1"),
        ([1, "a", "a"], "got 'a' of type str after 1 in row 1"),
        (["a", None], "got None of type NoneType after 'a' in row 1"),
        ([1, 2.5], "got 2.5 of type float after 1 in row 1"),
        ([1, True], "got True of type bool after 1 in row 1"),
        (["a", b"a"], "got b'a' of type bytes"),
        (["a", "\ud800"], r"got '\ud800' in row 1"),
    ],
)
def test_ids_of_mixed_types(who, message):
    x = list(range(len(who)))
    with pytest.raises(ValueError, match=f"{re.escape(message)} .*client_ids"):
        from_arrays({"x": x}, who)
    with pytest.raises(ValueError, match=f"{re.escape(message)} .*'who' of people"):
        from_table(pd.DataFrame({"who": pd.Series(who, dtype=object), "x": x}), client="who", name="people")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1, None, None]), "got 2 without in the rows 0 to 2, first row 1, of client 'b'. .*types={'x': \"float64\"}"),
        (pa.array(["u", "v", None]), "got 1 without in the rows 0 to 2, first row 2, of client 'c'"),
        (pa.array([True, None, False]), "of client 'b'"),
        (pa.array([1, None, 2], pa.timestamp("s")), "of client 'b'"),
        (pa.array([[1], [2], [3, None]]), "got 1 without in the rows 0 to 2, first row 2, of client 'c'"),
        (pa.array([[1], None, [3]]), "of client 'b'"),
        (pa.array([[1.0], None, [3.0]], pa.list_(pa.float64(), 1)), "of client 'b'"),
        (pa.array(["1", "2", "3"]).cast(pa.decimal128(5)), "got the Arrow type decimal128"),
        (pa.array([{"u": 1}] * 3), "got the Arrow type struct"),
        (pa.array([[[1]], [], []]), "got the Arrow type list"),
        (pa.array([1, 2, 3], pa.time32("s")), "got the Arrow type time32"),
        (pa.nulls(3), "got no value at all"),
        (pa.array([[], [], []], pa.list_(pa.int8(), 0)), "got the Arrow type fixed_size_list"),
    ],
)
def test_columns_that_cannot_be_kept(column, message):
    table = table_of(["a", "b", "c"], fine=[1, 2, 3], x=column)
    with pytest.raises(ValueError, match=f"Column 'x' of people.*{message}"):
        from_table(table, client="who", name="people")
    assert list(from_table(table, client="who", columns=["fine"])["a"]) == ["fine"]


def test_a_column_of_mixed_objects():
    with pytest.raises(ValueError, match="Column 'x' of table must hold values of one type that Arrow has, got object"):
        from_table(pd.DataFrame({"who": ["a", "b"], "x": ["u", 1]}), client="who")


def test_a_matrix_of_another_shape():
    features = datasets.Features({"who": datasets.Value("string"), "x": datasets.Array2D((None, 2), "int8")})
    ragged = datasets.Dataset.from_dict({"who": ["a", "b"], "x": [[[1, 2]], [[1, 2], [3, 4]]]}, features=features)
    with pytest.raises(ValueError, match="Column 'x' of table must hold numbers"):
        from_table(ragged, client="who")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"client": "whom"}, "client must name a column of table, got 'whom'. Is it 'who'? There are 'who', 'x', 'y'."),
        ({"client": "who", "columns": ["z"]}, "columns must name a column of table, got 'z'. There are"),
        ({"client": "who", "columns": ["x", "who"]}, "columns must not hold the client column 'who'"),
        ({"client": "who", "columns": ["x", "x"]}, "columns must name one column or more, each once"),
        ({"client": "who", "columns": []}, "columns must name one column or more, each once"),
        ({"client": "who", "types": {"who": "string"}}, "types must not give a type to the client column 'who'"),
        ({"client": "who", "types": {"x": "float"}, "columns": ["y"]}, "types must be of columns that are read, got 'x'"),
        ({"client": "who", "types": {"z": "float"}}, "types must name a column of table, got 'z'"),
        (
            {"client": "who", "types": {"x": "real"}},
            "types must give an Arrow type such as \"float64\" or \"string\" to column 'x', got 'real'",
        ),
        ({"client": "who", "types": {"y": "float64"}}, "Column 'y' of table must be double, got something else in the rows 0 to 0"),
    ],
)
def test_arguments_that_do_not_fit_the_table(arguments, message):
    for table in (table_of(["a"], x=[1], y=["u"]), pd.DataFrame({"who": ["a"], "x": [1], "y": ["u"]})):
        with pytest.raises(ValueError, match=re.escape(message)):
            from_table(table, **arguments)


def test_columns_as_one_string():
    with pytest.raises(TypeError, match=re.escape("Write ['x']")):
        from_table(table_of(["a"]), client="who", columns="x")


def test_two_columns_of_a_name():
    for table in (pa.table([["a"], [1], [2]], names=["who", "x", "x"]), pd.DataFrame([["a", 1, 2]], columns=["who", "x", "x"])):
        with pytest.raises(ValueError, match="distinct names, got 'x' twice in table"):
            from_table(table, client="who")


def test_only_the_client_column():
    with pytest.raises(ValueError, match="table must have a column besides the client column 'who'"):
        from_table(pa.table({"who": ["a"]}), client="who")


def test_no_rows():
    for kind in (pa.table, pd.DataFrame, pl.DataFrame, datasets.Dataset.from_dict):
        with pytest.raises(ValueError, match="There must be a row at least to make a client from, got none in table"):
            from_table(kind({"who": [], "x": []}), client="who")
    with pytest.raises(ValueError, match="There must be a row at least to make a client from, got none in arrays"):
        from_arrays({"x": []}, [])


def test_an_index_as_client():
    with pytest.raises(ValueError, match=re.escape("got 'who', which is its index. Pass `table.reset_index()`")):
        from_table(pd.DataFrame({"who": ["a"], "x": [1]}).set_index("who"), client="who")


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (pl.LazyFrame({"who": ["a"]}), "got LazyFrame. Call its collect()"),
        ({"who": ["a"]}, "got dict. Pass arrays and client ids to fl.data.from_arrays"),
        (pd.Series(["a"], name="who"), "got Series. Pass the DataFrame"),
        ([1], "got list"),
        (datasets.DatasetDict(train=datasets.Dataset.from_dict({"who": ["a"]})), "Choose one of 'train'"),
        (datasets.Dataset.from_dict({"who": ["a"]}).to_iterable_dataset(), "which streams. Write it to disk"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_things_that_are_no_tables(thing, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        from_table(thing, client="who")


@pytest.mark.parametrize(
    ("columns", "who", "message"),
    [
        ({"x": [1, 2], "y": [1]}, ["a", "b"], "one entry for each of the 2 client_ids, got {'x': 2, 'y': 1}"),
        ({"x": [1]}, ["a", "b"], "one entry for each of the 2 client_ids"),
        ({}, ["a"], "got no columns"),
        ({"x": 1}, ["a"], "Column 'x' of arrays must have one entry per example"),
        ({"x": [[1], [2, 3]]}, ["a", "b"], "Make it an array of objects if it is ragged"),
        ({"x": [1]}, np.zeros((1, 1), int), "client_ids must have one dimension"),
    ],
)
def test_arrays_that_do_not_fit(columns, who, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        from_arrays(columns, who)
