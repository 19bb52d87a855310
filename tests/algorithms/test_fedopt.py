"""Server optimizers by name, against their papers' rules in NumPy."""

import inspect

import numpy as np
import pytest
import quadratics
from quadratics import START, clients, gradients, mean, run

import fedloom as fl
from fedloom.algorithms import fedadagrad, fedadam, fedavg, fedavgm, fedyogi

LOCAL = fl.optimizers.sgd(0.1)
RATE = 0.2


def momentum_rule(g, t, s):
    s["v"] = 0.9 * s.get("v", 0) + g
    return s["v"]


def adagrad_rule(g, t, s):
    s["v"] = s.get("v", 0.1) + g**2
    return g / np.sqrt(s["v"] + 1e-7)


def adam_rule(g, t, s, yogi=False):
    v = s.get("v", 1e-6 if yogi else 0.0)
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = v + 0.001 * (np.sign(g**2 - v) * g**2 if yogi else g**2 - v)
    return np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * s["m"] / (np.sqrt(s["v"]) + (1e-3 if yogi else 1e-7))


RULES = {
    fedavgm: momentum_rule,
    fedadagrad: adagrad_rule,
    fedadam: adam_rule,
    fedyogi: lambda g, t, s: adam_rule(g, t, s, yogi=True),
}
every_algorithm = pytest.mark.parametrize("algorithm", RULES, ids=lambda algorithm: algorithm.__name__)


@every_algorithm
def test_the_server_steps_by_the_rule_on_the_mean_update(algorithm):
    """Three rounds of one local step, whose update is 0.1 times the gradient."""
    x, state = START, {}
    for t in (1, 2, 3):
        x = x - RATE * RULES[algorithm](0.1 * mean(gradients(x)), t, state)
    process = quadratics.process_of(algorithm, LOCAL, server_learning_rate=RATE)
    np.testing.assert_allclose(run(process, [clients()] * 3)[0], x, rtol=1e-5)


@every_algorithm
def test_arguments_are_those_of_fedavg_and_the_servers_rate(algorithm):
    """All go where they belong: weights, schedule and rate change the result as they do for FedAvg; the name is kept with saved states."""
    by_hand = set(inspect.signature(algorithm).parameters) - {"server_learning_rate", "server_momentum", "server_epsilon"}
    assert by_hand == set(inspect.signature(fedavg).parameters) - {"server_optimizer"}
    made = algorithm(quadratics.model(), LOCAL, server_learning_rate=RATE, client_weight="uniform", client_schedule=lambda r: 0.05)
    assert made.name == algorithm.__name__
    process = fl.LearningProcess(made)
    g = 0.05 * gradients(START).mean(0)
    np.testing.assert_allclose(run(process, [clients()])[0], START - RATE * RULES[algorithm](g, 1, {}), rtol=1e-5)
    np.testing.assert_allclose(
        run(process, [clients()], server_optimizer__learning_rate=0.01)[0], START - 0.01 * RULES[algorithm](g, 1, {}), rtol=1e-5
    )


@every_algorithm
def test_a_rate_below_zero_is_an_error(algorithm):
    with pytest.raises(ValueError, match="learning_rate must be a finite number >= 0"):
        algorithm(quadratics.model(), LOCAL, server_learning_rate=-0.1)


@pytest.mark.parametrize("algorithm", [fedadagrad, fedadam, fedyogi])
def test_epsilon_reaches_the_server(algorithm):
    process = fl.LearningProcess(algorithm(quadratics.model(), LOCAL, server_learning_rate=RATE, server_epsilon=0.25))
    assert process.get_hparams(process.initialize())["server_optimizer.epsilon"] == 0.25


def test_the_servers_rate_and_momentum_can_be_set():
    """Without momentum, and at the rate 1 that is the default, FedAvgM is FedAvg, whose own server has a rate too."""
    plain = quadratics.process_of(fedavg, LOCAL)
    momentum = quadratics.process_of(fedavgm, LOCAL)
    cohorts = [clients(steps=2)] * 2
    want, _ = run(plain, cohorts)
    np.testing.assert_allclose(run(momentum, cohorts, server_optimizer__momentum=0.0)[0], want, rtol=1e-6)
    one, _ = run(plain, cohorts[:1])
    half, _ = run(plain, cohorts[:1], server_optimizer__learning_rate=0.5)
    np.testing.assert_allclose(half, (one + START) / 2, rtol=1e-5)
