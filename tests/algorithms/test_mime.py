"""Mime and MimeLite against algebra on quadratics, a NumPy oracle on linear regression, and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles import mime_numpy

import fedloom as fl
from fedloom.algorithms import fedavg, fedsgd, mime, mimelite

both = pytest.mark.parametrize("algorithm", [mime, mimelite])
START = {"w": np.array([0.1, 0.2, -0.3], np.float32), "b": np.float32(0.4)}


def line_model():
    def init(key):
        return {"w": jnp.zeros(3), "b": jnp.zeros(())}

    return fl.models.from_functions(init, lambda p, x: x @ p["w"] + p["b"], lambda y, prediction: (prediction - y) ** 2 / 2)


def random_cohorts(rng, rounds):
    """Clients of other numbers and sizes of batches in every round, each with a line of its own and sample weights; the last is empty."""

    def client(batches):
        line = rng.normal(size=3)
        sizes = rng.integers(1, 5, size=batches)
        xs = [rng.normal(size=(n, 3)) for n in sizes]
        return [tuple(v.astype(np.float32) for v in (x, x @ line + 0.3, rng.uniform(0.5, 2, len(x)))) for x in xs]

    return [[client(int(rng.integers(1, 4))) for _ in range(3)] + [[]] for _ in range(rounds)]


def run(algorithm, cohorts, start=START, hparams=None):
    """States after each round, and the metrics of the last."""
    process = fl.LearningProcess(algorithm)
    state = process.set_hparams(process.initialize(start), hparams or {})
    states = []
    for cohort in cohorts:
        state, metrics = process.next(state, cohort)
        states.append(state.server)
    return states, metrics


def assert_close(got, want, rtol=1e-5, atol=1e-6):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=rtol, atol=atol), got, want)


@both
def test_rounds_of_linear_regression_agree_with_the_oracle(algorithm):
    """Weights and momentum to 1e-5 in float32 against float64. With one client a round of Mime is SVRG's, with momentum."""
    cohorts = random_cohorts(np.random.default_rng(5), rounds=3) + [[random_cohorts(np.random.default_rng(6), 1)[0][1]]]
    states, metrics = run(algorithm(line_model(), fl.optimizers.sgd(0.1, momentum=0.8)), cohorts)
    oracle = mime_numpy.mime([START["w"], START["b"]], cohorts, 0.1, 0.8, corrected=algorithm is mime)
    for state, ((w, b), (w_momentum, b_momentum)) in zip(states, oracle, strict=True):
        assert_close(state.weights.trainable, {"w": w, "b": b})
        (trace,) = [leaf for leaf in jax.tree.leaves(state.base_optimizer, is_leaf=lambda leaf: isinstance(leaf, dict) and "w" in leaf)][
            -1:
        ]
        assert_close(trace, {"w": w_momentum, "b": b_momentum})
    assert metrics["num_batches"] == len(cohorts[-1][0])  # one pass counts, not both


def test_mimelite_without_momentum_is_fedavg():
    cohorts = random_cohorts(np.random.default_rng(7), rounds=3)
    server = fl.optimizers.sgd(0.7, momentum=0.5)
    lite, lite_metrics = run(mimelite(line_model(), fl.optimizers.sgd(0.1), server), cohorts)
    plain, metrics = run(fedavg(line_model(), fl.optimizers.sgd(0.1), server), cohorts)
    assert_close(lite[-1].weights, plain[-1].weights, rtol=1e-6)
    assert lite_metrics["loss"] == pytest.approx(metrics["loss"], rel=1e-6)


def test_mime_with_one_local_step_is_gradient_descent():
    """y_i = x - a c on every client, whatever its own batch: the step of FedSGD, to the bit."""
    cohorts = [[client[:1] for client in cohort] for cohort in random_cohorts(np.random.default_rng(8), rounds=2)]
    one_step, _ = run(mime(line_model(), optax.sgd(0.25)), cohorts)
    descent, _ = run(fedsgd(line_model(), optax.sgd(0.25)), cohorts)
    assert_close(one_step[-1].weights, descent[-1].weights, rtol=1e-6, atol=1e-7)


def test_mime_with_one_client_that_repeats_a_batch_is_local_training():
    """c = grad f(x; batch), so that the correction cancels."""
    cohort = [[random_cohorts(np.random.default_rng(9), 1)[0][0][0]] * 4]
    alone, _ = run(mime(line_model(), optax.sgd(0.1)), [cohort])
    plain, _ = run(fedavg(line_model(), optax.sgd(0.1)), [cohort])
    assert_close(alone[-1].weights, plain[-1].weights)


# Clients that disagree: f_i(x) = a_i |x - c_i|^2 / 2, where a local step contracts x - c_i by 1 - h a_i

