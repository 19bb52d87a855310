import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom import analytics
from fedloom.analytics._tree import Tree

RNG = np.random.default_rng(0)
DATA = {f"client {i}": RNG.normal(0, 1, size=i % 9) for i in range(30)}
POOLED = np.concatenate(list(DATA.values()))
EDGES = [-1.0, 0.0, 0.25, 1.0]


def test_a_histogram_is_that_of_all_values_together():
    data = {**DATA, "at the edges": [-1.0, 0.0, 1.0, 1.0, 5.0]}
    pooled = np.concatenate([POOLED, data["at the edges"]])
    found = analytics.histogram(data, EDGES)
    np.testing.assert_array_equal(found.counts, np.histogram(pooled, EDGES)[0])
    assert (found.below, found.above) == ((pooled < -1).sum(), (pooled > 1).sum())
    assert found.noise_std == 0 and found.privacy is None


def test_a_client_counts_for_a_few_values_only_or_once_in_a_bin():
    data = {"ada": [0.1] * 50 + [0.5] * 3, "bob": [0.1]}
    assert analytics.histogram(data, EDGES, max_per_client=10).counts.sum() == 11
    np.testing.assert_array_equal(analytics.histogram(data, EDGES, distinct=True).counts, [0, 2, 1])
    assert analytics.histogram(data, EDGES, distinct=True, max_per_client=1).counts.sum() == 2


@pytest.mark.parametrize(("bins", "arity"), [(7, 2), (9, 3), (1, 2)])
def test_each_level_of_a_tree_is_a_histogram(bins, arity):
    """Values outside count in the first and the last bin."""
    found = analytics.hierarchical_histogram(DATA, -1, 1, bins, arity=arity)
    flat = np.histogram(np.clip(POOLED, -1, 1), found.edges)[0]
    np.testing.assert_array_equal(found.counts, flat)
    padded = np.concatenate([flat, np.zeros(len(found.levels[-1]) - bins)])
    for level in found.levels:
        np.testing.assert_array_equal(level, padded.reshape(len(level), -1).sum(1))
    assert found.total == len(POOLED)


def test_ranges_and_quantiles_of_a_tree():
    found = analytics.hierarchical_histogram(DATA, -4, 4, 256)
    inside = (np.digitize(POOLED, found.edges[[70, 150]]) == 1).sum()
    assert found.range_count(found.edges[70], found.edges[150]) == inside
    assert found.range_count(-9, 9) == len(POOLED)
    for q in (0.0, 0.1, 0.5, 0.93, 1.0):
        assert abs(found.quantile(q) - np.quantile(POOLED, q, method="inverted_cdf")) <= 8 / 256
    with pytest.raises(ValueError, match=r"q must be in \[0, 1\], got 1.5"):
        found.quantile(1.5)
    with pytest.raises(ValueError, match="low must be at most high"):
        found.range_count(1, 0)
    with pytest.raises(ValueError, match="at least one value"):
        analytics.hierarchical_histogram({"ada": []}, 0, 1, 4).quantile(0.5)


@pytest.mark.parametrize(("arity", "depth"), [(2, 0), (2, 2), (3, 1)])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_sensitivity_is_the_largest_norm_of_a_clients_counts(arity, depth, most):
    """Over all ways to put so many values into the leaves."""
    tree = Tree(arity, depth)

    def norm(leaves):
        counts = np.bincount(leaves, minlength=arity**depth)
        return np.sqrt(sum((counts.reshape(arity**level, -1).sum(1) ** 2).sum() for level in range(depth + 1)))

    leaves = range(arity**depth)
    assert tree.sensitivity(most, False) == pytest.approx(max(map(norm, itertools.combinations_with_replacement(leaves, most))))
    few = min(most, arity**depth)
    assert tree.sensitivity(most, True) == pytest.approx(max(map(norm, itertools.combinations(leaves, few))))


@given(st.integers(2, 3), st.integers(0, 3), st.integers(0, 10))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_consistent_counts_are_the_least_squares_estimate(arity, depth, seed):
    """Against the normal equations for the leaves, and they add up."""
    tree = Tree(arity, depth)
    noisy = tree.levels(np.random.default_rng(seed).normal(0, 5, tree.size))
    rows = [np.repeat(np.eye(arity**level), arity ** (depth - level), axis=1) for level in range(depth + 1)]
    leaves = np.linalg.lstsq(np.concatenate(rows), np.concatenate(noisy), rcond=None)[0]
    for level, row in zip(tree.consistent(noisy), rows, strict=True):
        np.testing.assert_allclose(level, row @ leaves, atol=1e-9)


