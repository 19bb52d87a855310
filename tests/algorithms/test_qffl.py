"""q-FedAvg against Algorithm 2 of the paper in NumPy, and in its limits."""

import numpy as np
import optax
import pytest
import quadratics
from quadratics import START, A, C, clients, gradients, mixed_clients, run

import fedloom as fl
from fedloom.algorithms import fedavg, qffl

RATE = 0.1
SGD = fl.optimizers.sgd(RATE)


def process():
    return quadratics.process_of(qffl, SGD, q=1.0)


def losses(x):
    return A * ((x - C) ** 2).sum(-1) / 2


def algorithm_2(w, cohort, q):
    """A round of q-FedAvg, in float64."""
    Deltas, hs = [], []
    for batches in cohort.values():
        if not batches:
            continue
        rows = [[np.float64(part) for part in (batch.x, batch.y, batch.sample_weight * batch.real)] for batch in batches]
        F = sum((s * a * ((w - c) ** 2).sum(-1) / 2).sum() for c, a, s in rows) / sum(s.sum() for _, _, s in rows)
        w_k = w
        for c, a, s in rows:
            w_k = w_k - RATE * ((s * a)[:, None] * (w_k - c)).sum(0) / s.sum()
        Delta_w = (w - w_k) / RATE
        Deltas.append(F**q * Delta_w)
        hs.append(q * F ** (q - 1) * (Delta_w**2).sum() + F**q / RATE)
    return w - sum(Deltas) / sum(hs)


@pytest.mark.parametrize("q", [0.5, 1.0, 3.0])
def test_rounds_are_those_of_algorithm_2(q):
    """With clients of several batches, sample weights and padding, and one without data; q is a hyperparameter."""
    cohorts = [mixed_clients(np.random.default_rng(seed)) for seed in range(2)]
    got, _ = run(process(), cohorts, q=q)
    np.testing.assert_allclose(got, algorithm_2(algorithm_2(START, cohorts[0], q), cohorts[1], q), rtol=1e-4)


def test_q_0_is_fedavg_with_clients_of_equal_weight():
    cohorts = [mixed_clients(np.random.default_rng(seed)) for seed in range(3)]
    want, want_metrics = run(quadratics.process_of(fedavg, SGD, client_weight="uniform"), cohorts)
    got, metrics = run(process(), cohorts, q=0.0)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert metrics["loss"] == pytest.approx(want_metrics["loss"], rel=1e-5)


def test_the_larger_q_the_fairer():
    """Algorithm 2 goes to where grad f_q = sum_k F_k^q grad F_k vanishes, and there it stays; the gap between losses falls with q."""
    pair, gaps = clients(["bob", "cy"]), []
    for q in (0.0, 1.0, 4.0):
        x = START
        for _ in range(300):
            x = algorithm_2(x, pair, q)
        F = losses(x)[1:]
        terms = F[:, None] ** q * gradients(x)[1:]
        np.testing.assert_allclose(terms.sum(0), 0, atol=1e-6 * np.abs(terms).max())
        np.testing.assert_allclose(run(process(), [pair], start=x, q=q)[0], x, rtol=1e-4)
        gaps.append(abs(F[0] - F[1]))
    assert gaps[2] < 0.7 * gaps[1] < 0.7 * 0.7 * gaps[0]


@pytest.mark.parametrize("q", [0.0, 0.5, 2.0])
def test_a_client_without_loss_is_no_division_by_zero(q):
    """Alone it moves nothing; with another, 1 >= q > 0, its h_k is that of the paper's F_k + 1e-10."""
    alone, metrics = run(process(), [clients(["bob"])], start=C[1], q=q)
    np.testing.assert_allclose(alone, C[1], rtol=1e-6)
    together, _ = run(process(), [clients(["bob", "cy"])], start=C[1], q=q)
    assert metrics["num_nonfinite_clients"] == 0 and np.isfinite(together).all()


def test_losses_too_small_for_a_power_move_nothing():
    """F^q = 1e-60 is 0 in float32, and so are all Delta_k and h_k."""
    x, metrics = run(process(), [clients(["bob"])], start=C[1], q=6.0)
    np.testing.assert_array_equal(x, np.float32(C[1]))
    assert metrics["accepted"] == 1


def test_the_server_optimizer_gets_the_step():
    cohort = mixed_clients(np.random.default_rng(5))
    half, _ = run(quadratics.process_of(qffl, SGD, fl.optimizers.sgd(0.5), q=2.0), [cohort])
    np.testing.assert_allclose(half, (START + algorithm_2(START, cohort, 2.0)) / 2, rtol=1e-4)


def test_bad_arguments_are_errors_that_say_what_to_do():
    with pytest.raises(ValueError, match=r"q must be a finite number >= 0, got -1"):
        qffl(quadratics.model(), SGD, q=-1)
    with pytest.raises(ValueError, match=r"L = 1 / learning_rate.*fl.optimizers"):
        qffl(quadratics.model(), optax.sgd(0.1), q=1.0)
