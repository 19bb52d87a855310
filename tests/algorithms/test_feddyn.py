"""FedDyn against exact minima on quadratics and a NumPy oracle with clients that come and go."""

import numpy as np
import pytest
from algorithms import ellipses, regression
from algorithms.ellipses import CENTRE, CURVATURE, NAMES, START, clients, gradient, run, weights
from contracts.lines import assert_close
from oracles import fedavg_numpy, feddyn_numpy

import fedloom as fl
from fedloom import optimizers
from fedloom.algorithms import fedavg, feddyn

ENOUGH = 60  # steps at rate 0.3 contract the error by 1 - 0.3 (a + alpha) <= 0.8 each, to 1e-6


def test_rounds_with_solved_local_problems_have_a_closed_form():
    """argmin is (a c + g_k + alpha theta^t) / (a + alpha), and g_k is then the gradient of the client's own loss there."""
    alpha = 0.5
    attendance = [NAMES, ("cy", "ada"), ("bob",), NAMES]
    cohorts = [clients(ENOUGH, names) for names in attendance]
    process = fl.LearningProcess(feddyn(ellipses.model(), optimizers.sgd(0.3), alpha=alpha, population=4))
    state = process.initialize(START)

    def solve(name, theta, g_k):
        return [(CURVATURE[name] * CENTRE[name] + g_k[0] + alpha * theta[0]) / (CURVATURE[name] + alpha)]

    oracle = feddyn_numpy.feddyn([START], [{n: n for n in names} for names in attendance], solve, alpha, 4, lambda name: 1.0)
    before = START
    for cohort, (theta, h, own) in zip(cohorts, oracle, strict=True):
        for name in cohort:
            theta_k = before - (own[name][0] - np.asarray(process.kept_by(state, name).algorithm)) / alpha
            np.testing.assert_allclose(own[name][0], gradient(name, theta_k), rtol=1e-3, atol=1e-4)
        state, _ = process.next(state, cohort)
        before = weights(process, state)
        np.testing.assert_allclose(before, theta[0], rtol=1e-4)
        np.testing.assert_allclose(state.server.h, h[0], rtol=1e-4, atol=1e-5)
        for name in own:
            np.testing.assert_allclose(process.kept_by(state, name).algorithm, own[name][0], rtol=1e-3, atol=1e-4)


def test_it_ends_at_the_optimum_where_fedavg_is_biased():
    cohorts = [clients(20)] * 50
    got = weights(*run(feddyn(ellipses.model(), optimizers.sgd(0.2), alpha=0.7, population=3), cohorts))
    np.testing.assert_allclose(got, ellipses.optimum(), rtol=1e-4)
    of_fedavg = weights(*run(fedavg(ellipses.model(), optimizers.sgd(0.2)), cohorts))
    assert np.abs(of_fedavg - ellipses.optimum()).max() > 1


@pytest.mark.parametrize("client_weight", ["uniform", "num_examples"])
def test_rounds_in_which_clients_come_and_go_agree_with_the_oracle(client_weight):
    """A few steps do not solve the local problem. alpha is set, and the rate follows a schedule."""
    weigh = regression.num_examples if client_weight == "num_examples" else lambda batches: 1.0
    alpha, population, rate = 0.6, 23.0, 0.15

    def solve(batches, received, g_k):
        theta = received
        for batch in batches:
            g = fedavg_numpy.gradient(theta, *batch)
            theta = [v - rate * (d - own + alpha * (v - t)) for v, d, own, t in zip(theta, g, g_k, received, strict=True)]
        return theta

    cohorts = regression.cohorts(5)
    settings = {"alpha": 3.0, "population": population, "client_weight": client_weight, "client_schedule": lambda r: rate}
    process = fl.LearningProcess(feddyn(regression.model(), optimizers.sgd(9.0), **settings))
    state = process.set_hparams(process.initialize(regression.START), {"alpha": alpha})
    oracle = feddyn_numpy.feddyn(regression.START, cohorts, solve, alpha, population, weigh)
    for cohort, (theta, h, own) in zip(cohorts, oracle, strict=True):
        state, metrics = process.next(state, cohort)
        assert metrics["server"] == {"client_learning_rate": np.float32(rate)}
        assert_close(process.get_weights(state).trainable, theta)
        assert_close(state.server.h, h)
        assert_close({name: process.kept_by(state, name).algorithm for name in own}, own)


def test_a_client_that_counts_for_nothing_keeps_its_gradient():
    """Or h would not be the sum over the clients of g_k / m, as it is from the first round on."""
    algorithm = feddyn(
        ellipses.model(),
        optimizers.sgd(0.1),
        alpha=0.5,
        population=3,
        client_weight=lambda sums: (sums["num_batches"] < 3) * (sums["num_batches"] > 0),
    )
    process, state = run(algorithm, [clients(2)])
    after, _ = process.next(state, clients({"ada": 2, "bob": 0, "cy": 3}))
    for name in ("bob", "cy"):
        np.testing.assert_array_equal(process.kept_by(after, name).algorithm, process.kept_by(state, name).algorithm)
    total = sum(np.asarray(process.kept_by(after, name).algorithm) for name in NAMES)
    np.testing.assert_allclose(after.server.h, total / 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0, "population": 3}, "alpha must be a finite number above 0, got 0.0"),
        ({"alpha": 0.1, "population": -3}, "population must be .* above 0, got -3. Pass the number of clients"),
        ({"alpha": 0.1, "population": 3, "client_weight": "examples"}, "client_weight must be one of"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        feddyn(ellipses.model(), optimizers.sgd(0.1), **arguments)
