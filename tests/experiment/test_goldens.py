"""FedAvg and evaluation against the numbers of TFF 0.87 itself."""

import numpy as np
import optax
import pytest
from golden_cases import ENTRIES, Golden, names

import fedloom as fl


def runs_here(name):
    """FedAvg with a plain mean. A rate that changes by round is possible on the server only."""
    algorithm = ENTRIES[name]["algorithm"]
    mean = algorithm.get("aggregator", {}).get("name") in ("mean", "unweighted_mean")
    return algorithm["name"] == "fed_avg" and mean and "client_learning_rate_schedule" not in algorithm


DEBUG_TOO = ["fedavg_weighted_sgd", "fedavg_nan_client", "fedavg_batchnorm"]  # the others take long without jit
TRAINING = [(name, "local") for name in names(kind="learning_process") if runs_here(name)] + [(name, "debug") for name in DEBUG_TOO]
EVALUATION = [(name, "local") for name in names(kind="federated_evaluation")] + [("fed_eval_classifier", "debug")]


def make_process(golden, executor):
    algorithm = golden.entry["algorithm"]
    stateful = any(layer["config"].get("stateful") for layer in golden.entry["model"]["layers"])
    model = fl.models.from_keras(
        golden.keras_model(),
        golden.loss(),
        golden.metrics(),
        non_trainable="keep",
        rnn_state="carry" if stateful else "reset",
        masked_loss=False,
    )
    by_examples = algorithm.get("client_weighting") == "num_examples"
    weight = "num_examples" if by_examples else lambda sums: 1.0  # TFF's uniform weights count empty clients too
    return fl.LearningProcess(
        fl.algorithms.fedavg(model, golden.optimizer("client"), golden.optimizer("server"), client_weight=weight)
        if "client_optimizer" in algorithm
        else fl.algorithms.fedavg(model, optax.sgd(0.0)),
        aggregator=fl.aggregators.unweighted_mean() if algorithm.get("client_weighting") == "none" else None,
        executor=executor,
    )


@pytest.mark.parametrize(("name", "executor"), TRAINING)
def test_training_computes_the_numbers_of_tff(name, executor, record_property):
    golden = Golden(name)
    process = make_process(golden, executor)
    state = process.initialize(golden.weights(0))
    largest = 0.0
    for r, cohort in enumerate(golden.entry["cohorts"]):
        if golden.entry["algorithm"].get("set_model_weights_before_round") == r + 1:  # counted from 1
            replacement = [golden.arrays[f"replacement/{kind}/{i}"] for kind, i in golden.entry["weights"]["keras_order"]]
            state = process.set_weights(state, replacement)
        state, metrics = process.next(state, {str(c): golden.batches(c) for c in cohort})
        for kind, arrays in process.get_weights(state)._asdict().items():
            for i, got in enumerate(arrays):
                largest = max(largest, golden.check("weights", got, golden.arrays[f"weights/{kind}/{i}"][r + 1], f"round {r} {kind} {i}"))
        largest = max(largest, check_metrics(golden, metrics, "client_work/train", r))
        rejected = golden.arrays.get("metrics/finalizer/update_non_finite")
        if rejected is not None:
            assert metrics["accepted"] == 1 - rejected[r]
    record_property("largest_difference", largest)


@pytest.mark.parametrize(("name", "executor"), EVALUATION)
def test_evaluation_computes_the_numbers_of_tff(name, executor):
    golden = Golden(name)
    process = make_process(golden, executor)
    state = process.initialize(golden.weights(0))
    for r, cohort in enumerate(golden.entry["cohorts"]):
        metrics = process.evaluate(state, {str(c): golden.batches(c) for c in cohort})
        check_metrics(golden, metrics, "client_work/eval/current_round_metrics", r)


def check_metrics(golden, metrics, folder, r):
    present = {path.rsplit("/", 1)[1]: values[r] for path, values in golden.arrays.items() if path.startswith(f"metrics/{folder}/")}
    assert present.keys() >= {"loss", "num_examples", "num_batches"}
    left_out = {"num_tokens", "accuracy"} if golden.name == "text_lstm_masked" else set()  # TFF's masked metrics, by target
    return max(golden.check("metrics", metrics[name], value, name) for name, value in present.items() if name not in left_out)


def test_a_pretrained_model_fine_tuned_evaluated_and_used_at_batch_size_one():
    """TFF's tutorial in small: from a Keras 2 file, federated rounds, Keras' own evaluation after each, logits of the batch-1 model."""
    golden = Golden("pretrained_text_gru")
    process = make_process(golden, "local")
    state = process.initialize(golden.keras_model())
    batches = [tuple(golden.arrays[f"evaluation_data/batch/{j}/{part}"] for part in "xy") for j in range(2)]
    for r in range(len(golden.entry["cohorts"]) + 1):
        ours = process.evaluate(state, [batches])
        model = golden.keras_model()
        process.assign_weights(state, model)
        for name in ("loss", "accuracy"):
            golden.check("keras_evaluation", ours[name], golden.arrays[f"keras_evaluation/{name}"][r], f"{name} after {r}")
        if r < len(golden.entry["cohorts"]):
            state, _ = process.next(state, [golden.batches(c) for c in golden.entry["cohorts"][r]])
    logits = fl.models.with_batch_size(model, 1).predict_on_batch(golden.arrays["batch1/ids"])
    np.testing.assert_allclose(logits, golden.arrays["batch1/logits"], atol=1e-5)
