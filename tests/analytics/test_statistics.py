import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom import analytics


def clients(seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    return {f"client {i}": rng.normal(offset, 2, size=i % 7).astype(np.float32) for i in range(20)}


def test_statistics_are_those_of_all_values_together():
    data = clients(offset=3.0)
    pooled = np.concatenate(list(data.values())).astype(np.float64)
    found = analytics.statistics(data)
    assert (found.count, found.num_clients, found.min, found.max) == (len(pooled), 20, pooled.min(), pooled.max())
    for got, expected in (
        (found.sum, pooled.sum()),
        (found.mean, pooled.mean()),
        (found.variance, pooled.var()),
        (found.std, pooled.std()),
    ):
        assert got == pytest.approx(expected, rel=1e-6)
    assert analytics.sum(data) == found.sum and analytics.mean(data) == found.mean and analytics.variance(data) == found.variance


def test_variance_survives_a_large_mean():
    """Sums of squares in float32 would have an error of 1e12 * 2^-24 = 60,000; the values are exact in float32."""
    data = {name: 1e6 + np.arange(i, i + 5.0) for i, name in enumerate("abcd")}
    pooled = np.concatenate(list(data.values()))
    found = analytics.statistics(data)
    assert found.variance == pytest.approx(pooled.var(), rel=1e-5)
    assert found.mean == pytest.approx(pooled.mean(), abs=1e-3)


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), max_size=5), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_any_values_of_any_clients(lists):
    pooled = np.concatenate([np.asarray(values, np.float64) for values in lists])
    data = {str(i): values for i, values in enumerate(lists)}
    if not len(pooled):
        with pytest.raises(ValueError, match="at least one value, got . clients without any"):
            analytics.statistics(data)
        return
    found = analytics.statistics(data)
    assert found.mean == pytest.approx(pooled.mean(), rel=1e-6, abs=1e-4)
    assert found.variance == pytest.approx(pooled.var(), rel=1e-4, abs=1e-4)
    assert (found.min, found.max) == (pooled.min(), pooled.max())


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=4), min_size=2, max_size=4), st.floats(0, 1))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_quantiles_are_the_values_at_their_ranks(lists, q):
    """Of any floats there are, subnormal and of both signs; as numpy's inverted_cdf."""
    pooled = np.concatenate([np.asarray(values, np.float32) for values in [*lists, [0.0]]])
    found = analytics.quantiles({**{str(i): values for i, values in enumerate(lists)}, "last": [0.0]}, [q, 0, 1])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.quantile(pooled, [q, 0, 1], method="inverted_cdf"))


def test_one_quantile_is_a_number_of_shape_zero():
    found = analytics.quantiles({"ada": [3, 1], "bob": [2]}, 0.5)
    assert found.shape == () and found == 2