CURVATURE = {"ada": 0.5, "bob": 2.0, "cy": 5.0}
CENTRES = {"ada": [3.0, -1.0], "bob": [-2.0, 0.5], "cy": [10.0, 7.0]}
SIZES = {"ada": 1, "bob": 4, "cy": 2}
A, C, P = (np.array(list(values.values()), np.float64) for values in (CURVATURE, CENTRES, SIZES))
RATE, STEPS = 0.1, 6
OPTIMUM = np.average(C, axis=0, weights=P * A)
FEDAVG_LIMIT = np.average(C, axis=0, weights=P * (1 - (1 - RATE * A) ** STEPS))  # where sum_i p_i (1 - (1 - h a_i)^K) (x - c_i) = 0


def quadratic_model():
    """A weight in the plane; an example is a centre, with its curvature as y."""
    return fl.models.from_functions(lambda key: jnp.zeros(2), lambda x, c: x - c, lambda a, error: a * (error**2).sum(-1) / 2)


def quadratic_clients(names=tuple(SIZES), steps=STEPS):
    """Every batch of a client is the same."""
    batch = {n: (np.tile(np.float32(CENTRES[n]), (SIZES[n], 1)), np.full(SIZES[n], CURVATURE[n], np.float32)) for n in names}
    return {name: [batch[name]] * steps for name in names}


def final(algorithm, rounds, start=(0.5, -4.0), **kwargs):
    states, metrics = run(algorithm, [quadratic_clients()] * rounds, np.array(start, np.float32), **kwargs)
    return np.asarray(states[-1].weights.trainable), metrics


def test_a_round_of_mime_in_closed_form():
    """y_{k+1} - x = (1 - h a_i)(y_k - x) - h c, so y_K - x = -c (1 - (1 - h a_i)^K) / a_i, with c the gradient of the weighted mean."""
    x = np.array([0.5, -4.0])
    c = np.average(A[:, None] * (x - C), axis=0, weights=P)
    got, _ = final(mime(quadratic_model(), fl.optimizers.sgd(RATE)), rounds=1)
    np.testing.assert_allclose(got, x - c * np.average((1 - (1 - RATE * A) ** STEPS) / A, weights=P), rtol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "limit"), [(mime, OPTIMUM), (mimelite, FEDAVG_LIMIT), (fedavg, FEDAVG_LIMIT)], ids=["mime", "mimelite", "fedavg"]
)
def test_mime_converges_to_the_optimum_and_the_others_do_not(algorithm, limit):
    """The limits are more than 0.5 apart. x - limit shrinks in a round by 1 - sum_i p_i (1 - (1 - h a_i)^K) a / a_i at most."""
    assert np.linalg.norm(OPTIMUM - FEDAVG_LIMIT) > 0.5
    made = algorithm(quadratic_model(), fl.optimizers.sgd(RATE))
    np.testing.assert_allclose(final(made, rounds=25)[0], limit, rtol=1e-5)
    np.testing.assert_allclose(final(made, rounds=1, start=limit)[0], limit, rtol=1e-5)


@both
def test_with_momentum_mime_stays_where_c_and_s_are_zero(algorithm):
    """From the optimum Mime never leaves, momentum or not; MimeLite does, and gathers momentum."""
    got, _ = final(algorithm(quadratic_model(), fl.optimizers.sgd(RATE, momentum=0.9)), rounds=3, start=OPTIMUM)
    assert np.linalg.norm(got - OPTIMUM) < 1e-5 if algorithm is mime else np.linalg.norm(got - OPTIMUM) > 0.5


# State, rates, failures


@both
def test_local_steps_leave_the_state_and_a_round_moves_it_once(algorithm):
    """Adam has counted the rounds that were accepted, not the local steps."""
    cohorts = [quadratic_clients(), {"empty": []}, quadratic_clients(["cy"])]
    states, metrics = run(algorithm(quadratic_model(), optax.adam(0.1)), cohorts, np.zeros(2, np.float32))
    assert [int(state.base_optimizer[0].count) for state in states] == [1, 1, 2]
    assert_close(states[1], states[0], rtol=0, atol=0)


@both
def test_a_client_that_is_not_finite_is_as_if_absent(algorithm):
    """It enters neither the update, nor c, nor s: all is finite, and as without it."""
    broken = {"broken": [(np.full((3, 2), np.nan, np.float32), np.ones(3, np.float32))] * 2}
    made = algorithm(quadratic_model(), optax.sgd(RATE, momentum=0.9))
    with_it, metrics = run(made, [quadratic_clients() | broken, quadratic_clients()], np.zeros(2, np.float32))
    without, _ = run(made, [quadratic_clients()] * 2, np.zeros(2, np.float32))
    assert_close(with_it, without, rtol=1e-6)


