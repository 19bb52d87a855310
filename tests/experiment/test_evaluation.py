"""Evaluation of several models at once, and over many calls; the latter against TFF 0.87's `build_fed_eval`."""

import numpy as np
import pytest
from contracts.lines import Compilations, assert_close, line_clients, line_model, padded
from golden_cases import Golden, keras, names

import fedloom as fl
from fedloom.core import ClientFailure

MODEL = line_model()
STARTS = {
    "before": {"w": np.array([0.5, 0.25, -1.0], np.float32), "b": np.float32(0.125)},
    "after": {"w": np.array([1.0, -2.0, 0.0], np.float32), "b": np.float32(-0.5)},
}


def make_process(**settings):
    return fl.LearningProcess(fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(0.1)), batching=padded, **settings)


@pytest.mark.parametrize("executor", ["local", "debug"])
def test_several_models_give_what_each_gives_by_itself(executor):
    process, clients = make_process(executor=executor), line_clients([3, 0, 9, 1])
    got = fl.evaluate_models(process, STARTS, clients)
    assert list(got) == ["before", "after"], "the order they were given in"
    for name, start in STARTS.items():
        assert got[name] == process.evaluate(process.initialize(start), clients)
    assert got["before"]["loss"] != got["after"]["loss"]


def test_clients_are_read_once_for_all_models():
    clients, reads = line_clients([3, 2]), []

    def read(client):
        reads.append(client)
        return clients[client]

    dataset = fl.data.FederatedDataset({client: len(columns["y"]) for client, columns in clients.items()}, read)
    fl.evaluate_models(MODEL, STARTS, dataset)
    assert sorted(reads) == sorted(clients)


def test_states_and_weights_of_a_process_may_be_mixed_and_compile_once():
    process = make_process()
    first = process.initialize(STARTS["before"])
    second, _ = process.next(first, line_clients([5]))
    clients = line_clients([4, 6], seed=1)
    got = fl.evaluate_models(process, {"first": first, "second": second, "third": STARTS["after"]}, clients)
    assert got["second"] == process.evaluate(second, clients)
    with Compilations() as later:
        again = fl.evaluate_models(process, {"third": second, "first": first, "second": second}, clients)
    assert later.count == 0
    assert again["third"] == again["second"] == got["second"] and list(again) == ["third", "first", "second"]


def test_evaluation_of_nothing_and_of_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at least one set of weights, got none"):
        fl.evaluate_models(MODEL, {}, {})
    with pytest.raises(ValueError, match="must have the tree and shapes"):
        fl.evaluate_models(MODEL, {"wrong": {"w": np.zeros(4), "b": 0.0}}, {})
    with pytest.raises(ValueError, match="executor must be one of"):
        fl.FederatedEvaluation(MODEL, executor="gpu")
    with pytest.raises(ClientFailure, match="'1' failed"):
        fl.evaluate_models(MODEL, STARTS, [[], [(np.zeros((2, 3)), np.zeros(3))]])


@pytest.mark.parametrize("name", names(kind="federated_evaluation"))
def test_totals_over_calls_are_those_of_tff(name, record_property):
    golden = Golden(name)
    stateful = any(layer["config"].get("stateful") for layer in golden.entry["model"]["layers"])
    rnn_state = "carry" if stateful else "reset"
    model = fl.models.from_keras(golden.keras_model(), golden.loss(), golden.metrics(), rnn_state=rnn_state)
    evaluation = fl.FederatedEvaluation(model)
    state, largest, compared = evaluation.initialize(golden.weights(0)), 0.0, 0
    for r, cohort in enumerate(golden.entry["cohorts"]):
        state, metrics = evaluation.next(state, {str(c): golden.batches(c) for c in cohort})
        for path, values in golden.arrays.items():
            if path.startswith("metrics/client_work/eval/"):
                group, metric = path.split("/")[-2:]
                largest = max(largest, golden.check("metrics", metrics[group][metric], values[r], f"{group}/{metric} in round {r}"))
                compared += 1
    assert compared >= 8 * len(golden.entry["cohorts"]) - 2
    record_property("largest_difference", largest)


def test_the_total_goes_on_with_other_weights_and_the_old_state_stays_valid():
    """The mean over all examples of all calls, each with the weights of its call."""
    evaluation = fl.FederatedEvaluation(MODEL)
    one, other = line_clients([4]), line_clients([3, 5], seed=1)
    state = evaluation.initialize(STARTS["before"])
    first, metrics = evaluation.next(state, one)
    assert metrics["total_rounds_metrics"] == metrics["current_round_metrics"] == fl.evaluate_models(MODEL, STARTS, one)["before"]
    _, metrics = evaluation.next(evaluation.set_weights(first, STARTS["after"]), other)
    parts = fl.evaluate_models(MODEL, STARTS, one)["before"], fl.evaluate_models(MODEL, STARTS, other)["after"]
    assert_close(metrics["current_round_metrics"], parts[1], rtol=1e-6)
    weights = [part["num_tokens"] for part in parts]
    total = metrics["total_rounds_metrics"]
    assert total["loss"] == pytest.approx(np.average([part["loss"] for part in parts], weights=weights), rel=1e-6)
    assert total["num_examples"] == 12
    _, again = evaluation.next(state, one)
    assert again["total_rounds_metrics"]["num_examples"] == 4


def test_many_calls_lose_no_example():
    """2^24 + 1 is not a number of float32."""
    evaluation = fl.FederatedEvaluation(MODEL)
    state = evaluation.initialize(STARTS["before"])
    state.sums["num_examples"] += 2.0**24
    _, metrics = evaluation.next(state, line_clients([1]))
    assert metrics["total_rounds_metrics"]["num_examples"] == 2**24 + 1


def test_a_model_of_keras_with_metrics_that_are_no_means():
    """AUC over all calls is that of all examples together, not a mean of AUCs."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid")])
    model = fl.models.from_keras(network, "binary_crossentropy", [keras.metrics.AUC(name="auc")])
    rng = np.random.default_rng(0)
    calls = [{"x": rng.normal(size=(n, 3)).astype(np.float32), "y": rng.integers(2, size=(n, 1))} for n in (9, 20)]
    evaluation = fl.FederatedEvaluation(model)
    state = evaluation.initialize(network)
    for columns in calls:
        state, metrics = evaluation.next(state, [columns])
    auc = keras.metrics.AUC()
    for columns in calls:
        auc.update_state(columns["y"], network(columns["x"]))
    assert metrics["total_rounds_metrics"]["auc"] == pytest.approx(float(auc.result()), rel=1e-6)
    assert metrics["total_rounds_metrics"]["auc"] != pytest.approx(metrics["current_round_metrics"]["auc"], rel=1e-3)
