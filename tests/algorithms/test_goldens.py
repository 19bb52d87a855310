"""FedProx, FedSGD, MimeLite and FedAvg with a rate by round against the numbers of TFF 0.87 itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiment.test_goldens import check_metrics, make_process
from golden_cases import Golden

import fedloom as fl


def fedprox(golden, model):
    mu = golden.entry["algorithm"]["proximal_strength"]
    return fl.algorithms.fedprox(model, golden.optimizer("client"), golden.optimizer("server"), proximal_strength=mu)


def scheduled_fedavg(golden, model):
    rates = jnp.asarray(golden.entry["algorithm"]["client_learning_rate_schedule"], jnp.float32)
    return fl.algorithms.fedavg(model, fl.optimizers.sgd(), golden.optimizer("server"), client_schedule=lambda r: rates[r])


ALGORITHMS = {
    "fed_avg": scheduled_fedavg,
    "fed_prox": fedprox,
    "fed_sgd": lambda golden, model: fl.algorithms.fedsgd(model, golden.optimizer("server")),
    "mime_lite": lambda golden, model: fl.algorithms.mimelite(model, golden.optimizer("base"), golden.optimizer("server")),
}


def start(name, executor="local"):
    """The case, a process of its algorithm, and the state before the first round."""
    golden = Golden(name)
    model = make_process(golden, executor).model
    process = fl.LearningProcess(ALGORITHMS[golden.entry["algorithm"]["name"]](golden, model), executor=executor)
    state = process.initialize(golden.weights(0))
    if "fedprox" in name:  # TFF's proximal term has the wrong sign
        state = process.set_hparams(state, {"proximal_strength": -process.get_hparams(state)["proximal_strength"]})
    return golden, process, state


def round_of(golden, process, state, r):
    """State and metrics after a round, and how many examples its finite clients have."""
    batches = {c: golden.batches(c) for c in golden.entry["cohorts"][r]}
    finite = sum(len(y) for own in batches.values() for _, y in own if all(np.isfinite(x).all() for x, _ in own))
    return *process.next(state, {str(c): own for c, own in batches.items()}), finite


def check_weights(golden, process, state, r):
    got = enumerate(process.get_weights(state).trainable)
    return max(golden.check("weights", w, golden.arrays[f"weights/trainable/{i}"][r + 1], f"round {r} weight {i}") for i, w in got)


def check_base_state(golden, state, r):
    """Of MimeLite: TFF's accumulators and preconditioners, the first and second moments."""
    got = [leaf for leaf in jax.tree.leaves(state.server.base_optimizer) if leaf.ndim]
    want = [a[r + 1] for name in ("accumulator", "preconditioner") for path, a in golden.arrays.items() if f"client_work/0/{name}/" in path]
    return max(golden.check("weights", *pair, f"round {r} base state") for pair in zip(got, want, strict=True))


CASES = ["fedprox_weighted_reference_sign", "fedsgd", "mimelite_sgdm", "mimelite_adam", "text_gru_mimelite", "fedavg_client_schedule"]


@pytest.mark.parametrize(("name", "executor"), [(name, "local") for name in CASES] + [("mimelite_sgdm", "debug")])
def test_training_computes_the_numbers_of_tff(name, executor, record_property):
    golden, process, state = start(name, executor)
    largest = 0.0
    for r in range(len(golden.entry["cohorts"])):
        state, metrics, _ = round_of(golden, process, state, r)
        largest = max(largest, check_weights(golden, process, state, r), check_metrics(golden, metrics, "client_work/train", r))
        if golden.entry["algorithm"]["name"] == "mime_lite":
            largest = max(largest, check_base_state(golden, state, r))
        rate = golden.arrays.get("metrics/client_work/client_learning_rate")
        assert metrics.get("server", {}).get("client_learning_rate") == (None if rate is None else rate[r])
        assert metrics["accepted"] == 1 - golden.arrays["metrics/finalizer/update_non_finite"][r]
    record_property("largest_difference", largest)


@pytest.mark.parametrize("name", ["fedprox_nan_client_reference_sign", "fedsgd_nan_client"])
def test_a_client_that_is_not_finite_counts_neither_in_the_weights_nor_in_the_metrics(name, record_property):
    """TFF's weights. Its metrics, unlike those of FedAvg, keep such a client, and so the loss is NaN; ours always leave it out."""
    golden, process, state = start(name)
    largest = 0.0
    for r in range(len(golden.entry["cohorts"])):
        state, metrics, finite = round_of(golden, process, state, r)
        largest = max(largest, check_weights(golden, process, state, r))
        assert metrics["num_nonfinite_clients"] == 1 and metrics["accepted"] == 1
        assert np.isnan(golden.arrays["metrics/client_work/train/loss"][r]) and np.isfinite(metrics["loss"])
        assert metrics["num_examples"] == finite < golden.arrays["metrics/client_work/train/num_examples"][r]
    record_property("largest_difference", largest)


def test_the_state_of_mimelite_survives_a_client_that_is_not_finite(record_property):
    """Round 1 is TFF's, the weights of round 2 too. Then TFF's base state is NaN for good, and so in round 3 its weights stay: ours do with
    that state put in by hand. Without, they move."""
    golden, process, state = start("mimelite_nan_client")
    state, metrics, _ = round_of(golden, process, state, 0)
    largest = max(check_weights(golden, process, state, 0), check_metrics(golden, metrics, "client_work/train", 0))
    state, metrics, finite = round_of(golden, process, state, 1)
    record_property("largest_difference", max(largest, check_weights(golden, process, state, 1)))
    assert metrics["num_nonfinite_clients"] == 1 and metrics["num_examples"] == finite

    assert np.isnan(golden.arrays["state/client_work/0/accumulator/0"][2]).all()
    momentum = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan) if leaf.ndim else leaf, state.server.base_optimizer)
    lost, metrics, _ = round_of(golden, process, state._replace(server=state.server._replace(base_optimizer=momentum)), 2)
    check_weights(golden, process, lost, 2)
    assert metrics["accepted"] == 0 and metrics["num_nonfinite_clients"] == 3
    jax.tree.map(np.testing.assert_array_equal, process.get_weights(lost), process.get_weights(state))

    after, metrics, finite = round_of(golden, process, state, 2)
    assert metrics["accepted"] == 1 and metrics["num_examples"] == finite
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), process.get_weights(after), process.get_weights(state))
    assert min(moved.trainable) > 1e-3