@both
def test_rates_by_round_and_by_hand(algorithm):
    """One step per client: x <- x - rate_r s_r, with momentum s_r = b s_{r-1} + c_r; a schedule comes before a rate set by hand."""
    b, rates = 0.5, [0.1, 0.02, 0.05]
    cohort = quadratic_clients(steps=1)
    base = fl.optimizers.sgd(0.3, momentum=b)

    def want(rates):
        x, s = np.array([0.5, -4.0]), 0
        for rate in rates:
            s = b * s + np.average(A[:, None] * (x - C), axis=0, weights=P)
            x = x - rate * s
        return x

    def got(**kwargs):
        hparams = kwargs.pop("hparams", None)
        states, metrics = run(algorithm(quadratic_model(), base, **kwargs), [cohort] * 3, np.array([0.5, -4.0], np.float32), hparams)
        return np.asarray(states[-1].weights.trainable), metrics

    np.testing.assert_allclose(got()[0], want([0.3] * 3), rtol=1e-5)
    np.testing.assert_allclose(got(hparams={"base_optimizer.learning_rate": 0.2})[0], want([0.2] * 3), rtol=1e-5)
    trained, metrics = got(base_schedule=lambda r: jnp.asarray(rates)[r])
    np.testing.assert_allclose(trained, want(rates), rtol=1e-5)
    assert metrics["server"] == {"base_learning_rate": pytest.approx(0.05)}


@both
def test_a_schedule_needs_a_rate_that_can_be_set(algorithm):
    with pytest.raises(ValueError, match="base_schedule needs an optimizer that keeps its learning_rate"):
        algorithm(quadratic_model(), optax.sgd(0.1), base_schedule=lambda r: 0.1)


# What else goes from batch to batch


def test_all_gradients_of_a_step_of_mime_see_the_same_randomness():
    """With noise in the gradient that depends on the key alone, a client of one batch trains as under FedAvg: the correction cancels."""
    plain = quadratic_model()

    def noisy(trainable, non_trainable, carry, batch, key):
        loss, aux = plain.loss(trainable, non_trainable, carry, batch, key)
        return loss + trainable @ jax.random.normal(key, (2,)), aux

    noisy_model = plain._replace(loss=noisy)
    cohort = [quadratic_clients(["bob"], steps=1)]
    got, want, quiet = (
        run(made, cohort, np.zeros(2, np.float32))[0][0].weights.trainable
        for made in (mime(noisy_model, optax.sgd(0.1)), fedavg(noisy_model, optax.sgd(0.1)), fedavg(plain, optax.sgd(0.1)))
    )
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert np.abs(want - quiet).min() > 1e-3


def recurrent_model():
    """prediction = w u + h, h <- w h + u, with u the mean of a batch's x, and no gradient through h: a weight w and a number as RNN state."""
    plain = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, prediction: prediction)

    def loss(w, non_trainable, h, batch, key):
        _, aux = plain.loss(w, non_trainable, (), batch, key)
        u, y = batch.x.mean(), batch.y.mean()
        return (w * u + h - y) ** 2 / 2, (*aux[:2], jax.lax.stop_gradient(w * h + u))

    return plain._replace(loss=loss, init_carry=lambda: jnp.float32(0))


XS, YS, W, H = [1.0, -2.0, 0.5], [2.0, 1.0, -1.0], 0.7, 0.1


def states_of(w, h=0.0):
    """The RNN states in which the batches begin, and the last."""
    states = [h]
    for u in XS:
        states.append(w * states[-1] + u)
    return states


def recurrent_result(algorithm):
    client = [(np.full(2, u, np.float32), np.full(2, y, np.float32)) for u, y in zip(XS, YS, strict=True)]
    return float(run(algorithm(recurrent_model(), optax.sgd(H)), [[client]], np.float32(W))[0][0].weights.trainable)


def test_mime_carries_an_rnn_state_for_each_of_the_two_weights():
    """grad = (w u + h - y) u, where the state h at y_i comes from y_i's own steps, and that at x from x's."""
    at_x = [(W * u + h - y) * u for u, h, y in zip(XS, states_of(W), YS, strict=False)]
    w, h = W, 0.0
    for u, y, g_x in zip(XS, YS, at_x, strict=True):
        w, h = w - H * ((w * u + h - y) * u - g_x + np.mean(at_x)), w * h + u
    assert recurrent_result(mime) == pytest.approx(w, rel=1e-5)


def test_the_second_pass_of_mimelite_starts_from_the_rnn_state_that_the_first_left():
    w, h = W, states_of(W)[-1]
    for u, y in zip(XS, YS, strict=True):
        w, h = w - H * (w * u + h - y) * u, w * h + u
    assert recurrent_result(mimelite) == pytest.approx(w, rel=1e-5)
