"""Noise that a banded matrix correlates: what it is, what it gains, and where it ends."""

import functools
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import fedloom as fl
from fedloom.core import Contribution, PrivacyBudgetExceeded, hyperparameters

agg = fl.aggregators
N = 50_000  # elements of noise; bounds below are 5 standard errors


@pytest.fixture(autouse=True)
def _needs_jax_privacy():
    pytest.importorskip("jax_privacy")


def matrix_of(aggregator):
    """C, in float64."""
    state = aggregator.init(jnp.zeros(1))
    column = np.zeros(int(state["length"]))
    column[: len(state["coef"])] = state["coef"]
    return scipy.linalg.toeplitz(column, np.zeros(len(column)))


def sensitivity(C, min_separation, max_participations=None):
    """max ||C u|| over all ways to take part, by trying them all; a client's vectors can all point in one direction, as C >= 0."""
    T = len(C)
    ways = (u for u in itertools.product([0, 1], repeat=T) if sum(u) <= (max_participations or T))
    return max(np.linalg.norm(C @ u) for u in ways if all(np.diff(np.flatnonzero(u)) >= min_separation))


def root_mean_squared_error(C, sens):
    """Of running sums, over all rounds, for noise multiplier 1 and clip 1: sens ||A C^-1||_F / sqrt(T)."""
    return sens * np.linalg.norm(np.tri(len(C)) @ np.linalg.inv(C)) / np.sqrt(len(C))


def sent(aggregator, state, value, weight=1.0):
    return aggregator.encode(state, Contribution(value, jnp.float32(weight)), jax.random.key(0))


def noise_of_rounds(aggregator, rounds, value):
    """The noise on the mean, an array (rounds, elements) per round, of clients who send zeros."""
    state, released, decode = aggregator.init(value), [], jax.jit(aggregator.decode)
    for t in range(rounds):
        total, state, _ = decode(state, sent(aggregator, state, value), jax.random.key(t))
        released.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(total.value)]))
    assert decode._cache_size() == 1
    return np.array(released, np.float64)


@pytest.mark.parametrize(
    ("min_separation", "max_participations"), [(None, None), (4, None), (2, None), (1, 3), (6, None), (9, None), (3, 1)]
)
def test_the_standard_deviation_is_relative_to_the_most_that_a_client_can_do(min_separation, max_participations):
    aggregator = agg.dp_matrix(1.5, 10, 0.2, rounds=8, bands=3, min_separation=min_separation, max_participations=max_participations)
    C = matrix_of(aggregator)
    assert np.count_nonzero(C[:, 0]) == 3 and (C >= 0).all()
    want = 1.5 * 0.2 * sensitivity(C, min_separation or 3, max_participations)
    np.testing.assert_allclose(aggregator.init(jnp.zeros(1))["std"], want, rtol=1e-6)


