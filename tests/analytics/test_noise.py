import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.analytics._clients import generator
from fedloom.analytics._noise import discrete_gaussian, from_modular, rounded_gaussian, to_modular
from fedloom.analytics._privacy import distributed_noise_multiplier, distributed_std


def mass(std, reach):
    """Of a discrete Gaussian on -reach, ..., reach."""
    k = np.arange(-reach, reach + 1)
    weights = np.exp(-(k**2) / (2 * std**2))
    return k, weights / weights.sum()


@pytest.mark.parametrize("std", [0.5, 1.0, 7.3])
def test_discrete_gaussian_has_its_distribution(std):
    """Each frequency within 5 standard errors of the mass, n = 40,000; what is expected less than once in 20 runs does not come."""
    n = 40_000
    drawn = np.asarray(discrete_gaussian(jax.random.key(3), std, n))
    k, p = mass(std, int(12 * std) + 2)
    counts = np.array([(drawn == value).sum() for value in k])
    assert counts.sum() == n
    likely = p * n > 0.05
    assert (np.abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 1)[likely].all() and not counts[~likely].any()
    assert np.var(drawn) == pytest.approx((p * k**2).sum(), rel=5 * np.sqrt(2 / n) * 1.5)


def test_no_noise_is_zeros_and_numbers_are_independent():
    assert not np.asarray(discrete_gaussian(jax.random.key(0), 0.0, 5)).any()
    draws = np.asarray(discrete_gaussian(jax.random.key(1), 20.0, 20_000)).reshape(2, -1)
    assert abs(np.corrcoef(draws)[0, 1]) < 5 / np.sqrt(10_000)


def test_rounded_gaussian_has_the_stated_variance():
    """std^2 + 1/12, within 5 standard errors, n = 100,000."""
    drawn = rounded_gaussian(generator(0, "noise"), 2.0, 100_000)
    assert drawn.dtype == np.int64
    assert np.var(drawn) == pytest.approx(4 + 1 / 12, rel=5 * np.sqrt(2 / 100_000))


@given(st.lists(st.integers(-500, 500), min_size=1, max_size=20), st.integers(2, 32))
@settings(max_examples=50, deadline=None)
def test_sums_wrap_around_and_come_back(numbers, bits):
    """Modulo 2^bits, in the range of signed integers: the sum itself, if it has room there."""
    total = np.asarray(to_modular(np.array(numbers, np.int32), bits)).sum(dtype=np.uint32)
    back = int(from_modular(total, bits))
    assert -(2 ** (bits - 1)) <= back < 2 ** (bits - 1)
    assert (back - sum(numbers)) % 2**bits == 0
    if -(2 ** (bits - 1)) <= sum(numbers) < 2 ** (bits - 1):
        assert back == sum(numbers)


def renyi(p, q, alpha):
    return np.log(np.exp(alpha * np.log(p) + (1 - alpha) * np.log(q)).sum()) / (alpha - 1)


@pytest.mark.parametrize(("clients", "std"), [(2, 0.5), (3, 0.7), (4, 1.0), (10, 2.0)])
@pytest.mark.parametrize("size", [1, 3])
def test_distributed_noise_hides_at_least_what_its_bound_says(clients, std, size):
    """The exact Renyi divergence of a sum of discrete Gaussians from itself moved by 1 in each coordinate, by convolution."""
    _, one = mass(std, int(14 * std) + 2)
    total = one
    for _ in range(clients - 1):
        total = np.convolve(total, one)
    total = total[total > 1e-280]
    z = distributed_noise_multiplier(std, clients, np.sqrt(size), size)
    for alpha in (1.5, 2.0, 8.0):
        assert size * renyi(total[1:], total[:-1], alpha) <= alpha / (2 * z**2) * (1 + 1e-9)
    if std == 2.0:  # and close to it, where the noise is nearly a Gaussian
        assert z == pytest.approx(std * np.sqrt(clients / size), rel=1e-6)


@pytest.mark.parametrize(("goal", "clients", "sensitivity", "size"), [(1.0, 10, 5.0, 100), (0.1, 100_000, 1.0, 10), (4.0, 1000, 3.0, 2047)])
def test_distributed_std_is_the_least_that_is_enough(goal, clients, sensitivity, size):
    std = distributed_std(goal, clients, sensitivity, size)
    assert distributed_noise_multiplier(std, clients, sensitivity, size) >= goal
    assert std == 0.5 or distributed_noise_multiplier(std * (1 - 1e-4), clients, sensitivity, size) < goal
