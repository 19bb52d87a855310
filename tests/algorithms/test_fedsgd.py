"""FedSGD is gradient descent on the pooled data of the cohort."""

import keras
import numpy as np
import pytest
import quadratics
from quadratics import START, clients, gradients, mean, padded, run

import fedloom as fl
from fedloom.algorithms import fedavg, fedsgd

PROCESS = {weight: quadratics.process_of(fedsgd, fl.optimizers.sgd(0.1), client_weight=weight) for weight in ("num_examples", "tokens")}


def examples(rng, sizes, weighted):
    """Centres, curvatures and sample weights of clients of these sizes."""
    return [(rng.normal(size=(n, 2)), rng.uniform(0.5, 2, n), rng.uniform(0.1, 2, n) if weighted else np.ones(n)) for n in sizes]


def cut(columns, size):
    return [padded(*(column[i : i + size] for column in columns)) for i in range(0, len(columns[0]), size)]


@pytest.mark.parametrize("client_weight", ["num_examples", "tokens"])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_it_is_gradient_descent_on_the_pooled_data_whatever_the_batching(size, client_weight):
    """Counting what carries weight in the loss: examples, or with sample weights their sum. A new cohort every round, all uneven."""
    rng = np.random.default_rng(2)
    rounds = [examples(rng, sizes, weighted=client_weight == "tokens") for sizes in ([1, 9, 4], [2, 0, 7], [5])]
    x = START
    for pooled in rounds:
        c, a, w = (np.concatenate(columns) for columns in zip(*pooled, strict=True))
        x = x - 0.1 * np.average(a[:, None] * (x - c), axis=0, weights=w)
    got, metrics = run(PROCESS[client_weight], [[cut(columns, size) for columns in pooled] for pooled in rounds])
    np.testing.assert_allclose(got, x, rtol=1e-5)
    assert metrics["num_examples"] == 5 and metrics["num_nonfinite_clients"] == 0


def test_the_loss_is_that_at_the_weights_of_the_server():
    """None of the batches sees the others' steps."""
    _, metrics = run(PROCESS["num_examples"], [clients(steps=5)])
    losses = quadratics.A * ((START - quadratics.C) ** 2).sum(-1) / 2
    assert metrics["loss"] == pytest.approx(np.average(losses, weights=quadratics.N), rel=1e-5)


def test_it_is_fedavg_with_one_local_step():
    plain, _ = run(quadratics.process_of(fedavg, fl.optimizers.sgd(0.1)), [clients()] * 3)
    np.testing.assert_allclose(run(PROCESS["num_examples"], [clients()] * 3)[0], plain, rtol=1e-6)


def test_the_rate_is_that_of_the_server():
    """0.1 unless said, as in TFF; and it can be set."""
    default = fl.LearningProcess(fedsgd(quadratics.model()))
    assert default.get_hparams(default.initialize()) == {"server_optimizer.learning_rate": pytest.approx(0.1)}
    got, _ = run(PROCESS["num_examples"], [clients()], server_optimizer__learning_rate=0.025)
    np.testing.assert_allclose(got, START - 0.025 * mean(gradients(START)), rtol=1e-5)


def test_an_empty_client_is_no_failure_and_adds_nothing():
    """0/0 in TFF; here zeros with weight 0. With nobody else, the round does not count."""
    alone, _ = run(PROCESS["num_examples"], [clients()])
    got, metrics = run(PROCESS["num_examples"], [clients() | {"empty": []}])
    np.testing.assert_array_equal(got, alone)
    assert metrics["num_nonfinite_clients"] == 0 and metrics["num_clients"] == 4
    got, metrics = run(PROCESS["num_examples"], [{"empty": []}])
    np.testing.assert_array_equal(got, np.float32(START))
    assert metrics["num_nonfinite_clients"] == metrics["accepted"] == 0


def test_regularization_counts_once_and_statistics_are_averaged():
    """With an L2 penalty R the gradient is that of mean loss + R, however many batches there are; a client's BatchNorm statistics move from
    batch to batch and are averaged over clients."""
    dense = keras.layers.Dense(1, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.3))
    norm = keras.layers.BatchNormalization(momentum=0.5, epsilon=0.01, center=False, scale=False)
    process = fl.LearningProcess(fedsgd(fl.models.from_keras(keras.Sequential([keras.Input((2,)), norm, dense]), "mse", [])))
    rng = np.random.default_rng(0)
    x, y = rng.normal(1.0, 2.0, (3, 4, 2)).astype(np.float32), rng.normal(size=(3, 4, 1)).astype(np.float32)
    w = np.array([[1.0], [-2.0]], np.float32)
    statistics = np.zeros(2, np.float32), np.ones(2, np.float32)
    state, _ = process.next(process.initialize([*statistics, w]), [[(x[0], y[0]), (x[1], y[1])], [(x[2], y[2])]])
    got = process.get_weights(state)

    seen = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 0.01)
    gradient = 2 * np.mean(seen * (seen @ w - y), axis=(0, 1))[:, None] + 2 * 0.3 * w
    np.testing.assert_allclose(got.trainable[0], w - 0.1 * gradient, rtol=1e-5)
    for learned, start, of_batch in zip(got.non_trainable, statistics, (x.mean(1), x.var(1)), strict=True):
        ada, bob = (start + of_batch[0]) / 4 + of_batch[1] / 2, (start + of_batch[2]) / 2
        np.testing.assert_allclose(learned, (8 * ada + 4 * bob) / 12, rtol=1e-5)


def test_an_unknown_client_weight_is_an_error():
    with pytest.raises(ValueError, match="client_weight must be one of"):
        fedsgd(quadratics.model(), client_weight="examples")
