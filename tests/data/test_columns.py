"""Columns survive the way to Arrow and back, or are refused by name."""

import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.data._columns import to_arrow, to_field, to_numpy

NUMBERS = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(sizes=(32, 64)),
    st.just(np.dtype("M8[us]")),
)


def objects(values):
    column = np.empty(len(values), object)
    for i, value in enumerate(values):
        column[i] = value
    return column


def there_and_back(column):
    field = to_field("x", column, client="ada")
    return to_numpy(to_arrow(column, field, client="ada"), column="x", client="ada", field=field)


@given(hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)), st.integers(0, 3))
def test_numbers_of_any_shape(column, start):
    column = column[start:]  # also none at all
    got = there_and_back(column)
    assert got.dtype == column.dtype.newbyteorder("=") and got.shape == column.shape
    np.testing.assert_array_equal(got, column)


@given(st.lists(st.text()) | st.lists(st.binary()))
def test_text_and_bytes(values):
    got = there_and_back(objects(values))
    assert got.dtype == object and got.tolist() == values


@given(st.lists(hnp.arrays(np.int16, st.integers(0, 4)), min_size=1))
def test_ragged_rows(rows):
    got = there_and_back(objects(rows))
    assert got.shape == (len(rows),) and all(a.dtype == np.int16 and a.tolist() == b.tolist() for a, b in zip(got, rows, strict=True))


def test_fixed_width_text_becomes_objects():
    assert there_and_back(np.array(["a", "bcd"])).tolist() == ["a", "bcd"]
    assert there_and_back(np.array([b"a", b"bcd"])).tolist() == [b"a", b"bcd"]


def test_a_slice_of_matrices_is_that_slice():
    """Arrow slices share memory: the offset must count in examples, not in numbers."""
    column = np.arange(24.0).reshape(4, 2, 3)
    field = to_field("x", column, client="ada")
    array = to_arrow(column, field, client="ada")
    np.testing.assert_array_equal(to_numpy(array.slice(1, 2), column="x", client="ada", field=field), column[1:3])


def test_numbers_are_not_copied():
    table = pa.table({"x": np.arange(3.0)})
    got = to_numpy(table.column("x"), column="x", client="ada")
    assert got.ctypes.data == table.column("x").chunk(0).buffers()[1].address


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.chunked_array([[1], [2, 3]]), [1, 2, 3]),
        (pa.chunked_array([], pa.int64()), []),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)), [[1, 2], [3, 4]]),
        (pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8).reshape(2, 2, 2)), [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
    ],
)
def test_other_forms_that_arrow_has(array, expected):
    assert to_numpy(array, column="x", client="ada").tolist() == expected


def test_missing_floats_are_nan():
    np.testing.assert_array_equal(to_numpy(pa.array([1.0, None]), column="x", client="ada"), [1, np.nan])


@pytest.mark.parametrize("values", [[1, None], ["a", None], [True, None], [None, None]])
def test_other_missing_values_are_an_error(values):
    with pytest.raises(ValueError, match=r"'age' of client 'ada' must have a value in every example, got [12] without"):
        to_numpy(pa.array(values), column="age", client="ada")


@pytest.mark.parametrize("array", [pa.array([decimal.Decimal("1.5")]), pa.array([{"a": 1}])])
def test_types_that_numpy_has_not(array):
    with pytest.raises(ValueError, match=r"Column 'x' has the Arrow type (decimal|struct)"):
        to_numpy(array, column="x", client="ada")


@pytest.mark.parametrize(
    ("column", "got"),
    [
        (objects(["a", None]), "NoneType, str"),
        (objects(["a", 1]), "int, str"),
        (objects([np.zeros(2), np.zeros(2, np.int8)]), "ndarray"),
        (np.array([["a"]]), "one dimension"),
        (np.zeros(2, complex), "complex128"),
        (np.zeros((2, 0)), "without any value"),
    ],
)
def test_columns_that_cannot_be_stored(column, got):
    with pytest.raises(ValueError, match=rf"Column 'x' of client 'ada'.*{got}"):
        to_field("x", column, client="ada")


def test_a_column_that_does_not_fit_its_field():
    with pytest.raises(ValueError, match="Column 'x' of client 'bob' must be int64"):
        to_arrow(np.array([1.5]), pa.field("x", pa.int64()), client="bob")
