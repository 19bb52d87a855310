"""APFL: its server is FedAvg's, its limits are FedAvg and training alone, and the rest agrees with a NumPy oracle."""

import numpy as np
import pytest
from algorithms import ellipses, regression
from algorithms.ellipses import NAMES, START, clients, descend, run, weights
from contracts.lines import assert_close
from oracles import personal_numpy

import fedloom as fl
from fedloom import optimizers
from fedloom.algorithms import apfl, fedavg


def test_the_server_is_that_of_fedavg():
    cohorts = [clients(3), clients(2, ["bob", "cy"])]
    want = weights(*run(fedavg(ellipses.model(), optimizers.sgd(0.2)), cohorts))
    np.testing.assert_allclose(weights(*run(apfl(ellipses.model(), optimizers.sgd(0.2)), cohorts)), want, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_limits_are_the_servers_weights_and_training_alone(alpha):
    algorithm = apfl(ellipses.model(), optimizers.sgd(0.2), alpha=alpha, alpha_learning_rate=0.0)
    process, state = run(algorithm, [clients(3), clients(2)])
    for name in NAMES:
        want = descend(name, START, 0.2, 5) if alpha else weights(process, state)
        np.testing.assert_allclose(process.personal_weights(state, name).trainable, want, rtol=1e-5)


def test_rounds_of_linear_regression_agree_with_the_oracle():
    """alpha_i reaches 0, 1 and values between."""
    process = fl.LearningProcess(apfl(regression.model(), optimizers.sgd(0.1), alpha=0.4, personal_optimizer=optimizers.sgd(9.0)))
    state = process.initialize(regression.START)
    state = process.set_hparams(state, {"alpha_learning_rate": 0.6, "personal_optimizer.learning_rate": 0.15})
    own = {}
    for cohort in regression.cohorts(7):
        w = [np.asarray(leaf, np.float64) for leaf in process.get_weights(state).trainable]
        for name, batches in cohort.items():
            own[name] = personal_numpy.apfl(w, *own.get(name, (w, 0.4)), batches, 0.1, 0.15, 0.6)
        state, _ = process.next(state, cohort)
        w = process.get_weights(state).trainable
        for name, (v, alpha) in own.items():
            np.testing.assert_allclose(process.kept_by(state, name).algorithm.alpha, alpha, rtol=1e-4, atol=1e-5)
            assert_close(process.personal_weights(state, name).trainable, personal_numpy.mix(alpha, v, w), rtol=1e-4, atol=1e-5)
    alphas = sorted(alpha for _, alpha in own.values())
    assert len(set(alphas)) >= 3, alphas


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"alpha": 1.5}, "alpha must be in .* got 1.5"), ({"alpha_learning_rate": -1.0}, "alpha_learning_rate must be .* >= 0, got -1.0")],
)
def test_what_cannot_be_right_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        apfl(ellipses.model(), optimizers.sgd(0.1), **arguments)