def test_c_times_the_noise_is_white():
    """Over 8 rounds and 2 N elements; so G + C^-1 Z is C^-1 (C G + Z), which the accountant's Gaussian release decides."""
    aggregator = agg.dp_matrix(1.5, 10, 0.2, rounds=8, bands=3)
    C, std = matrix_of(aggregator), float(aggregator.init(jnp.zeros(1))["std"])
    noise = noise_of_rounds(aggregator, 8, {"a": jnp.zeros((2, N // 2)), "b": jnp.zeros(N)})
    Z = C @ (10 * noise)
    assert (np.abs(Z.mean(1)) < 5 * std / np.sqrt(2 * N)).all()
    error = std**2 * np.sqrt((1 + np.eye(8)) / (2 * N))  # of a sample covariance
    assert (np.abs(np.cov(Z) - std**2 * np.eye(8)) < 5 * error).all()
    between = Z[:, :N] @ Z[:, N:].T / N  # the arrays
    assert (np.abs(between) < 5 * std**2 / np.sqrt(N)).all()
    assert np.corrcoef(noise)[0, 1] < -0.2  # and the noise itself takes off what it added


def test_one_band_is_independent_noise():
    """C is the identity, and of four participations sens is 2."""
    aggregator = agg.dp_matrix(1.5, 10, 0.2, rounds=8, bands=1, min_separation=2)
    np.testing.assert_array_equal(matrix_of(aggregator), np.eye(8))
    value = {"a": jnp.zeros((3, 2)), "b": jnp.zeros(())}
    plain = agg.dp_gaussian_fixed(1.5 * 2, 10, 0.2)
    np.testing.assert_allclose(noise_of_rounds(aggregator, 3, value), noise_of_rounds(plain, 3, value), rtol=1e-5)


@pytest.mark.parametrize(("rounds", "bands"), [(8, 2), (16, 4), (40, 20)])
def test_running_sums_have_less_noise_than_independent_noise_and_trees_leave_at_equal_epsilon(rounds, bands):
    """All for one Gaussian release with noise multiplier 1, and clients who take part every `bands` rounds."""
    aggregator = agg.dp_matrix(1.0, 1, 1.0, rounds=rounds, bands=bands)
    sens = float(aggregator.init(jnp.zeros(1))["std"])
    participations = rounds // bands
    np.testing.assert_allclose(sens, np.sqrt(participations), rtol=1e-6)  # as columns of C that far apart are orthogonal, of norm 1
    error = root_mean_squared_error(matrix_of(aggregator), sens)
    independent = root_mean_squared_error(np.eye(rounds), np.sqrt(participations))
    np.testing.assert_allclose(independent, np.sqrt(participations * (rounds + 1) / 2))
    # Trees over `bands` rounds, restarted: a client is in ceil(log2(bands + 1)) nodes of each; a running sum has those that cover it.
    nodes = [(t // bands) * bands.bit_count() + (t % bands).bit_count() for t in range(1, rounds + 1)]
    tree = np.sqrt(participations * bands.bit_length() * np.mean(nodes))
    assert error < independent and error < tree


def test_more_bands_have_less_noise():
    errors = [
        root_mean_squared_error(matrix_of(agg.dp_matrix(1.0, 1, 1.0, rounds=8, bands=b, max_participations=1)), 1) for b in (1, 2, 3, 8)
    ]
    assert errors == sorted(errors, reverse=True)


def test_without_noise_it_is_the_fixed_clip():
    values = [{"w": np.float32([3, -4]), "b": np.float32(0)}, {"w": np.float32([0.1, 0.2]), "b": np.float32(0.1)}]
    totals = {}
    for aggregator in (agg.dp_matrix(0.0, 4, 0.5, rounds=8, bands=3), agg.dp_gaussian_fixed(0.0, 4, 0.5)):
        state = aggregator.init(values[0])
        for t in range(2):
            total = functools.reduce(functools.partial(jax.tree.map, jnp.add), [sent(aggregator, state, v, 7.0) for v in values])
            total, state, measured = aggregator.decode(state, total, jax.random.key(t))
        assert measured["clipped_count"] == 1 and measured["noise_std"] == 0 and measured["clip"] == 0.5 and total.weight == 4
        totals[aggregator.name] = total.value
    jax.tree.map(np.testing.assert_array_equal, totals["dp_matrix"], totals["dp_gaussian"])
    np.testing.assert_allclose(totals["dp_matrix"]["w"], np.array([0.3 + 0.1, -0.4 + 0.2]) / 4, rtol=1e-6)


def test_it_ends_after_its_rounds():
    aggregator = agg.dp_matrix(1.0, 4, 0.5, rounds=3, bands=2)
    noise = noise_of_rounds(aggregator, 5, jnp.zeros(2))
    assert np.isfinite(noise[:3]).all() and np.isnan(noise[3:]).all()


@pytest.mark.parametrize("bands", [1, 3])
def test_the_state_and_the_value_keep_their_types(bands):
    aggregator = agg.dp_matrix(1.0, 4, 0.5, rounds=3, bands=bands)
    value = {"w": jnp.zeros((2, 3)), "half": jnp.zeros(4, jnp.bfloat16), "b": jnp.float32(0), "none": []}
    state = aggregator.init(jax.eval_shape(lambda: value))  # shapes are enough
    for t in range(2):
        total, after, _ = aggregator.decode(state, sent(aggregator, state, value), jax.random.key(t))
        jax.tree.map(lambda new, old: np.testing.assert_equal((new.shape, new.dtype), (old.shape, old.dtype)), after, state)
        assert jax.tree.map(jnp.result_type, total.value) == jax.tree.map(jnp.result_type, value)
        assert not any(leaf.weak_type for leaf in jax.tree.leaves(after))
        state = after
    assert [leaf.shape for leaf in jax.tree.leaves(state["noise"])] == [(bands - 1,), (bands - 1, 4), (bands - 1, 2, 3)]


def test_products_with_the_matrix_are_in_full_precision():
    """An accelerator would round them to bfloat16 or TF32 by default."""
    aggregator = agg.dp_matrix(1.0, 4, 0.5, rounds=8, bands=3)
    state = aggregator.init(jnp.zeros(3))
    lines = str(jax.make_jaxpr(aggregator.decode)(state, sent(aggregator, state, jnp.zeros(3)), jax.random.key(0)))
    assert "dot_general" in lines and lines.count("dot_general") == lines.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")


def process(aggregator, seed=0, **budget):
    model = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, p: (y - p) ** 2 / 2)
    privacy = fl.privacy.Budget(delta=1e-5, **budget) if budget else None
    algorithm = fl.algorithms.fedavg(model, fl.optimizers.sgd(0.1))
    return fl.LearningProcess(algorithm, aggregator=aggregator, privacy=privacy, executor="debug", seed=seed)


COHORT = {"ada": [(np.ones(2, np.float32), np.ones(2, np.float32))]}


def test_a_run_is_accounted_for_as_one_release_and_stops_at_its_last_round():
    aggregator = agg.dp_matrix(1.3, clients_per_round=1, clip=1.0, rounds=4, bands=2)
    assert aggregator.mechanism.kind == "matrix" and aggregator.mechanism.rounds == 4
    learning = process(aggregator, epsilon=8.0, sampling=fl.privacy.Matrix(rounds=4, min_separation=2))
    state = learning.initialize()
    for _ in range(4):
        state, metrics = learning.next(state, COHORT)
        assert metrics["epsilon"] == fl.privacy.epsilon(fl.privacy.Everyone(), float(np.float32(1.3)), 1, 1e-5)
        assert metrics["accepted"] == 1
    with pytest.raises(PrivacyBudgetExceeded, match=r"to inf .*Matrix\(rounds=4, min_separation=2"):
        learning.next(state, COHORT)


def test_without_a_budget_rounds_after_the_last_are_not_accepted():
    learning = process(agg.dp_matrix(1.3, clients_per_round=1, clip=1.0, rounds=2, bands=2))
    state, reported = learning.initialize(), []
    for _ in range(4):
        before, (state, metrics) = state, learning.next(state, COHORT)
        reported.append((metrics["accepted"], metrics["aggregator"]["matrix_round"]))
    assert reported == [(1, 1), (1, 2), (0, 3), (0, 3)]
    assert learning.get_weights(state) == learning.get_weights(before) and np.isfinite(learning.get_weights(state).trainable)


@pytest.mark.parametrize("bands", [1, 3])
def test_a_saved_run_goes_on_with_the_noise_and_the_matrix_that_it_began_with(tmp_path, bands):
    learning = process(agg.dp_matrix(1.3, clients_per_round=1, clip=0.1, rounds=5, bands=bands))
    state, _ = learning.next(learning.initialize(), COHORT)
    learning.save(state, tmp_path / "state")
    other = process(agg.dp_matrix(0.2, clients_per_round=1, clip=7.0, rounds=4, bands=bands, min_separation=1))
    loaded = {learning: learning.load(tmp_path / "state"), other: other.load(tmp_path / "state")}
    for _ in range(4):
        state, metrics = learning.next(state, COHORT)
        for again in loaded:
            loaded[again], reported = again.next(loaded[again], COHORT)
            assert again.get_weights(loaded[again]) == learning.get_weights(state) and reported["accepted"] == metrics["accepted"] == 1
    assert float(other.aggregator.mechanism.noise_multiplier(loaded[other].aggregator, None)) == np.float32(1.3)


def test_nothing_can_be_set_on_the_way():
    learning = process(agg.dp_matrix(1.3, clients_per_round=1, clip=0.1, rounds=5, bands=3))
    assert not [name for name in learning.get_hparams(learning.initialize()) if name.startswith("aggregator")]
    assert hyperparameters(learning.initialize().aggregator) == {}


def test_the_matrix_is_found_once_for_a_size():
    first, second = (agg.dp_matrix(z, 4, 0.5, rounds=8, bands=3).init(jnp.zeros(1))["coef"] for z in (1.0, 2.0))
    assert first is second


def test_without_jax_privacy_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax_privacy", None)
    monkeypatch.setitem(sys.modules, "jax_privacy.matrix_factorization", None)
    with pytest.raises(ImportError, match=r'pip install "fedloom\[matrix\]"'):
        agg.dp_matrix(1.0, 4, 0.5, rounds=8, bands=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise_multiplier": -0.1}, "noise_multiplier must be finite and at least 0"),
        ({"clients_per_round": 0}, "clients_per_round must be finite and above 0"),
        ({"clip": 0.0}, "clip must be finite and above 0"),
        ({"rounds": 0}, "rounds must be an int of at least 1, got 0"),
        ({"bands": 9}, r"bands must be in \[1, rounds=8\], got 9"),
        ({"bands": 0, "min_separation": 3}, "bands must be an int of at least 1, got 0"),
        ({"bands": 2.0}, r"bands must be an int of at least 1, got 2\.0"),
        ({"min_separation": 0}, "min_separation must be an int of at least 1, got 0"),
        ({"max_participations": 0}, "max_participations must be an int of at least 1, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        agg.dp_matrix(**{"noise_multiplier": 1.0, "clients_per_round": 4, "clip": 0.5, "rounds": 8, "bands": 3, **given})