def test_noise_of_the_server_is_as_stated():
    """On 1,002 counts: variance (3 z)^2 + 1/12 within 5 standard errors, and the counts beneath it are right on average."""
    edges = np.linspace(-1, 1, 1001)
    found = analytics.histogram(DATA, edges, max_per_client=3, noise_multiplier=2.0, delta=1e-3, seed=0)
    noise = found.counts - np.histogram(POOLED, edges)[0]
    assert found.noise_std == 6.0
    assert np.var(noise) == pytest.approx(36 + 1 / 12, rel=5 * np.sqrt(2 / 1000))
    assert found.privacy.noise_multiplier == 2.0 and found.privacy.relation == "add_or_remove_one"
    again, other = (analytics.histogram(DATA, edges, max_per_client=3, noise_multiplier=2.0, delta=1e-3, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(found.counts, again.counts)
    assert (found.counts != other.counts).any()


def test_noise_of_the_clients_is_as_stated():
    """Summed modulo 2^16 over 30 clients, on 1,002 counts: the stated variance within 5 standard errors."""
    settings = dict(max_per_client=8, epsilon=2.0, delta=1e-3, noise_from="clients", bits=16, seed=3)
    edges = np.linspace(-1, 1, 1001)
    found = analytics.histogram(DATA, edges, **settings)
    noise = np.concatenate([found.counts, [found.below, found.above]]) - np.concatenate(
        [np.histogram(POOLED, edges)[0], [(POOLED < -1).sum(), (POOLED > 1).sum()]]
    )
    assert np.var(noise) == pytest.approx(found.noise_std**2, rel=5 * np.sqrt(2 / 1002))
    assert found.privacy.epsilon == pytest.approx(2.0, abs=1e-3) and found.privacy.epsilon <= 2.0
    assert found.noise_std == pytest.approx(found.privacy.noise_multiplier * 8, rel=1e-3)
    half = analytics.histogram(DATA, edges, dropout=0.5, **settings)
    assert half.noise_std == pytest.approx(found.noise_std * np.sqrt(2), rel=1e-3)  # each of 30 adds what 15 would have to
    assert half.privacy.epsilon == pytest.approx(2.0, abs=1e-3)
    debug = analytics.histogram(DATA, edges, executor="debug", **settings)
    np.testing.assert_array_equal(debug.counts, found.counts)


def test_a_noisy_tree_answers_ranges_better_than_its_leaves():
    """Half of 256 bins: the flat histogram's noise has variance 128 s^2; the tree's nodes alone would have s^2, at the best."""
    half = [analytics.hierarchical_histogram(DATA, -1, 1, 256, max_per_client=1, seed=seed).range_count(-1, 0) for seed in range(20)]
    found = [
        analytics.hierarchical_histogram(DATA, -1, 1, 256, max_per_client=1, noise_multiplier=1.0, delta=1e-3, seed=seed)
        for seed in range(20)
    ]
    assert found[0].noise_std == 3.0  # sqrt(9 levels)
    assert np.mean((np.array([one.range_count(-1, 0) for one in found]) - half) ** 2) < 2 * 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(epsilon=1.0, delta=1e-3), "max_per_client must be given with epsilon"),
        (dict(max_per_client=0), "max_per_client must be a whole number of at least 1, got 0"),
        (dict(max_per_client=1, epsilon=1.0), r"delta must be in \(0, 0.0333\), below 1 / number of clients, got None"),
        (dict(max_per_client=1, epsilon=1.0, delta=0.05), "got 0.05: publishing all data of one client"),
        (dict(max_per_client=1, delta=1e-3), "delta=0.001 needs epsilon, or noise_multiplier"),
        (dict(max_per_client=1, epsilon=-1.0, delta=1e-3), "epsilon must be finite and above 0, got -1.0"),
        (dict(max_per_client=1, epsilon=1.0, noise_multiplier=1.0, delta=1e-3), "Give epsilon or noise_multiplier"),
        (dict(noise_from="clients"), 'noise_from="clients" needs epsilon'),
        (dict(noise_from="nobody"), 'must be "server" or "clients", got \'nobody\''),
        (dict(dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (dict(bits=33), "bits must be a whole number of at least 2 and at most 32, got 33"),
        (dict(max_per_client=8, noise_multiplier=1.0, delta=1e-3), "seed must be given with epsilon or noise_multiplier"),
        (
            dict(max_per_client=8, noise_multiplier=1.0, delta=1e-3, noise_from="clients", bits=8, seed=0),
            "bits must be at least 10 .* got 8",
        ),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        analytics.histogram(DATA, EDGES, **arguments)


def test_bad_bins_are_refused():
    for edges in ([1.0], [0.0, 0.0], [1.0, 0.0], [0.0, np.inf], [[0.0, 1.0]]):
        with pytest.raises(ValueError, match="edges must be at least two finite numbers that increase"):
            analytics.histogram(DATA, edges)
    for arguments, message in (((1, 0, 4), "lower must be below upper"), ((0, 1, 0), "bins must be a whole number of at least 1, got 0")):
        with pytest.raises(ValueError, match=message):
            analytics.hierarchical_histogram(DATA, *arguments)
    with pytest.raises(ValueError, match="arity must be a whole number of at least 2, got 1"):
        analytics.hierarchical_histogram(DATA, 0, 1, 4, arity=1)
