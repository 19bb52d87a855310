import numpy as np
import pytest

from fedloom import analytics
from fedloom.analytics._distinct import _registers_of, estimate

PRECISION = 10
REGISTERS = 2**PRECISION


def registers(values, seed):
    """Of one client's values, in NumPy."""
    own = _registers_of(PRECISION, seed, "ada", values)
    result = np.zeros(REGISTERS + 1, int)
    np.maximum.at(result, own["register"], own["rank"])
    return result[:-1]


@pytest.mark.parametrize("count", [0, 1, 30, 1000, 2500, 5000, 20_000])
def test_estimates_keep_to_the_stated_error(count):
    """5 hash functions each, with fewer values than registers and with more: each within 4 standard errors, 1.04 / sqrt(m) = 3 %."""
    found = [estimate(registers(np.arange(count), seed), 64 - PRECISION) for seed in range(5)]
    assert np.abs(np.array(found) - count).max() <= 4 * 1.04 / np.sqrt(REGISTERS) * count


def test_mean_of_estimates_is_right():
    """Where the estimator of Flajolet et al. is off by several per cent: 40 hash functions, within 4 standard errors of their mean."""
    found = [estimate(registers(np.arange(2500), seed), 64 - PRECISION) for seed in range(40)]
    assert np.mean(found) == pytest.approx(2500, rel=4 * 1.04 / np.sqrt(REGISTERS * 40))


def test_a_rank_is_the_place_of_the_first_one():
    """Of 64 - precision bits: uniform hashes give rank k with probability 2^-k, within 5 standard errors, n = 4,000."""
    ranks = _registers_of(4, 0, "ada", np.arange(4000))["rank"][:4000]
    for k in range(1, 6):
        assert abs((ranks == k).sum() - 4000 / 2**k) < 5 * np.sqrt(4000 / 2**k)
    assert ranks.min() == 1


def test_values_of_several_clients_count_once():
    rng = np.random.default_rng(0)
    data = {str(i): [f"word {j}" for j in rng.integers(0, 500, 40)] for i in range(30)}
    distinct = set().union(*data.values())
    found = analytics.count_distinct(data, precision=PRECISION)
    np.testing.assert_array_equal(found.registers, registers(sorted(distinct), 0))
    assert found.estimate == pytest.approx(len(distinct), rel=4 * found.relative_error)
    assert found.relative_error == 1.04 / np.sqrt(REGISTERS)


def test_numbers_are_compared_as_numbers():
    found = analytics.count_distinct({"ada": [1, 2], "bob": np.array([1.0, -0.0]), "cyd": [], "dan": [False, True]}, precision=PRECISION)
    assert found.estimate == pytest.approx(3, abs=0.1)
    assert analytics.count_distinct({"ada": []}, precision=PRECISION).estimate == 0


def test_bad_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be a whole number of at least 4 and at most 18, got 3"):
        analytics.count_distinct({"ada": ["a"]}, precision=3)
