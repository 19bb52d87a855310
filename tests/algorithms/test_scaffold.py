"""SCAFFOLD against FedAvg, closed forms on quadratics, and a NumPy oracle with clients that come and go."""

import jax
import numpy as np
import pytest
from algorithms import ellipses, regression
from algorithms.ellipses import CURVATURE, NAMES, START, clients, gradient, run, weights
from contracts.lines import assert_close
from oracles import scaffold_numpy

import fedloom as fl
from fedloom import optimizers
from fedloom.algorithms import fedavg, scaffold


def test_with_one_client_it_is_fedavg():
    """Then c = c_i after every round, so the correction is zero; server momentum included."""
    server = optimizers.sgd(0.9, momentum=0.5)
    cohorts = [clients(k, ["bob"]) for k in (1, 4, 3, 2)]
    process, state = run(scaffold(ellipses.model(), 0.3, server, population=1), cohorts)
    want = weights(*run(fedavg(ellipses.model(), optimizers.sgd(0.3), server), cohorts))
    np.testing.assert_allclose(weights(process, state), want, rtol=1e-6)
    np.testing.assert_array_equal(state.server.control, process.kept_by(state, "bob").algorithm)


def test_it_ends_at_the_optimum_where_fedavg_is_biased():
    """K steps at rate e pull x to c_i by 1 - (1 - e a_i)^K, not by a_i: FedAvg ends at the mean of the c_i with these weights."""
    rate, steps = 0.2, 6
    cohorts = [clients(steps)] * 60
    got = weights(*run(scaffold(ellipses.model(), rate, population=3), cohorts))
    np.testing.assert_allclose(got, ellipses.optimum(), rtol=1e-4)
    biased = ellipses.weighted_centre({n: 1 - (1 - rate * CURVATURE[n]) ** steps for n in NAMES})
    np.testing.assert_allclose(weights(*run(fedavg(ellipses.model(), optimizers.sgd(rate)), cohorts)), biased, rtol=1e-4)
    assert np.abs(biased - ellipses.optimum()).max() > 0.5


@pytest.mark.parametrize("client_weight", ["uniform", "num_examples"])
def test_rounds_in_which_clients_come_and_go_agree_with_the_oracle(client_weight):
    """And c stays the weighted mean over the population of all c_i, with 0 for those that were never asked."""
    weigh = regression.num_examples if client_weight == "num_examples" else lambda batches: float(len(batches) > 0)
    cohorts = regression.cohorts(5)
    known = {name: batches for cohort in cohorts for name, batches in cohort.items()}
    population = sum(map(weigh, known.values())) + 2.0  # two more never come
    algorithm = scaffold(regression.model(), 0.1, optimizers.sgd(0.7), population=population, client_weight=client_weight)
    process = fl.LearningProcess(algorithm)
    state = process.initialize(regression.START)
    oracle = scaffold_numpy.scaffold(regression.START, cohorts, 0.1, 0.7, population, weigh)
    for cohort, (x, c, own) in zip(cohorts, oracle, strict=True):
        state, metrics = process.next(state, cohort)
        assert metrics["accepted"] == 1
        assert_close(process.get_weights(state).trainable, x)
        assert_close(state.server.control, c)
        kept = {name: process.kept_by(state, name).algorithm for name in own}
        assert_close(kept, own)
        mean = jax.tree.map(lambda *c_i: sum(c_i) / population, *[jax.tree.map(lambda v, n=n: weigh(known[n]) * v, kept[n]) for n in own])
        assert_close(state.server.control, mean)


def test_after_one_step_a_control_is_the_gradient_whatever_the_rate():
    """Also right after the rate was set to another: K and eta are those of the round."""
    process = fl.LearningProcess(scaffold(ellipses.model(), 0.3, population=3))
    state, _ = process.next(process.initialize(START), clients(2))
    state = process.set_hparams(state, {"client_learning_rate": 0.05})
    x = weights(process, state)
    state, _ = process.next(state, clients(1))
    for name in NAMES:
        np.testing.assert_allclose(process.kept_by(state, name).algorithm, gradient(name, x), rtol=1e-4)
    np.testing.assert_allclose(state.server.control, np.mean([gradient(n, x) for n in NAMES], axis=0), rtol=1e-4)


def test_a_client_that_counts_for_nothing_keeps_its_control():
    """Without data, or with weight 0: else c would drift away from the mean of the c_i."""
    by_curvature = scaffold(ellipses.model(), 0.1, population=3, client_weight=lambda sums: (sums["num_batches"] < 3) * 1)
    process, state = run(by_curvature, [clients(2)])
    after, _ = process.next(state, clients({"ada": 2, "bob": 0, "cy": 3}))
    for name in ("bob", "cy"):
        np.testing.assert_array_equal(process.kept_by(after, name).algorithm, process.kept_by(state, name).algorithm)
    controls = [process.kept_by(after, name).algorithm for name in NAMES]
    np.testing.assert_allclose(after.server.control, np.mean(controls, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"client_learning_rate": 0.0, "population": 3}, "client_learning_rate must be a finite number above 0, got 0.0"),
        ({"client_learning_rate": 0.1, "population": 0}, "population must be .* above 0, got 0. Pass the number of clients"),
        ({"client_learning_rate": 0.1, "population": float("inf")}, "population"),
        ({"client_learning_rate": 0.1, "population": 3, "client_weight": "examples"}, "client_weight must be one of"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        scaffold(ellipses.model(), **arguments)
