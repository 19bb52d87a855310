"""Private means: how much noise, on what, and what an accountant is told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import fedloom as fl
from fedloom.core import Contribution, hyperparameters, with_hyperparameters

agg = fl.aggregators
N = 100_000  # elements of noise; bounds below are 5 standard errors
SPREAD = 5 / np.sqrt(2 * N)  # relative, of a standard deviation


def silent(aggregator, state, clients=0):
    """The sum over so many clients who send zeros, two arrays of N elements."""
    value = {"a": jnp.zeros((2, N // 2)), "b": jnp.zeros(N)}
    sent = aggregator.encode(state, Contribution(value, jnp.float32(3)), jax.random.key(9))
    return jax.tree.map(lambda leaf: clients * leaf, sent)


def start(aggregator):
    return aggregator.init({"a": jax.ShapeDtypeStruct((2, N // 2), jnp.float32), "b": jax.ShapeDtypeStruct((N,), jnp.float32)})


def released(aggregator, state=None, seed=0, clients=0):
    """(noise in array a, noise in array b, next state, measurements) of a round of `clients` who send zeros."""
    state = start(aggregator) if state is None else state
    total, state, measured = jax.jit(aggregator.decode)(state, silent(aggregator, state, clients), jax.random.key(seed))
    return np.ravel(total.value["a"]), np.ravel(total.value["b"]), state, measured


def assert_gaussian(noise, std):
    assert abs(noise.mean()) < 5 * std / np.sqrt(len(noise))
    np.testing.assert_allclose(noise.std(), std, rtol=SPREAD * np.sqrt(N / len(noise)))
    assert scipy.stats.kstest(noise / std, "norm").pvalue > 1e-6


def assert_independent(*noises):
    correlations = np.corrcoef(noises)[np.triu_indices(len(noises), 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(N)


def multiplier(aggregator, state=None):
    return float(aggregator.mechanism.noise_multiplier(start(aggregator) if state is None else state, None))


def encoded(aggregator, value, weight=1.0):
    return aggregator.encode(aggregator.init(value), Contribution(value, jnp.float32(weight)), jax.random.key(0))


def test_noise_is_gaussian_and_independent_between_arrays_and_rounds():
    aggregator = agg.chain(agg.clipping(1.0), agg.fixed_mean(100), agg.gaussian_noise(0.8))
    a, b, state, measured = released(aggregator)
    later, _, _, _ = released(aggregator, state, seed=1)
    for noise in (a, b, later):
        assert_gaussian(noise, 0.8 / 100)  # on the sum, and divided with it
    assert_independent(a, b, later)
    assert measured["gaussian_noise"] == {"noise_std": np.float32(0.8)}
    np.testing.assert_array_equal(a, released(aggregator)[0])  # by the key alone


def test_a_chain_tells_its_noise_relative_to_its_clip():
    aggregator = agg.chain(agg.clipping(2.0), agg.fixed_mean(100), agg.gaussian_noise(0.8))
    assert aggregator.mechanism.kind == "gaussian"
    assert multiplier(aggregator) == np.float32(0.4)
    halved = with_hyperparameters(start(aggregator), {"clipping.threshold": 1.0, "gaussian_noise.std": 3.0})
    assert multiplier(aggregator, halved) == 3
    assert_gaussian(released(aggregator, halved)[1], 3 / 100)


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ([agg.fixed_mean(100)], "put clipping(1.0) in front"),
        ([agg.clipping(1.0, "linf"), agg.fixed_mean(100)], "put clipping(1.0) in front"),
        ([agg.clipping(agg.quantile(1.0, 0.5, 0.2)), agg.fixed_mean(100)], "a quantile in its place is not private"),
        ([agg.clipping(1.0), agg.weighted_mean()], "weighted_mean multiplies it by the client's weight"),
        ([agg.clipping(1.0), agg.unweighted_mean()], "unweighted_mean divides by how many clients came"),
    ],
)
def test_noise_on_a_sum_without_a_bound_is_refused(stages, why):
    with pytest.raises(ValueError, match="noise without clipping") as error:
        agg.chain(*stages, agg.gaussian_noise(0.8))
    assert why in str(error.value)


def test_fixed_clip_and_noise_relative_to_it():
    aggregator = agg.dp_gaussian_fixed(1.5, clients_per_round=10, clip=0.2)
    state = start(aggregator)
    assert hyperparameters(state) == {"noise_multiplier": 1.5, "clip": np.float32(0.2)}
    assert multiplier(aggregator) == 1.5
    a, b, _, measured = released(aggregator, state)
    assert_gaussian(a, 1.5 * 0.2 / 10)
    assert_independent(a, b)
    np.testing.assert_allclose(measured["noise_std"], 0.3, rtol=1e-6)
    state = with_hyperparameters(state, {"clip": 3.0, "noise_multiplier": 0.5})
    assert_gaussian(released(aggregator, state)[0], 0.5 * 3 / 10)
    assert multiplier(aggregator, state) == 0.5


PRIVATE = {
    "fixed": lambda z: agg.dp_gaussian_fixed(z, 4, clip=0.5),
    "adaptive": lambda z: agg.dp_gaussian_adaptive(z, 4, initial_l2_norm_clip=0.5),
    "tree": lambda z: agg.dp_tree(z, 4, clip=0.5),
    "chain": lambda z: agg.chain(agg.clipping(0.5), agg.fixed_mean(4), agg.gaussian_noise(z * 0.5)),
    "recipe": lambda z: agg.dp_aggregator(z, 4),
}


@pytest.mark.parametrize("name", ["fixed", "adaptive", "tree", "chain"])
def test_a_client_adds_at_most_its_clip_whatever_its_weight(name):
    """A weight would multiply the clipped update, or tell how much data the client has."""
    aggregator = PRIVATE[name](0.1)
    for scale in (0.1, 1.0, 1e6, 1e25):
        value = {"a": scale * jnp.array([1.0, -2.0]), "b": scale * jnp.float32(2)}
        sent = encoded(aggregator, value, weight=1000.0)
        norm = np.sqrt(np.sum(np.square([*sent.value["a"], sent.value["b"]])))
        np.testing.assert_allclose(norm, min(0.5, 3 * scale) if scale < 1e20 else 0, rtol=1e-6)  # zeros where the norm overflows
        assert sent.weight == 1
        assert encoded(aggregator, value, weight=0.0).weight == 1


@pytest.mark.parametrize("name", ["fixed", "tree", "adaptive"])
def test_without_noise_all_are_the_sum_of_clipped_updates_over_the_constant(name):
    aggregator = PRIVATE[name](0.0)
    values = [np.array([3.0, -4.0]), np.array([0.1, 0.2]), np.array([0.0, 2.0])]
    want = (np.array([0.3, -0.4]) + np.array([0.1, 0.2]) + np.array([0.0, 0.5])) / 4  # three clients, divided by 4
    state = aggregator.init(jnp.zeros(2))
    sent = [aggregator.encode(state, Contribution(jnp.asarray(v, jnp.float32), jnp.float32(7)), jax.random.key(0)) for v in values]
    total, state, measured = aggregator.decode(state, functools.reduce(functools.partial(jax.tree.map, jnp.add), sent), jax.random.key(1))
    np.testing.assert_allclose(total.value, want, rtol=1e-6)
    assert measured["clipped_count"] == 2 and measured["noise_std"] == 0 and total.weight == 4
    assert multiplier(aggregator, state) == 0


@pytest.mark.parametrize("name", PRIVATE)
def test_a_round_without_clients_has_noise_and_counts_like_any_other(name):
    """If it were rejected, weights that stay as they were would tell that nobody came."""
    aggregator = PRIVATE[name](0.1)
    state = start(aggregator)
    total, _, _ = aggregator.decode(state, silent(aggregator, state), jax.random.key(0))
    assert total.weight > 0
    assert np.std(total.value["b"]) > 0


def test_the_noise_of_sum_and_count_share_the_noise_multiplier():
    """z_Delta = (z^-2 - (2 sigma_b)^-2)^(-1/2), relative to the clip of the round: z = 1.2 and sigma_b = 1 give 1.5."""
    aggregator = agg.dp_gaussian_adaptive(1.2, clients_per_round=20, initial_l2_norm_clip=0.1, clipped_count_stddev=1.0)
    assert multiplier(aggregator) == np.float32(1.2)  # of both together, for the accountant
    a, b, state, measured = released(aggregator, clients=10)
    assert_gaussian(a, 1.5 * 0.1 / 20)
    assert_independent(a, b)
    np.testing.assert_allclose(measured["noise_std"], 0.15, rtol=1e-6)
    assert measured["clip"] == state["clip"] != np.float32(0.1)
    np.testing.assert_allclose(released(aggregator, {**state, "clip": jnp.float32(4)})[0].std(), 1.5 * 4 / 20, rtol=SPREAD)
    assert hyperparameters(state).keys() == {"noise_multiplier"}
    other = with_hyperparameters(state, {"noise_multiplier": 0.7})
    want = fl.privacy.split_noise_multiplier(0.7, clipped_count_stddev=1.0)
    np.testing.assert_allclose(released(aggregator, other)[3]["noise_std"], want * state["clip"], rtol=1e-6)


@pytest.mark.parametrize(("z", "given", "std"), [(1.0, None, 0.05 * 40), (1.0, 3.0, 3.0), (0.0, 3.0, 3.0), (0.0, None, 0.0)])
def test_the_count_of_unclipped_updates_is_noised_before_it_moves_the_clip(z, given, std):
    """12 clients at or below the clip, of 40: b = 12 x 1/2 / 40 + 1/2 = 0.65 and noise of std / 40, over 20,000 rounds."""
    aggregator = agg.dp_gaussian_adaptive(z, 40, learning_rate=0.3, target_unclipped_quantile=0.4, clipped_count_stddev=given)
    state = aggregator.init(jnp.zeros(1))
    total = jax.tree.map(lambda leaf: 12 * leaf, encoded(aggregator, jnp.zeros(1)))
    _, after, measured = jax.vmap(lambda key: aggregator.decode(state, total, key))(jax.random.split(jax.random.key(3), 20_000))
    b = np.asarray(measured["unclipped_share"], np.float64)
    np.testing.assert_allclose(b.std(), std / 40, rtol=5 / np.sqrt(2 * 20_000))
    np.testing.assert_allclose(b.mean(), 0.65, atol=max(5 * std / 40 / np.sqrt(20_000), 1e-6))
    np.testing.assert_allclose(after["clip"], 0.1 * np.exp(-0.3 * (b - 0.4)), rtol=1e-5)


def test_the_share_of_unclipped_updates_is_held_within_0_and_1():
    """With three times the clients that were meant to come, b would be 2, and the clip would fall faster than if all were below it."""
    aggregator = agg.dp_gaussian_adaptive(0.0, 10, learning_rate=0.3)
    total = jax.tree.map(lambda leaf: 30 * leaf, encoded(aggregator, jnp.zeros(1)))
    _, after, measured = aggregator.decode(aggregator.init(jnp.zeros(1)), total, jax.random.key(0))
    assert measured["unclipped_share"] == 1
    np.testing.assert_allclose(after["clip"], 0.1 * np.exp(-0.3 * (1 - 0.5)), rtol=1e-6)


def test_a_noise_multiplier_that_the_count_cannot_bear_is_refused():
    with pytest.raises(ValueError, match=r"clipped_count_stddev must be above noise_multiplier / 2 = 0.5, got 0.5"):
        agg.dp_gaussian_adaptive(1.0, clients_per_round=10)
    aggregator = agg.dp_gaussian_adaptive(0.9, clients_per_round=10)
    state = with_hyperparameters(start(aggregator), {"noise_multiplier": 1.1})
    with pytest.raises(ValueError, match="clipped_count_stddev"):
        multiplier(aggregator, state)
    assert np.isnan(released(aggregator, state)[0]).all()  # so the round is not accepted


def budgeted(aggregator, sampling):
    model = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, p: (y - p) ** 2 / 2)
    budget = fl.privacy.Budget(epsilon=8.0, delta=1e-5, sampling=sampling)
    return fl.LearningProcess(fl.algorithms.fedavg(model, fl.optimizers.sgd(0.1)), aggregator=aggregator, privacy=budget, executor="debug")


def test_a_budget_refuses_zeroing_that_follows_exact_norms():
    sampling = fl.privacy.Poisson(cohort_size=50, population=10_000)
    aggregator = agg.dp_aggregator(0.8, clients_per_round=50)
    with pytest.raises(ValueError, match="adapts to what clients send without noise"):
        budgeted(aggregator, sampling)
    for zeroing in (100.0, False):
        aggregator = agg.dp_aggregator(0.8, clients_per_round=50, zeroing=zeroing)
        budgeted(aggregator, sampling)
        assert multiplier(aggregator) == np.float32(0.8)
        assert [*start(aggregator)] == ["zeroing"] * bool(zeroing) + ["dp_gaussian"]


def nodes(t, first=1):
    """The nodes over rounds `first` to t of a tree that begins at `first`, as (begin, size)."""
    length, begin, found = t - first + 1, first, set()
    for level in reversed(range(length.bit_length())):
        if length >> level & 1:
            found.add((begin, 1 << level))
            begin += 1 << level
    return found


@pytest.mark.parametrize("restart_every", [None, 5])
def test_noise_on_running_sums_is_that_of_the_nodes_that_cover_them(restart_every):
    """Cov(N_s, N_t) = std^2 x the number of nodes in common, for all s, t <= 13; so Var(N_t) = popcount(t) std^2, not t std^2."""
    rounds, std = 13, 0.5 * 2.0
    aggregator = agg.dp_tree(0.5, clients_per_round=8, clip=2.0, restart_every=restart_every)
    state, sums, running = start(aggregator), [], 0
    for t in range(rounds):
        _, noise, state, measured = released(aggregator, state, seed=t)
        running = running + 8 * noise.astype(np.float64)
        sums.append(running)
        assert measured["tree_round"] == (t % restart_every if restart_every else t) + 1
    size = restart_every or rounds
    covers = []
    for t in range(1, rounds + 1):
        starts = range(1, t + 1, size)
        covers.append(set().union(*(nodes(min(first + size - 1, t), first) for first in starts)))
    want = std**2 * np.array([[len(a & b) for b in covers] for a in covers])
    variances = np.diag(want)
    error = np.sqrt((np.outer(variances, variances) + want**2) / N)  # of a sample covariance
    assert (np.abs(np.cov(sums) - want) < 5 * error).all()
    if restart_every is None:
        np.testing.assert_array_equal(variances, [t.bit_count() * std**2 for t in range(1, rounds + 1)])
        assert np.var(sums[-1]) < 0.3 * rounds * std**2


def test_noise_of_a_tree_is_independent_between_arrays_and_gone_where_it_telescopes():
    """After round 4 one node is left: N_4 is a draw of its own, and what rounds 1 to 3 had is taken off again."""
    aggregator = agg.dp_tree(1.0, clients_per_round=1, clip=1.0)
    state, steps = start(aggregator), []
    for t in range(4):
        a, b, state, _ = released(aggregator, state, seed=t)
        steps.append(b)
        assert_independent(a, b)
    node = released(agg.dp_gaussian_fixed(1.0, clients_per_round=1, clip=1.0), seed=3)[1]  # with the key of round 4
    np.testing.assert_allclose(np.sum(steps, axis=0), node, atol=1e-5)


def test_a_tree_with_other_noise_or_another_clip_begins_anew():
    """Its nodes are shared between rounds, so an accountant counts from there."""
    aggregator = agg.dp_tree(1.0, clients_per_round=1, clip=1.0)
    _, _, state, _ = released(aggregator)
    for change in ({"noise_multiplier": 2.0}, {"clip": 2.0}):
        _, b, after, measured = released(aggregator, with_hyperparameters(state, change), seed=1)
        assert measured["tree_round"] == 1
        assert_gaussian(b, 2.0)  # nothing of the old tree is taken off
        assert released(aggregator, after, seed=2)[3]["tree_round"] == 2


def test_a_tree_is_accounted_for_as_one():
    aggregator = agg.dp_tree(1.3, clients_per_round=1, clip=1.0, restart_every=2)
    assert aggregator.mechanism.kind == "tree" and multiplier(aggregator) == np.float32(1.3)
    process = budgeted(aggregator, fl.privacy.Tree(rounds_per_restart=2))
    state, metrics = process.next(process.initialize(), {"ada": [(np.ones(2, np.float32), np.ones(2, np.float32))]})
    assert metrics["epsilon"] == fl.privacy.epsilon(fl.privacy.Tree(2), float(np.float32(1.3)), 1, 1e-5)
    assert process.get_hparams(state).keys() >= {"aggregator.noise_multiplier", "aggregator.clip"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: agg.gaussian_noise(-1.0), "std must be finite and at least 0, got -1.0"),
        (lambda: agg.dp_gaussian_fixed(-0.1, 10, 1.0), "noise_multiplier must be finite and at least 0"),
        (lambda: agg.dp_gaussian_fixed(1.0, 0, 1.0), "clients_per_round must be finite and above 0"),
        (lambda: agg.dp_gaussian_fixed(1.0, 10, 0.0), "clip must be finite and above 0"),
        (lambda: agg.dp_gaussian_adaptive(1.0, 100, target_unclipped_quantile=1.5), "target of a quantile must be in (0, 1)"),
        (lambda: agg.dp_gaussian_adaptive(0.0, 100, clipped_count_stddev=-1.0), "clipped_count_stddev must be finite"),
        (lambda: agg.dp_tree(1.0, 10, 1.0, restart_every=0), "restart_every must be an int of at least 1, or None, got 0"),
        (lambda: agg.dp_aggregator(1.0, 100, zeroing=-5.0), "threshold of zeroing"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
