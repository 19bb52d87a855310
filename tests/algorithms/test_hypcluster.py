"""HypCluster on quadratics, whose clusters have an optimum in closed form, and with one cluster, as which it is FedAvg."""

import jax
import keras
import numpy as np
import pytest
import quadratics
from quadratics import START, A, C, N, clients, mixed_clients, padded, run

import fedloom as fl
from fedloom.algorithms import cluster_weights, fedavg, hypcluster

RATE = 0.1
SGD = fl.optimizers.sgd(RATE)
MOMENTUM = fl.optimizers.sgd(0.5, momentum=0.9)


def clusters(state, count):
    return [np.asarray(cluster_weights(state.server, k).trainable) for k in range(count)]


def rounds(process, cohorts, start=START):
    state = process.initialize(np.float32(start))
    for cohort in cohorts:
        state, metrics = process.next(state, cohort)
    return state, metrics


def test_one_cluster_is_fedavg():
    cohorts = [mixed_clients(np.random.default_rng(seed)) for seed in range(3)]
    want, want_metrics = run(quadratics.process_of(fedavg, SGD, MOMENTUM), cohorts)
    got, metrics = run(quadratics.process_of(hypcluster, SGD, MOMENTUM, num_clusters=1), cohorts)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert metrics["loss"] == pytest.approx(want_metrics["loss"], rel=1e-6)
    assert metrics["server"]["cluster_sizes"] == [metrics["num_examples"]]


def test_groups_with_opposite_targets_are_told_apart_and_reach_their_own_optima():
    """From nearly the same start. The optimum of a group is the mean of its targets; one client has targets on both sides."""
    targets = {"a": [[6.0, 0.0]], "b": [[4.0, 2.0]] * 3, "c": [[-5.0, 1.0]] * 2, "d": [[-7.0, -3.0]], "e": [[5.0, 5.0], [-9.0, -9.0]]}
    cohort = {name: [padded(np.array(rows), np.ones(len(rows)))] * 5 for name, rows in targets.items()}
    process = quadratics.process_of(hypcluster, SGD, num_clusters=2)
    state, metrics = rounds(process, [cohort] * 16, start=np.zeros(2))
    right, left = sorted(clusters(state, 2), key=lambda x: -x[0])
    np.testing.assert_allclose(right, np.mean(targets["a"] + targets["b"], axis=0), rtol=1e-3)
    np.testing.assert_allclose(left, np.mean(targets["c"] + targets["d"] + targets["e"], axis=0), rtol=1e-3)
    assert sorted(metrics["server"]["cluster_sizes"]) == pytest.approx([20, 25])


def test_a_cluster_that_nobody_chose_keeps_its_weights_and_the_state_of_its_optimizer():
    """With momentum a gradient of 0 would move it. Cluster 1 is the best for cy alone, who is there in rounds 0 and 3."""
    far = np.array([9.0, 6.0], np.float32)
    process = fl.LearningProcess(hypcluster(quadratics.model(), SGD, MOMENTUM, num_clusters=2, others=[far]))
    cohorts = [clients(), clients(["ada", "bob"]), {"empty": []}, clients(["cy", "bob"])]
    state, metrics = rounds(process, cohorts)
    alone = quadratics.process_of(fedavg, SGD, MOMENTUM)
    trained = [([["ada", "bob"], ["ada", "bob"], ["bob"]], START), ([["cy"], ["cy"]], far)]
    want = [rounds(alone, [clients(names) for names in present], start)[0] for present, start in trained]
    for got, expected in zip(clusters(state, 2), want, strict=True):
        np.testing.assert_allclose(got, alone.get_weights(expected).trainable, rtol=1e-5)
    assert metrics["server"]["cluster_sizes"] == pytest.approx([N[1], N[2]])


def test_the_choice_is_by_all_of_a_clients_data():
    """The last batch alone would choose cluster 0, at START; all together have their mean near cluster 1."""
    centres = np.array([[10.0, 7.0], [9.0, 7.5], START])
    batches = [padded(centre[None], np.ones(1)) for centre in centres]
    process = fl.LearningProcess(hypcluster(quadratics.model(), SGD, num_clusters=2, others=[np.float32([8.0, 8.0])]))
    state, metrics = rounds(process, [{"one": batches}])
    assert metrics["server"]["cluster_sizes"] == pytest.approx([0, 3])
    x = np.array([8.0, 8.0])
    for centre in centres:
        x = x - RATE * (x - centre)
    np.testing.assert_allclose(clusters(state, 2), [START, x], rtol=1e-5)


