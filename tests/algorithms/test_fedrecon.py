"""Federated reconstruction against the numbers of TFF, against algebra on a product of two weights, and in its limits."""

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import quadratics
from golden_cases import Golden, names
from quadratics import mixed_clients, run

import fedloom as fl
from fedloom.algorithms import fedavg, fedrecon
from fedloom.core import Ratio

WEIGHTS = {"num_examples": "num_examples", "sqrt(num_batches)": lambda sums: jnp.sqrt(sums["num_batches"])}


def factorization(spec):
    """The model of the golden cases: prediction = sum_k item_embedding[x, k] user_embedding[0, k] + item_bias[x, 0]."""
    items, dimensions = spec["num_items"], spec["dimensions"]

    def init(key):
        return {
            "item_embedding": jnp.zeros((items, dimensions)),
            "item_bias": jnp.zeros((items, 1)),
            "user_embedding": jnp.array(spec["local_initial_value"]),
        }

    def predict(params, x):
        return params["item_embedding"][x[:, 0]] @ params["user_embedding"][0] + params["item_bias"][x[:, 0], 0]

    def squared_error(y, prediction):
        return (y[:, 0] - prediction) ** 2

    return fl.models.from_functions(init, predict, squared_error, {"mse": squared_error})


def loss_by_batches(model):
    """The model with the loss reported as TFF does it here: a plain mean over batches."""

    def loss(*args):
        value, (sums, non_trainable, carry) = model.loss(*args)
        return value, ({**sums, "loss": Ratio(value, jnp.float32(1))}, non_trainable, carry)

    return model._replace(loss=loss)


@pytest.mark.parametrize("name", names(kind="reconstruction"))
def test_it_computes_the_numbers_of_tff(name, record_property):
    golden = Golden(name)
    settings, spec = golden.entry["algorithm"], golden.entry["model"]
    algorithm = fedrecon(
        loss_by_batches(factorization(spec)),
        spec["local_weights"],
        server_optimizer=golden.optimizer("server"),
        client_optimizer=golden.optimizer("client"),
        reconstruction_optimizer=golden.optimizer("reconstruction"),
        client_weight=WEIGHTS[settings["client_weighting"]],
        **settings["dataset_split"],
    )
    process = fl.LearningProcess(algorithm)
    start = {w["name"]: golden.arrays[f"weights/trainable/{i}"][0] for i, w in enumerate(golden.entry["weights"]["trainable"])}
    state = process.initialize({**start, "user_embedding": np.float32(spec["local_initial_value"])})
    largest = 0.0
    for r, cohort in enumerate(golden.entry["cohorts"]):
        state, metrics = process.next(state, {str(c): golden.batches(c) for c in cohort})
        weights = process.get_weights(state).trainable
        for i, weight in enumerate(golden.entry["weights"]["trainable"]):
            largest = max(largest, golden.check("weights", weights[weight["name"]], golden.arrays[f"weights/trainable/{i}"][r + 1], f"{r}"))
        for metric in ("loss", "mse", "num_examples", "num_batches"):
            largest = max(
                largest, golden.check("metrics", metrics[metric], golden.arrays[f"metrics/client_work/train/{metric}"][r], metric)
            )
        np.testing.assert_array_equal(weights["user_embedding"], np.float32(spec["local_initial_value"]))
    record_property("largest_difference", largest)


def product_model():
    """g l, with loss (y - g l)^2 / 2, so that a step on either is known."""
    return fl.models.from_functions(
        lambda key: {"g": jnp.float32(2), "l": jnp.float32(0.5)},
        lambda w, x: w["g"] * w["l"] + 0 * x,
        lambda y, prediction: (y - prediction) ** 2 / 2,
    )


def by_hand(targets, first, second, g=2.0, l=0.5):  # noqa: E741
    """g after steps of 0.1 on l with the batches `first`, then of 0.1 on g with the batches `second`; losses of the second part."""
    losses = []
    for i in first:
        l += 0.1 * g * (targets[i] - g * l)  # noqa: E741
    for i in second:
        losses.append((targets[i] - g * l) ** 2 / 2)
        g += 0.1 * l * (targets[i] - g * l)
    return g, np.mean(losses)


TARGETS = [3.0, -1.0, 0.5, 2.0, 1.5]


