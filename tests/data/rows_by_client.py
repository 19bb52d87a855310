"""What any reader of rows must do, in plain Python; and how two data sets are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fedloom.data import FederatedDataset

Row = Mapping[str, Any]

CLIENT_IDS = ["007", "7", "O'BRIEN\"; --", "../%2F?x", "a b", "Zoë", "zoe", "日本", "\U0001f600", "\uffff", "NA", "null", "1.0", "c=1"]
"""Ids that would break out of a carelessly quoted query or path, or would not survive being taken for numbers or for missing."""

_values = {
    "who": st.sampled_from(CLIENT_IDS),
    "x": st.integers(-(2**63), 2**63 - 1),
    "y": st.floats(allow_nan=False),
    "text": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
}
_row = st.tuples(*_values.values()).map(lambda values: dict(zip(_values, values, strict=True)))

rows = st.lists(_row, min_size=1, max_size=40)


def grouped(rows: Iterable[Row], client: str) -> dict[str, dict[str, list]]:
    """Client -> column -> values in the order of the rows; clients in the order of their ids, columns in that of the first row."""
    rows = list(rows)
    found: dict[str, dict[str, list]] = {}
    for row in rows:
        columns = found.setdefault(str(row[client]), {name: [] for name in rows[0] if name != client})
        for name, values in columns.items():
            values.append(row[name])
    return dict(sorted(found.items()))


def assert_holds(dataset: FederatedDataset, expected: Mapping[str, Mapping[str, Iterable]]) -> None:
    """The same clients in the same order, with the same values, NaN being equal to NaN."""
    assert list(dataset) == list(expected)
    assert dict(dataset.sizes) == {client: len(list(next(iter(columns.values())))) for client, columns in expected.items()}
    for client, columns in expected.items():
        examples = dataset[client]
        assert list(examples) == list(columns)
        for name, values in columns.items():
            is_text = any(isinstance(value, str | bytes) for value in values)
            np.testing.assert_array_equal(examples[name], np.array(values, object if is_text else None))


def assert_same(dataset: FederatedDataset, other: FederatedDataset) -> None:
    """Equal in clients, sizes, columns, dtypes, shapes and values."""
    assert list(dataset) == list(other)
    assert dataset.size_array().tolist() == other.size_array().tolist()
    for client in dataset:
        one, two = dataset[client], other[client]
        assert list(one) == list(two)
        for name in one:
            assert (one[name].dtype, one[name].shape) == (two[name].dtype, two[name].shape), name
            pairs = zip(one[name], two[name], strict=True) if one[name].dtype == object else [(one[name], two[name])]
            for first, second in pairs:
                assert type(first) is type(second)
                np.testing.assert_array_equal(first, second, strict=isinstance(first, np.ndarray))
