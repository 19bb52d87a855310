"""FedProx against algebra on quadratics, and in its limits."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quadratics
from quadratics import START, A, C, clients, mean, mixed_clients, run

import fedloom as fl
from fedloom.algorithms import fedavg, fedprox

RATE, STEPS = 0.1, 4
SGD = fl.optimizers.sgd(RATE)


def process():
    return quadratics.process_of(fedprox, SGD, proximal_strength=0.25)


def trained(x, mu, rate=RATE):
    """y_i after local steps: h_i has curvature a_i + mu and minimum z_i = (a_i c_i + mu x) / (a_i + mu), to which a step contracts."""
    a = A[:, None]
    z = (a * C + mu * x) / (a + mu)
    return z + (1 - rate * (a + mu)) ** STEPS * (x - z)


@pytest.mark.parametrize("mu", [0.25, 3.0])
def test_local_steps_descend_to_the_minimum_of_the_proximal_objective(mu):
    """Two rounds in closed form; the strength given at the start is a hyperparameter."""
    assert process().get_hparams(process().initialize())["proximal_strength"] == 0.25
    got, _ = run(process(), [clients(steps=STEPS)] * 2, proximal_strength=mu)
    np.testing.assert_allclose(got, mean(trained(mean(trained(START, mu)), mu)), rtol=1e-5)


def test_the_loss_is_reported_without_the_proximal_term():
    """That of the first step is the same, and the term would only add to the others."""
    y, want = START, 0.0
    for _ in range(STEPS):
        want += A[2] * ((y - C[2]) ** 2).sum() / 2 / STEPS
        y = y - RATE * (A[2] * (y - C[2]) + 2.0 * (y - START))
    _, metrics = run(process(), [clients(["cy"], steps=STEPS)], proximal_strength=2.0)
    assert metrics["loss"] == pytest.approx(want, rel=1e-5)


def test_the_update_gets_smaller_with_the_strength():
    """On least squares, 20 steps at a rate of 0.05, which converges. TFF's term has the other sign, and its update grows with mu."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(12, 3)).astype(np.float32)
    batch = x, (x @ np.array([1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=12)).astype(np.float32)
    model = fl.models.from_functions(lambda key: jnp.zeros(3), lambda w, x: x @ w, lambda y, prediction: (prediction - y) ** 2 / 2)
    least_squares = fl.LearningProcess(fedprox(model, fl.optimizers.sgd(0.05), proximal_strength=0.5))
    moved = {mu: np.linalg.norm(run(least_squares, [[[batch] * 20]], np.zeros(3), proximal_strength=mu)[0]) for mu in (-1, -0.5, 0, 0.5, 1)}
    assert moved[1] < moved[0.5] < moved[0] < moved[-0.5] < moved[-1]
    assert moved[0.5] < 0.95 * moved[0]


def test_without_strength_it_is_fedavg_to_the_bit():
    cohorts = [mixed_clients(np.random.default_rng(seed)) for seed in range(3)]
    optimizers = optax.adam(0.1), optax.sgd(0.7, momentum=0.5)
    prox = quadratics.process_of(fedprox, *optimizers, proximal_strength=0.0, client_weight="tokens")
    plain = quadratics.process_of(fedavg, *optimizers, client_weight="tokens")
    (got, metrics), (want, plain_metrics) = run(prox, cohorts), run(plain, cohorts)
    np.testing.assert_array_equal(got, want)
    assert metrics == plain_metrics | {"bytes_down": metrics["bytes_down"]}  # which the strength adds to


def test_rates_by_round_go_with_the_strength():
    rates = jnp.array([0.1, 0.02])
    scheduled = quadratics.process_of(fedprox, SGD, proximal_strength=0.5, client_schedule=lambda r: rates[r])
    got, metrics = run(scheduled, [clients(steps=STEPS)] * 2)
    np.testing.assert_allclose(got, mean(trained(mean(trained(START, 0.5, 0.1)), 0.5, 0.02)), rtol=1e-5)
    assert metrics["server"] == {"client_learning_rate": pytest.approx(0.02)}


@pytest.mark.parametrize("mu", [-0.1, float("nan"), float("inf")])
def test_a_strength_below_zero_or_not_finite_is_an_error(mu):
    with pytest.raises(ValueError, match=f"proximal_strength must be a finite number >= 0, got {mu}"):
        fedprox(quadratics.model(), SGD, proximal_strength=mu)


def test_a_schedule_needs_a_rate_that_can_be_set():
    with pytest.raises(ValueError, match="client_schedule needs an optimizer that keeps its learning_rate"):
        fedprox(quadratics.model(), optax.sgd(0.1), proximal_strength=0.1, client_schedule=lambda r: 0.1)