@pytest.mark.parametrize(
    ("settings", "first", "second"),
    [
        ({}, [0, 2, 4], [1, 3]),
        ({"split_dataset": False}, range(5), range(5)),
        ({"recon_epochs": 2, "post_recon_epochs": 3, "post_recon_steps_max": 5}, [0, 2, 4] * 2, [1, 3, 1, 3, 1]),
        ({"split_dataset": False, "recon_epochs": 2, "recon_steps_max": 7, "post_recon_steps_max": 2}, [0, 1, 2, 3, 4, 0, 1], [0, 1]),
    ],
)
def test_which_batches_train_what(settings, first, second):
    process = fl.LearningProcess(fedrecon(product_model(), "l", **settings))
    batches = [(np.zeros(1, np.float32), np.float32([target])) for target in TARGETS]
    state, metrics = process.next(process.initialize(), {"ada": iter(batches)})
    want, loss = by_hand(TARGETS, first, second)
    np.testing.assert_allclose(process.get_weights(state).trainable["g"], want, rtol=1e-5)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5) and metrics["num_batches"] == len(second)


def test_nothing_of_the_local_weights_is_sent():
    algorithm = fedrecon(factorization(Golden("fed_recon").entry["model"]), "user_embedding")
    process = fl.LearningProcess(algorithm)
    state = process.initialize()
    message = algorithm.broadcast(state.server, jnp.int32(0))
    value = jax.eval_shape(
        lambda: algorithm.client.finish(message, algorithm.client.begin(message, (), jax.random.key(0)))
    ).contribution.value
    assert sorted(leaf.shape for leaf in jax.tree.leaves(value)) == [(6, 1), (6, 2)]
    assert jax.tree.leaves(jax.eval_shape(lambda: algorithm.init_client(process.get_weights(state)))) == []


def test_without_local_weights_and_split_it_is_fedavg():
    sgd = fl.optimizers.sgd(0.1, momentum=0.5)
    cohorts = [mixed_clients(np.random.default_rng(seed)) for seed in range(2)]
    want, want_metrics = run(quadratics.process_of(fedavg, sgd), cohorts)
    got, metrics = run(quadratics.process_of(fedrecon, (), client_optimizer=sgd, split_dataset=False), cohorts)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert metrics["loss"] == pytest.approx(want_metrics["loss"], rel=1e-6)


@functools.cache
def keras_process():
    """Weight decay in every optimizer, which must not reach what an optimizer has no part in."""
    layers = [keras.layers.Dense(3, name="body"), keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(1, name="head")]
    model = fl.models.from_keras(keras.Sequential([keras.Input((2,)), *layers]), loss="mse")
    decaying = fl.optimizers.adamw(0.1, weight_decay=0.5)
    optimizers = {f"{part}_optimizer": decaying for part in ("server", "client", "reconstruction")}
    return fl.LearningProcess(fedrecon(model, ["head", "norm/gamma"], split_dataset=False, recon_steps_max=1, **optimizers))


def test_layers_of_a_keras_model_can_be_local():
    process = keras_process()
    rng = np.random.default_rng(0)
    before = process.initialize()
    batch = rng.normal(size=(4, 2)).astype(np.float32), rng.normal(size=(4, 1)).astype(np.float32)
    after, metrics = process.next(before, {"ada": [batch] * 3})
    weights = [process.get_weights(state) for state in (before, after)]
    kept = {
        name.split("/", 1)[-1]: np.array_equal(w0, w)
        for name, w0, w in zip(process.model.names, weights[0].trainable, weights[1].trainable, strict=True)
    }
    assert [name for name in kept if kept[name]] == ["norm/gamma", "head/kernel", "head/bias"]
    assert metrics["num_batches"] == 3
    assert not np.array_equal(weights[0].non_trainable[0], weights[1].non_trainable[0]), "statistics are learned in the second part"


def test_the_names_of_weights():
    tree = fl.models.from_functions(lambda key: {"layers": [{"kernel": jnp.zeros(2)}], "b": jnp.zeros(())}, lambda w, x: x, lambda y, p: p)
    assert tree.names == ("b", "layers/0/kernel")
    assert quadratics.model().names == ("weights",)


@pytest.mark.parametrize(
    ("local", "settings", "message"),
    [
        ("user", {}, r"local must name trainable weights of the model, got \['user'\]; there are: g, l"),
        (["l", "g"], {}, "local must leave some weights to the server"),
        ("l", {"recon_epochs": 0}, "recon_epochs must be a whole number of at least 1, got 0"),
        ("l", {"post_recon_steps_max": 0}, "post_recon_steps_max must be"),
        ("l", {"client_weight": "size"}, "client_weight must be one of"),
    ],
)
def test_bad_arguments_are_errors_that_name_them(local, settings, message):
    with pytest.raises(ValueError, match=message):
        fedrecon(product_model(), local, **settings)