def test_starts_are_moved_apart_by_the_spread_and_the_seed_alone():
    starts = {}
    for spread, seed in [(0.5, 0), (0.5, 1), (1.0, 0)]:
        process = fl.LearningProcess(hypcluster(quadratics.model(), SGD, num_clusters=3, spread=spread, seed=seed))
        starts[spread, seed] = clusters(process.initialize(START), 3)
    for first, *moved in starts.values():
        np.testing.assert_array_equal(first, np.float32(START))
        assert len({tuple(x) for x in [first, *moved]}) == 3
    np.testing.assert_allclose(starts[1.0, 0][1] - START, 2 * (starts[0.5, 0][1] - START), rtol=1e-5)
    assert not np.allclose(starts[0.5, 0][1], starts[0.5, 1][1])


def test_the_weights_of_the_process_are_those_of_cluster_0():
    process = quadratics.process_of(hypcluster, SGD, num_clusters=2)
    state, _ = rounds(process, [clients()])
    other = clusters(state, 2)[1]
    state = process.set_weights(state, np.float32([7.0, 8.0]))
    np.testing.assert_array_equal(clusters(state, 2), [np.float32([7.0, 8.0]), other])
    np.testing.assert_array_equal(process.get_weights(state).trainable, np.float32([7.0, 8.0]))
    loss = (N * A * ((np.array([7.0, 8.0]) - C) ** 2).sum(-1) / 2).sum() / N.sum()
    assert process.evaluate(state, clients())["loss"] == pytest.approx(loss, rel=1e-5)
    with pytest.raises(ValueError, match=r"k must be a cluster in \[0, 2\), got 2"):
        cluster_weights(state.server, 2)


def test_one_server_rate_is_set_for_all_clusters():
    process = quadratics.process_of(hypcluster, SGD, MOMENTUM, num_clusters=2)
    state = process.set_hparams(process.initialize(START), {"server_optimizer.learning_rate": 0.0})
    assert process.get_hparams(state)["server_optimizer.learning_rate"] == 0
    after, _ = process.next(state, clients())
    np.testing.assert_array_equal(clusters(after, 2), clusters(state, 2))


def test_a_keras_model_with_statistics_and_dropout():
    """Groups have the same inputs and opposite labels; each cluster ends with a loss that no single model can have (0.5 log 2 = 0.35)."""
    layers = [
        keras.layers.Dense(4, activation="relu"),
        keras.layers.BatchNormalization(momentum=0.5),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(1),
    ]
    model = fl.models.from_keras(keras.Sequential([keras.Input((2,)), *layers]), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 16, 2)).astype(np.float32)
    label = (x[..., :1] > 0).astype(np.float32)
    cohort = {"same": [(x[0], label[0])] * 4, "opposite": [(x[1], 1 - label[1])] * 4}
    process = fl.LearningProcess(hypcluster(model, fl.optimizers.adam(0.05), num_clusters=2, spread=0.3))
    state = process.initialize()
    for _ in range(8):
        state, metrics = process.next(state, cohort)
    assert metrics["server"]["cluster_sizes"] == pytest.approx([64, 64]) and metrics["loss"] < 0.3
    statistics = [cluster_weights(state.server, k).non_trainable for k in range(2)]
    assert not np.allclose(statistics[0][0], statistics[1][0])
    assert jax.tree.map(np.shape, statistics[0]) == jax.tree.map(np.shape, process.get_weights(state).non_trainable)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_clusters": 0}, "num_clusters must be a whole number"),
        ({"spread": -0.1}, "spread must be a finite number >= 0, got -0.1"),
        ({"others": []}, "others must have the weights of 1 clusters.*got 0"),
        ({"client_weight": "size"}, "client_weight must be one of"),
    ],
)
def test_bad_arguments_are_errors_that_name_them(bad, message):
    with pytest.raises(ValueError, match=message):
        hypcluster(quadratics.model(), SGD, **{"num_clusters": 2} | bad)
