"""Mime and MimeLite against algebra on quadratics, a NumPy oracle on linear regression, and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quadratics
from oracles import mime_numpy
from quadratics import START, A, C, N, clients, gradients, mean, mixed_clients, padded, run

import fedloom as fl
from fedloom.algorithms import fedavg, fedsgd, mime, mimelite

both = pytest.mark.parametrize("algorithm", [mime, mimelite])
RATE, STEPS = 0.1, 6


def process_of(algorithm):
    """With momentum 0.9 on the base optimizer of Mime and MimeLite, which can be set."""
    return quadratics.process_of(algorithm, MOMENTUM if algorithm in (mime, mimelite) else PLAIN)


PLAIN, MOMENTUM = fl.optimizers.sgd(RATE), fl.optimizers.sgd(RATE, momentum=0.9)
NO_MOMENTUM = {"base_optimizer__momentum": 0.0}


# The oracle


def line_cohorts(rng, rounds):
    """Clients of other numbers and sizes of batches in every round, each with a line of its own and sample weights; the last is empty."""

    def client():
        line = rng.normal(size=3)
        xs = [rng.normal(size=(n, 3)) for n in rng.integers(1, 5, size=rng.integers(1, 4))]
        return [tuple(v.astype(np.float32) for v in (x, x @ line + 0.3, rng.uniform(0.5, 2, len(x)))) for x in xs]

    return [[*(client() for _ in range(3)), []] for _ in range(rounds)]


def assert_close(got, want, **tolerance):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, **(tolerance or {"rtol": 1e-5, "atol": 1e-6})), got, want)


@both
def test_rounds_of_linear_regression_agree_with_the_oracle(algorithm):
    """Weights and momentum to 1e-5 in float32 against float64. The last round, of one client, is SVRG with momentum in the case of Mime."""
    cohorts = line_cohorts(np.random.default_rng(5), rounds=3)
    cohorts.append(cohorts[0][1:2])
    start = [np.array([0.1, 0.2, -0.3], np.float32), np.float32(0.4)]
    model = fl.models.from_functions(
        lambda key: [jnp.zeros(3), jnp.zeros(())], lambda p, x: x @ p[0] + p[1], lambda y, prediction: (prediction - y) ** 2 / 2
    )
    process = fl.LearningProcess(algorithm(model, optax.sgd(0.1, momentum=0.8)))
    state = process.initialize(start)
    for cohort, (x, s) in zip(cohorts, mime_numpy.mime(start, cohorts, 0.1, 0.8, corrected=algorithm is mime), strict=True):
        state, metrics = process.next(state, [[padded(*batch) for batch in client] for client in cohort])
        assert_close(state.server.weights.trainable, x)
        assert_close(state.server.base_optimizer[0].trace, s)
        assert metrics["num_batches"] == sum(map(len, cohort))  # of one pass, not of both
    after, metrics = process.next(state, [[]])
    assert metrics["accepted"] == 0
    assert_close(after.server, state.server, rtol=0)


# Limits


def test_mimelite_without_momentum_is_fedavg():
    cohorts = [mixed_clients(np.random.default_rng(seed)) for seed in range(3)]
    got, metrics = run(process_of(mimelite), cohorts, **NO_MOMENTUM)
    want, plain_metrics = run(process_of(fedavg), cohorts)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert metrics["loss"] == pytest.approx(plain_metrics["loss"], rel=1e-5)


def test_mime_with_one_local_step_is_gradient_descent():
    """y_i = x - h c on every client, whatever its own batch: the step of FedSGD."""
    cohorts = [clients(), {name: batches[:1] for name, batches in mixed_clients(np.random.default_rng(8)).items()}]
    got, _ = run(process_of(mime), cohorts, **NO_MOMENTUM)
    np.testing.assert_allclose(got, run(process_of(fedsgd), cohorts)[0], rtol=1e-5)


def test_mime_with_one_client_that_repeats_a_batch_is_local_training():
    """c = grad f(x; batch), so that the correction cancels."""
    batch = mixed_clients(np.random.default_rng(9))["0"][0]
    got, _ = run(process_of(mime), [[[batch] * 4]], **NO_MOMENTUM)
    np.testing.assert_allclose(got, run(process_of(fedavg), [[[batch] * 4]])[0], rtol=1e-5)


# Clients that disagree: a local step contracts x - c_i by 1 - h a_i

CONTRACTED = 1 - (1 - RATE * A) ** STEPS
OPTIMUM = np.average(C, axis=0, weights=N * A)
FEDAVG_LIMIT = np.average(C, axis=0, weights=N * CONTRACTED)  # where sum_i n_i (1 - (1 - h a_i)^K) (x - c_i) = 0


def test_a_round_of_mime_in_closed_form():
    """y_{k+1} - x = (1 - h a_i)(y_k - x) - h c, so y_K - x = -c (1 - (1 - h a_i)^K) / a_i."""
    got, _ = run(process_of(mime), [clients(steps=STEPS)], **NO_MOMENTUM)
    np.testing.assert_allclose(got, START - mean(gradients(START)) * mean(CONTRACTED / A), rtol=1e-5)


@pytest.mark.parametrize(("algorithm", "limit"), [(mime, OPTIMUM), (mimelite, FEDAVG_LIMIT), (fedavg, FEDAVG_LIMIT)])
def test_mime_converges_to_the_optimum_and_the_others_do_not(algorithm, limit):
    """From a point far away, and from the limit itself; the two limits are more than 0.5 apart."""
    assert np.linalg.norm(OPTIMUM - FEDAVG_LIMIT) > 0.5
    for rounds, start in ((25, START), (1, limit)):
        got, _ = run(process_of(algorithm), [clients(steps=STEPS)] * rounds, start, **({} if algorithm is fedavg else NO_MOMENTUM))
        np.testing.assert_allclose(got, limit, rtol=1e-5)


@both
def test_mime_never_leaves_the_optimum_and_mimelite_does(algorithm):
    """c = 0 there, and so is s, momentum or not."""
    got, _ = run(process_of(algorithm), [clients(steps=STEPS)] * 3, OPTIMUM)
    distance = np.linalg.norm(got - OPTIMUM)
    assert distance < 1e-4 if algorithm is mime else distance > 0.5


# Rates and failures


@both
def test_rates_by_round_and_by_hand(algorithm):
    """One step per client: x <- x - rate_r s_r, with momentum s_r = b s_{r-1} + c_r; a schedule comes before a rate set by hand."""
    b, rates = 0.9, jnp.array([0.1, 0.02, 0.05])

    def want(rates):
        x, s = START, 0
        for rate in rates:
            s = b * s + mean(gradients(x))
            x = x - rate * s
        return x

    got, _ = run(process_of(algorithm), [clients()] * 3, base_optimizer__learning_rate=0.2)
    np.testing.assert_allclose(got, want([0.2] * 3), rtol=1e-4)
    scheduled = quadratics.process_of(algorithm, MOMENTUM, base_schedule=lambda r: rates[r])
    got, metrics = run(scheduled, [clients()] * 3, base_optimizer__learning_rate=0.2)
    np.testing.assert_allclose(got, want(rates), rtol=1e-4)
    assert metrics["server"] == {"base_learning_rate": pytest.approx(0.05)}


@both
def test_a_client_that_is_not_finite_is_as_if_absent(algorithm):
    """It enters neither the update, nor c, nor s, on which the second round depends."""
    broken = {"broken": [padded(np.full((3, 2), np.nan), np.ones(3))] * 2}
    got, metrics = run(process_of(algorithm), [clients(steps=2) | broken] * 2)
    np.testing.assert_allclose(got, run(process_of(algorithm), [clients(steps=2)] * 2)[0], rtol=1e-6)
    assert metrics["num_nonfinite_clients"] == 1


@both
def test_a_schedule_needs_a_rate_that_can_be_set(algorithm):
    with pytest.raises(ValueError, match="base_schedule needs an optimizer that keeps its learning_rate"):
        algorithm(quadratics.model(), optax.sgd(0.1), base_schedule=lambda r: 0.1)


# What else goes from batch to batch


def weights_after(algorithm, client, start):
    process = fl.LearningProcess(algorithm, executor="debug")
    state, _ = process.next(process.initialize(np.float32(start)), [client])
    return np.asarray(process.get_weights(state).trainable)


def test_all_gradients_of_a_step_of_mime_see_the_same_randomness():
    """With noise in the gradient that depends on the key alone, a client of one batch trains as under FedAvg: the correction cancels."""
    plain = quadratics.model()

    def loss(trainable, non_trainable, carry, batch, key):
        value, aux = plain.loss(trainable, non_trainable, carry, batch, key)
        return value + trainable @ jax.random.normal(key, (2,)), aux

    model, client = plain._replace(loss=loss), clients(["bob"])["bob"]
    got, want = (weights_after(algorithm(model, PLAIN), client, START) for algorithm in (mime, fedavg))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert np.abs(want - (START - RATE * gradients(START)[1])).min() > 1e-3  # there was noise


def recurrent_model():
    """prediction = w u + h, then h <- w h + u, without gradient through h: a weight w, a batch's mean x as u, and h as RNN state."""
    plain = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, prediction: prediction)

    def loss(w, non_trainable, h, batch, key):
        _, (metrics, _, _) = plain.loss(w, non_trainable, (), batch, key)
        u, y = batch.x.mean(), batch.y.mean()
        return (w * u + h - y) ** 2 / 2, (metrics, non_trainable, jax.lax.stop_gradient(w * h + u))

    return plain._replace(loss=loss, init_carry=lambda: jnp.float32(0))


