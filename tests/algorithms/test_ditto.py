"""Ditto: its server is FedAvg's, and personal weights have closed forms on ellipses."""

import numpy as np
import pytest
from algorithms import ellipses, regression
from algorithms.ellipses import CENTRE, CURVATURE, NAMES, START, clients, descend, run, weights
from contracts.lines import assert_close, assert_identical
from oracles import personal_numpy

import fedloom as fl
from fedloom import optimizers
from fedloom.algorithms import ditto, fedavg

RATE = 0.2


def personal(process, state, client):
    return np.asarray(process.personal_weights(state, client).trainable)


def test_the_server_is_that_of_fedavg():
    """Weights, optimizer and metrics, but for the bytes of the rates of v_k; the metrics are those of the server's model."""
    optimizer, server = optimizers.sgd(0.05, momentum=0.5), optimizers.sgd(0.7, momentum=0.9)
    plain = fl.LearningProcess(fedavg(regression.model(), optimizer, server))
    process = fl.LearningProcess(ditto(regression.model(), optimizer, server, lam=0.4))
    want, got = plain.initialize(regression.START), process.initialize(regression.START)
    for cohort in regression.cohorts(3):
        (want, want_metrics), (got, metrics) = plain.next(want, cohort), process.next(got, cohort)
        assert_close((got.server.weights, got.server.server_optimizer), want.server[:2], rtol=1e-6, atol=1e-6)
        assert metrics == pytest.approx(want_metrics | {"bytes_down": metrics["bytes_down"]}, rel=1e-6)


def test_without_lambda_a_client_trains_alone():
    """From where it first took part; its optimizer starts fresh each round, and rounds without it change nothing."""
    process, state = run(ditto(ellipses.model(), optimizers.sgd(0.1), lam=0.0, personal_optimizer=optimizers.sgd(RATE)), [])
    want = {}
    for steps, names in [(2, ("ada", "cy")), (3, ("cy",)), (1, ("bob",)), (2, NAMES)]:
        for name in names:
            want[name] = descend(name, want.get(name, weights(process, state)), RATE, steps)
        state, _ = process.next(state, clients(steps, names))
        for name, expected in want.items():
            np.testing.assert_allclose(personal(process, state, name), expected, rtol=1e-5)


@pytest.mark.parametrize("lam", [0.3, 4.0, 1e4])
def test_with_lambda_they_go_to_a_mean_of_centre_and_server(lam):
    """A step contracts v - (a c + lambda w) / (a + lambda) by 1 - eta (a + lambda): from the centre alone to the server's weights."""
    rate = 0.5 / (2.5 + lam)
    algorithm = ditto(ellipses.model(), optimizers.sgd(RATE), lam=lam, personal_optimizer=optimizers.sgd(rate))
    process, state = run(algorithm, [])
    want = dict.fromkeys(NAMES, START)
    for steps in (3, 2, 4):
        w = weights(process, state)
        for name, a in CURVATURE.items():
            goal = (a * CENTRE[name] + lam * w) / (a + lam)
            want[name] = goal + (1 - rate * (a + lam)) ** steps * (want[name] - goal)
        state, _ = process.next(state, clients(steps))
        for name in NAMES:
            np.testing.assert_allclose(personal(process, state, name), want[name], rtol=1e-4)
    if lam > 1000:
        sent, rounds_behind = np.abs(personal(process, state, "ada") - w).max(), np.abs(w - START).max()
        assert sent < 0.1 * rounds_behind, "held by the weights that the server last sent"


def test_rounds_of_linear_regression_agree_with_the_oracle():
    process = fl.LearningProcess(ditto(regression.model(), optimizers.sgd(0.1), lam=9.0))
    state = process.initialize(regression.START)
    state = process.set_hparams(state, {"lam": 0.7, "personal_optimizer.learning_rate": 0.05})
    own = {}
    for cohort in regression.cohorts(5):
        w = [np.asarray(leaf, np.float64) for leaf in process.get_weights(state).trainable]
        own |= {name: personal_numpy.ditto(w, own.get(name, w), batches, 0.05, 0.7) for name, batches in cohort.items()}
        state, _ = process.next(state, cohort)
        assert_close({name: process.personal_weights(state, name).trainable for name in own}, own)


def test_without_personal_weights_a_client_uses_the_servers():
    """A client that has not taken part yet, and everybody under an algorithm that makes none."""
    process, state = run(ditto(ellipses.model(), optimizers.sgd(0.1), lam=0.1), [clients(2, ["ada"])])
    assert_identical(process.personal_weights(state, "bob"), process.get_weights(state))
    assert np.abs(personal(process, state, "ada") - weights(process, state)).max() > 1e-3
    process, state = run(fedavg(ellipses.model(), optimizers.sgd(0.1)), [clients(2, ["ada"])])
    assert_identical(process.personal_weights(state, "ada"), process.get_weights(state))


def test_statistics_of_batch_norm_are_personal():
    """moving <- (1 - m) moving + m * mean of the batch: for each client its own, for the server the mean over the clients."""
    import keras

    m = 0.25
    net = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization(momentum=1 - m), keras.layers.Dense(1)])
    model = fl.models.from_keras(net, loss=keras.losses.MeanSquaredError())
    process = fl.LearningProcess(ditto(model, optimizers.sgd(0.1), lam=0.1), batching=fl.data.Batching(size=3, shuffle=False))
    x = {"ada": np.float32([[1, 2], [3, 5], [8, 2]]), "bob": np.float32([[-4, 0], [1, 1], [0, 2]])}
    state, _ = process.next(process.initialize(net), {name: {"x": rows, "y": rows[:, :1]} for name, rows in x.items()})
    for name, rows in x.items():
        np.testing.assert_allclose(process.personal_weights(state, name).non_trainable[0], m * rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(process.get_weights(state).non_trainable[0], m * np.mean([r.mean(0) for r in x.values()], axis=0), rtol=1e-5)


@pytest.mark.parametrize("lam", [-0.1, float("inf"), float("nan")])
def test_what_cannot_be_right_is_refused(lam):
    with pytest.raises(ValueError, match=f"lam must be a finite number >= 0, got {lam}"):
        ditto(ellipses.model(), optimizers.sgd(0.1), lam=lam)
