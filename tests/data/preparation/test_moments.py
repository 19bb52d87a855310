"""Moments over clients are those of their pooled data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.data import FederatedDataset, moments


def clients(parts):
    return FederatedDataset.from_dict({f"client {i}": {"x": part} for i, part in enumerate(parts)})


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any), st.sampled_from([(), (2,), (3, 2), (2, 1, 3)]), st.data())
def test_they_are_numpys_of_all_examples_at_once(sizes, shape, data):
    """The last axis is kept, all others count as examples."""
    numbers = hnp.arrays(np.float64, (sum(sizes), *shape), elements=st.floats(-1e6, 1e6))
    pooled = data.draw(numbers)
    mean, std = moments(clients(np.split(pooled, np.cumsum(sizes)[:-1])), "x")
    axes = tuple(range(max(1, pooled.ndim - 1)))
    scale = np.abs(pooled).max()
    assert mean["x"].shape == std["x"].shape == shape[-1:]
    np.testing.assert_allclose(mean["x"], pooled.mean(axis=axes), rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(std["x"], pooled.std(axis=axes), rtol=1e-9, atol=1e-12 * scale)


def test_no_digits_are_lost_far_from_zero():
    """1e9 - 1, 1e9, 1e9 + 1 in three clients: the variance is 2/3, where sums of squares in float64 keep no digit of it."""
    mean, std = moments(clients([[1e9 - 1], [1e9], [1e9 + 1]]), ["x"])
    assert mean["x"] == 1e9
    np.testing.assert_allclose(std["x"] ** 2, 2 / 3, rtol=1e-12)


def test_whole_numbers_of_small_types_do_not_overflow():
    mean, std = moments(clients([np.array([255, 255], np.uint8), np.array([0, 254], np.uint8)]), "x")
    assert (mean["x"], std["x"] ** 2) == (191, pytest.approx((64**2 * 2 + 191**2 + 63**2) / 4, rel=1e-12))


def test_several_columns_take_one_pass():
    read = []
    data = FederatedDataset({"ada": 2, "bob": 1}, lambda client: read.append(client) or {"a": np.ones(2), "b": np.zeros(2)})
    mean, std = moments(data, ("b", "a"))
    assert read == ["ada", "bob"]
    assert list(mean) == list(std) == ["b", "a"]
    assert (mean["a"], mean["b"], std["a"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("parts", "column", "message"),
    [
        ([[1.0], [np.nan]], "x", "finite numbers, got others in the column 'x' of client 'client 1', of float64"),
        ([["a"]], "x", "got others in the column 'x' of client 'client 0', of <U1"),
        ([[1.0]], "age", r"needs the column 'age', but client 'client 0' has \['x'\]"),
        ([[]], "x", r"at least one client with examples, got none with values in the columns \['x'\]"),
        ([np.zeros((1, 2)), np.zeros((1, 3))], "x", r"last axis of one length everywhere, got \(3,\) for client 'client 1' after \(2,\)"),
    ],
)
def test_what_has_no_moments_is_named_with_its_client(parts, column, message):
    with pytest.raises(ValueError, match=message):
        moments(clients(parts), column)
