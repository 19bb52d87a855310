"""Median, trimmed mean, geometric median and Krum: NumPy oracles, who takes part, and that few corrupt clients cannot do much."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.lines import assert_close, assert_identical, line_clients, line_model, padded

import fedloom as fl
from fedloom.aggregators import chain, geometric_median, krum, median, multi_krum, trimmed_mean, zeroing
from fedloom.core import Contribution

ALL = {
    "median": median(),
    "trimmed_mean": trimmed_mean(0.25),
    "geometric_median": geometric_median(),
    "krum": krum(2),
    "multi_krum": multi_krum(2, 3),
}
every_one = pytest.mark.parametrize("name", ALL)


@functools.cache
def compiled(aggregator):
    return jax.jit(aggregator.decode)


def stack_of(count, seed=0, offset=0.0, scale=1.0):
    """Updates of so many clients: a matrix and a number each."""
    rng = np.random.default_rng(seed)
    return {"w": offset + scale * rng.normal(size=(count, 2, 3)), "b": offset + scale * rng.normal(size=count)}


def flat(value):
    """One row per client, or one vector."""
    w, b = np.asarray(value["w"], np.float64), np.asarray(value["b"], np.float64)
    return np.concatenate([w.reshape(*w.shape[:-2], 6), b[..., None]], axis=-1)


def reduce(aggregator, value, weights):
    value = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), value)
    total, state, measurements = compiled(aggregator)((), Contribution(value, jnp.asarray(weights, jnp.float32)), jax.random.key(0))
    assert state == ()
    return flat(total.value), float(total.weight), {name: float(number) for name, number in measurements.items()}


def among_unused(value, weights, size=12):
    """The same clients, in order, in a cohort of this size; the others have weight 0, and rows that would ruin any mean."""
    places = np.sort(np.random.default_rng(0).permutation(size)[: len(weights)])

    def among(rows, filler):
        cohort = np.full((size, *rows.shape[1:]), filler)
        cohort[places] = rows
        return cohort

    return {name: among(rows, 1e30) for name, rows in value.items()}, among(weights, 0.0)


# Against NumPy.


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_median_is_numpys(count):
    value, weights = stack_of(count), np.arange(count) + 0.5
    got, weight, measured = reduce(ALL["median"], *among_unused(value, weights))
    np.testing.assert_allclose(got, np.median(flat(value), axis=0), rtol=1e-6)
    assert weight == weights.sum() and measured == {"num_used": count}


@pytest.mark.parametrize(
    ("fraction", "count", "trimmed"),
    [(0.25, 7, 1), (0.25, 8, 2), (0.29, 100, 29), (0.0, 6, 0), (0.49, 2, 0), (0.49, 3, 1), (0.4999999, 2, 0)],
)
def test_the_trimmed_mean_leaves_out_either_end(fraction, count, trimmed):
    """floor(fraction n) of them, of each coordinate."""
    value, weights = stack_of(count), np.arange(count) + 0.5
    want = np.sort(flat(value), axis=0)[trimmed : count - trimmed].mean(0)
    got, weight, measured = reduce(trimmed_mean(fraction), *among_unused(value, weights, size=count + 3))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert weight == weights.sum() and measured == {"num_used": count, "num_trimmed": 2 * trimmed}


def weiszfeld(x, alpha, iterations, epsilon):
    z = np.median(x, axis=0)
    for _ in range(iterations):
        beta = alpha / np.maximum(epsilon, np.linalg.norm(x - z, axis=1))
        z = beta @ x / beta.sum()
    return z


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_geometric_median_is_that_of_the_algorithm(iterations):
    value, weights = stack_of(6), np.array([1.0, 5.0, 2.0, 0.5, 1.0, 3.0])
    want = weiszfeld(flat(value), weights, iterations, 1e-6)
    got, weight, measured = reduce(geometric_median(iterations), *among_unused(value, weights))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    distances = np.linalg.norm(flat(value) - want, axis=1)
    np.testing.assert_allclose(measured["mean_distance"], np.average(distances, weights=weights), rtol=1e-5)
    assert weight == weights.sum() and measured["num_used"] == 6


def test_the_geometric_median_is_a_minimum():
    """The gradient sum_i alpha_i (z - x_i) / |z - x_i| is zero; where one update has more than half of the weight, it is that update."""
    value, weights = stack_of(7), np.array([1.0, 2.0, 2.0, 1.0, 1.0, 3.0, 1.0])
    many = geometric_median(300)
    z, _, _ = reduce(many, value, weights)
    away = z - flat(value)
    np.testing.assert_allclose(weights @ (away / np.linalg.norm(away, axis=1, keepdims=True)), 0, atol=1e-4)
    weights[2] = 15
    np.testing.assert_allclose(reduce(many, value, weights)[0], flat(value)[2], atol=1e-4)


def krum_scores(x, f):
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    return np.array([np.sort(np.delete(row, i))[: len(x) - f - 2].sum() for i, row in enumerate(squared)])


@pytest.mark.parametrize(("count", "f", "offset"), [(7, 2, 0.0), (9, 1, 1000.0), (3, 0, 0.0)])
def test_krum_takes_the_update_closest_to_others(count, f, offset):
    """Also where all updates have much in common: then float32 would lose their distances, were it not taken off first."""
    value, weights = stack_of(count, offset=offset, scale=0.5), np.arange(count) + 0.5
    value = {name: rows.astype(np.float32) for name, rows in value.items()}
    scores = krum_scores(flat(value), f)
    order = np.argsort(scores, kind="stable")
    got, weight, measured = reduce(krum(f), *among_unused(value, weights))
    np.testing.assert_allclose(got, flat(value)[order[0]], rtol=1e-6)
    np.testing.assert_allclose(measured["score"], scores.min(), rtol=1e-4)
    assert weight == weights.sum() and measured["num_used"] == count
    m = min(3, count - f)
    got, _, _ = reduce(multi_krum(f, m), *among_unused(value, weights))
    np.testing.assert_allclose(got, flat(value)[order[:m]].mean(0), rtol=1e-5, atol=1e-6)


# What all promise.


@every_one
def test_clients_without_weight_might_as_well_not_be_there(name):
    value, weights = stack_of(9), np.arange(9) + 1.0
    alone, among = (reduce(ALL[name], *given) for given in ((value, weights), among_unused(value, weights)))
    np.testing.assert_allclose(among[0], alone[0], rtol=1e-5, atol=1e-6)
    assert among[1] == alone[1] and among[2] == pytest.approx(alone[2], rel=1e-4)


@every_one
def test_the_order_of_clients_does_not_matter(name):
    value, weights = stack_of(9), np.array([1.0, 2, 0, 4, 5, 6, 7, 8, 9])
    want, _, measured = reduce(ALL[name], value, weights)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(9)
        got, _, again = reduce(ALL[name], {k: v[order] for k, v in value.items()}, weights[order])
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        assert again == pytest.approx(measured, rel=1e-4)


def attacks(honest, count):
    """Rows of so many corrupt clients: far off together or apart, as far as float32 goes, mirrored, or near while another is far."""
    rng = np.random.default_rng(1)
    shape = (count, honest.shape[1])
    yield np.broadcast_to(honest.mean(0) + 1e3, shape)
    yield 1e6 * rng.normal(size=shape)
    yield np.sign(rng.normal(size=shape)) * 3.4e38
    yield np.full(shape, -3.4e38)
    yield np.broadcast_to(-20 * honest.mean(0), shape)
    yield np.where(np.arange(count)[:, None] == 0, 1e25, honest.min(0) - 0.5)


@every_one
def test_few_corrupt_clients_cannot_move_the_result_far(name):
    """Two of nine. By coordinate the result is in the range of the honest.

    The geometric median is no farther from any point than 2 (1 - a) / (1 - 2 a) times the farthest honest update is, with a the corrupt
    share of the weight (Minsker 2015, Lemma 2.1).
    """
    honest = flat(stack_of(7, seed=5, offset=2.0))
    for corrupt in attacks(honest, 2):
        rows = np.concatenate([honest[:3], corrupt[:1], honest[3:], corrupt[1:]])
        got, _, _ = reduce(ALL[name], {"w": rows[:, :6].reshape(-1, 2, 3), "b": rows[:, 6]}, np.ones(9))
        if name == "geometric_median":
            share, centre = 2 / 9, honest.mean(0)
            radius = np.linalg.norm(honest - centre, axis=1).max()
            assert np.linalg.norm(got - centre) <= 2 * (1 - share) / (1 - 2 * share) * radius
        else:
            assert (got >= honest.min(0) - 1e-5).all() and (got <= honest.max(0) + 1e-5).all()


@every_one
def test_without_any_weight_there_is_nothing(name):
    got, weight, measured = reduce(ALL[name], stack_of(9), np.zeros(9))
    assert weight == 0 and measured["num_used"] == 0
    assert np.isfinite(got).all()


def test_krum_needs_enough_clients():
    value = stack_of(6)
    with pytest.raises(ValueError, match="krum with num_byzantine=2 needs at least 7 clients in a round, got 6"):
        reduce(krum(2), value, np.ones(6))
    with pytest.raises(ValueError, match="multi_krum with num_byzantine=1 and num_selected=6 needs at least 7 clients in a round, got 6"):
        reduce(multi_krum(1, 6), value, np.ones(6))
    one, weights = krum(1), np.array([1, 1, 1, 1, 1, 0])
    assert reduce(one, value, weights)[1] == 5
    weights[1] = 0
    assert reduce(one, value, weights)[1] == 0, "four with data are too few, so the round does not count"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: trimmed_mean(0.5), r"fraction of trimmed_mean must be in \[0, 0.5\), got 0.5"),
        (lambda: trimmed_mean(-0.1), "got -0.1"),
        (lambda: geometric_median(0), "iterations of geometric_median must be a whole number of at least 1, got 0"),
        (lambda: geometric_median(epsilon=0.0), "epsilon of geometric_median must be finite and above 0, got 0.0"),
        (lambda: krum(-1), "num_byzantine of krum must be a whole number of at least 0, got -1"),
        (lambda: krum(0.2), "num_byzantine of krum must be a whole number of at least 0, got 0.2"),
        (lambda: multi_krum(1, 0), "num_selected of multi_krum must be a whole number of at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_stacking_stage_is_the_last_of_a_chain():
    with pytest.raises(ValueError, match="'median' must be the last stage of a chain"):
        chain(median(), zeroing(10.0))


# Whole rounds.


@functools.cache
def process_of(name, executor):
    aggregator = chain(zeroing(1e3), ALL[name])
    return fl.LearningProcess(
        fl.algorithms.fedavg(line_model(), fl.optimizers.sgd(0.1)), aggregator=aggregator, batching=padded, executor=executor
    )


@pytest.mark.parametrize("executor", ["local", "debug"])
def test_a_corrupt_client_is_outvoted_in_a_chain(executor):
    """One client's update is zeroed, another's is large but below the threshold, a third has no data: the median is that of the updates."""
    process = process_of("median", executor)
    start = process.initialize()
    clients = line_clients([4, 4, 0, 4, 4, 4, 4])
    clients["client 1"]["y"] += 1e6
    clients["client 5"]["y"] += 1e2
    state, metrics = process.next(start, clients)
    single = fl.LearningProcess(process.algorithm, batching=padded)
    updates = []
    for name, data in clients.items():
        if name != "client 2":
            after, _ = single.next(start._replace(aggregator=()), {name: data})
            updates.append(jax.tree.map(jnp.subtract, process.get_weights(start), process.get_weights(after)).trainable)
    updates[1] = jax.tree.map(jnp.zeros_like, updates[1])
    middle = jax.tree.map(lambda *leaves: np.median(np.stack(leaves), axis=0), *updates)
    assert_close(process.get_weights(state).trainable, jax.tree.map(jnp.subtract, process.get_weights(start).trainable, middle))
    assert metrics["aggregator"]["zeroing"]["zeroed_count"] == 1 and metrics["aggregator"]["median"]["num_used"] == 6


@pytest.mark.parametrize(("name", "executor"), [*itertools.product(ALL, ["local"]), ("median", "debug")])
def test_a_round_of_nobody_or_of_the_empty_changes_nothing(name, executor):
    process = process_of(name, executor)
    state, metrics = process.next(process.initialize(), line_clients([3, 2, 4, 1, 5, 2, 2]))
    assert metrics["accepted"] == 1
    for clients in ({}, line_clients([0] * 7)):
        after, metrics = process.next(state, clients)
        assert metrics["accepted"] == 0 and metrics["num_clients"] == len(clients)
        assert_identical(process.get_weights(after), process.get_weights(state))
        assert after.round_number == state.round_number + 1