US, YS, W = [1.0, -2.0, 0.5], [2.0, 1.0, -1.0], 0.7
TEXT = [(np.full(2, u, np.float32), np.full(2, y, np.float32)) for u, y in zip(US, YS, strict=True)]


def gradient(w, h, u, y):
    return (w * u + h - y) * u


def at_received_weights():
    """The gradients of all batches at W, and the RNN state after them."""
    h, found = 0.0, []
    for u, y in zip(US, YS, strict=True):
        found.append(gradient(W, h, u, y))
        h = W * h + u
    return found, h


def test_mime_carries_an_rnn_state_for_each_of_the_two_weights():
    """The state at y_i comes from y_i's own steps, and that at x from x's."""
    at_x, _ = at_received_weights()
    w, h = W, 0.0
    for u, y, g_x in zip(US, YS, at_x, strict=True):
        w, h = w - RATE * (gradient(w, h, u, y) - g_x + np.mean(at_x)), w * h + u
    np.testing.assert_allclose(weights_after(mime(recurrent_model(), PLAIN), TEXT, W), w, rtol=1e-5)


def test_the_second_pass_of_mimelite_starts_from_the_rnn_state_that_the_first_left():
    _, h = at_received_weights()
    w = W
    for u, y in zip(US, YS, strict=True):
        w, h = w - RATE * gradient(w, h, u, y), w * h + u
    np.testing.assert_allclose(weights_after(mimelite(recurrent_model(), PLAIN), TEXT, W), w, rtol=1e-5)
