"""A Keras model as pure functions computes what Keras computes, and leaves the model as it was."""

import functools
import random as python_random

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedloom as fl
from fedloom.core import Batch, ModelWeights
from fedloom.data import Batching
from fedloom.models import from_keras

import keras  # isort: skip  after fedloom, so that it runs on JAX

L = keras.layers
FEATURES, CLASSES = 4, 3
KEY = jax.random.key(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def sequential(*layers, shape=(FEATURES,), dtype="float32"):
    """A model with known weights, biases and statistics none of which is zero."""
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *layers])
    rng = np.random.default_rng(1)
    model.set_weights([np.abs(rng.normal(size=w.shape)) if "variance" in w.path else rng.normal(size=w.shape) for w in model.weights])
    return model


def classifier(**compiled):
    model = sequential(L.Dense(5, "tanh"), L.Dense(CLASSES))
    if compiled:
        model.compile(**compiled)
    return model


def data(rng, rows=6):
    return rng.normal(size=(rows, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, rows)


def batch_of(x, y, weight=None):
    weight = np.ones(len(y)) if weight is None else weight
    return Batch(x, y, np.float32(weight), np.ones(len(y), np.float32))


@functools.cache
def compiled(model):
    return jax.jit(jax.value_and_grad(model.loss, has_aux=True)), jax.jit(model.evaluate)


def loss_of(model, batch, weights, key=KEY):
    """Value of the loss, and its gradients."""
    (value, _), gradients = compiled(model)[0](*weights, model.init_carry(), batch, key)
    return float(value), gradients


def evaluate(model, batch, weights):
    return model.finish_metrics(jax.device_get(compiled(model)[1](weights, model.init_carry(), batch)[0]))


sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# What a compiled model brings


def one_hot(y):
    return np.eye(CLASSES, dtype=np.float32)[y]


LOSSES = {  # loss, output activation, targets
    "sparse object": (sparse, None, lambda y: y),
    "sparse name": ("sparse_categorical_crossentropy", "softmax", lambda y: y),
    "categorical name": ("categorical_crossentropy", "softmax", one_hot),
    "categorical object": (keras.losses.CategoricalCrossentropy(), "softmax", one_hot),
    "binary name": ("binary_crossentropy", "sigmoid", lambda y: np.float32(y[:, None] > 0)),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_compiled_model_brings_its_loss_metrics_and_optimizer(case, rng):
    """One round of one client with two batches is two of Keras' own training steps, and "accuracy" means what it means to Keras."""
    loss, activation, target = LOSSES[case]
    model = sequential(L.Dense(1 if activation == "sigmoid" else CLASSES, activation))
    model.compile(optimizer=keras.optimizers.SGD(0.25, momentum=0.9), loss=loss, metrics=["accuracy"])
    batches = [(x, target(y)) for x, y in (data(rng), data(rng))]
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(model)))
    state = process.initialize(model)
    x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
    want = model.evaluate(x, y, verbose=0, return_dict=True)
    got = process.evaluate(state, [batches])
    assert got["loss"] == pytest.approx(want["loss"], rel=1e-5) and got["accuracy"] == pytest.approx(want["accuracy"], rel=1e-5)
    state, _ = process.next(state, [batches])
    for batch in batches:
        model.train_on_batch(*batch)
    for got, want in zip(process.get_weights(state).trainable, model.get_weights(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_arguments_go_before_what_was_compiled(rng):
    model = from_keras(classifier(optimizer="sgd", loss="mse", metrics=["mae"]), loss=sparse, metrics=[])
    metrics = evaluate(model, batch_of(*data(rng)), model.init(KEY))
    assert metrics.keys() == {"loss", "num_examples", "num_batches", "num_tokens"}


def test_metrics_are_copies(rng):
    """The user's own metric objects keep what they have counted."""
    metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    metric.update_state([0, 1], np.eye(2))
    model = from_keras(classifier(), sparse, [metric])
    metrics = evaluate(model, batch_of(*data(rng)), model.init(KEY))
    assert 0 <= metrics["accuracy"] <= 1 and float(metric.result()) == 1.0


def test_metrics_add_up_over_clients_before_they_are_finished(rng):
    """AUC and precision of all data, not means of the clients' values."""
    model = sequential(L.Dense(1, "sigmoid"))
    metrics = [keras.metrics.AUC(name="auc", num_thresholds=20), keras.metrics.Precision(name="precision")]
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(model, "binary_crossentropy", metrics), optax.sgd(0.0)))
    x = rng.normal(size=(9, FEATURES)).astype(np.float32)
    y = rng.integers(0, 2, (9, 1)).astype(np.float32)
    _, got = process.next(process.initialize(model), [[(x[:1], y[:1])], [(x[1:5], y[1:5]), (x[5:], y[5:])]])
    for metric in metrics:
        metric.update_state(y, model(x))
        assert got[metric.name] == pytest.approx(float(metric.result()), rel=1e-5)


# Errors


def two_outputs():
    inputs = keras.Input((FEATURES,))
    return keras.Model(inputs, [L.Dense(1)(inputs), L.Dense(2)(inputs)])


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: "model.keras", TypeError, "keras_model must be a keras.Model, got str"),
        (lambda: L.Dense(1), TypeError, "keras_model must be a keras.Model, got Dense"),
        (lambda: keras.Sequential([L.Dense(1)]), ValueError, "must be built.*Give it an Input"),
        (two_outputs, ValueError, "must have one output, got 2"),
    ],
    ids=["no model", "layer", "not built", "two outputs"],
)
def test_what_is_no_model_for_fedloom(make, kind, message):
    with pytest.raises(kind, match=message):
        from_keras(make(), "mse")


@pytest.mark.parametrize("model", [classifier, lambda: classifier(optimizer="sgd")], ids=["not compiled", "compiled without"])
def test_a_loss_is_needed(model):
    with pytest.raises(ValueError, match="A loss is needed, got None.*Pass `loss`, or compile it"):
        from_keras(model())


def test_one_loss_only():
    with pytest.raises(ValueError, match="loss"):
        from_keras(classifier(), ["mse"])


@keras.saving.register_keras_serializable("tests")
class Smallest(keras.metrics.Metric):
    """A minimum, which does not add up."""

    def __init__(self, name="smallest", **kwargs):
        super().__init__(name=name, **kwargs)
        self.value = self.add_weight(name="value", initializer="ones")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(keras.ops.minimum(self.value, keras.ops.min(y_pred)))


@pytest.mark.parametrize(
    ("metrics", "kind", "message"),
    [
        ([keras.metrics.Mean(name="loss")], ValueError, "name of its own, and none of .*'loss'"),
        ([keras.metrics.Mean(name="num_examples")], ValueError, "name of its own"),
        (["accuracy", keras.metrics.SparseCategoricalAccuracy(name="accuracy")], ValueError, "name of its own"),
        ([Smallest()], ValueError, "'smallest' does not start from zero.*no sums"),
        ([keras.metrics.F1Score(name="f1")], ValueError, "'f1' has no variables before its first update"),
        ([keras.losses.MeanSquaredError()], TypeError, "metrics must be Keras metrics or their names"),
    ],
    ids=["loss", "count", "twice", "not additive", "built late", "a loss"],
)
def test_metrics_that_cannot_be(metrics, kind, message):
    with pytest.raises(kind, match=message):
        from_keras(classifier(), sparse, metrics)


def test_accuracy_is_ambiguous_for_other_losses():
    with pytest.raises(ValueError, match='"accuracy" needs one of the losses .*got MeanSquaredError'):
        from_keras(classifier(), keras.losses.MeanSquaredError(), ["accuracy"])


def test_unknown_policy_for_statistics():
    with pytest.raises(ValueError, match='non_trainable must be "mean" or "keep", got \'local\''):
        from_keras(classifier(), sparse, non_trainable="local")


@pytest.mark.parametrize(("optimizer", "kind"), [(None, ValueError), (0.1, TypeError)])
def test_an_optimizer_is_needed(optimizer, kind):
    with pytest.raises(kind, match="[Oo]ptimizer"):
        fl.algorithms.fedavg(from_keras(classifier(), sparse), optimizer)


@pytest.mark.parametrize("loss", [sparse, "sparse_categorical_crossentropy"], ids=["object", "name"])
def test_labels_are_checked_on_the_host(loss):
    check = from_keras(classifier(), loss).check_batch
    x = np.zeros((2, FEATURES), np.float32)
    check(batch_of(x, np.array([0, CLASSES - 1])))
    for label in (-1, CLASSES):
        with pytest.raises(ValueError, match=rf"Labels \(y\) must lie in \[0, {CLASSES}\)"):
            check(batch_of(x, np.array([1, label])))


# The user's model


def everything(model):
    """All variables of a model, and those of its optimizer and metrics."""
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [np.array(v.value) for v in variables]


def test_the_users_model_stays_as_it_was(rng):
    """Weights, statistics, seeds, metrics and optimizer; also of a model that Keras has trained before."""
    model = sequential(L.Dense(5), L.BatchNormalization(), L.Dropout(0.5), L.Dense(CLASSES))
    model.compile(optimizer="adam", loss=sparse, metrics=["accuracy"])
    x, y = data(rng)
    model.train_on_batch(x, y)
    before, compiled_with = everything(model), model.optimizer
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(model)), seed=3)
    state, _ = process.next(process.initialize(model), [[(x, y)]])
    process.evaluate(state, [[(x, y)]])
    process.initialize()
    assert not np.allclose(process.get_weights(state).trainable[0], before[0]), "it has learned"
    after = everything(model)
    assert len(before) == len(after) and model.optimizer is compiled_with
    for b, a in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_the_users_model_further_changes_no_state(rng):
    model = classifier(optimizer=keras.optimizers.SGD(1.0), loss=sparse)
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(model)))
    state, start = process.initialize(model), model.get_weights()
    model.train_on_batch(*data(rng))
    for got, want in zip(process.get_weights(state).trainable, start, strict=True):
        np.testing.assert_array_equal(got, want)


# Randomness


def test_dropout_comes_from_the_key(rng):
    model = from_keras(sequential(L.Dropout(0.5), L.Dense(8), L.Dropout(0.5), L.Dense(CLASSES)), sparse)
    weights, batch = model.init(KEY), batch_of(*data(rng))
    losses = [loss_of(model, batch, weights, jax.random.key(k))[0] for k in (1, 1, 2, 3)]
    assert losses[0] == losses[1] and len(set(losses)) == 3
    assert evaluate(model, batch, weights) == evaluate(model, batch, weights), "there is none in evaluation"


def test_dropout_layers_draw_independently():
    """Of 64 ones each of two layers in parallel keeps half at random: the same ones only with probability 2^-64."""
    inputs = keras.Input((64,))
    outputs = L.Subtract()([L.Dropout(0.5)(inputs), L.Dropout(0.5)(inputs)])
    model = from_keras(keras.Model(inputs, L.Dense(1)(outputs)), "mse")
    ones = batch_of(np.ones((1, 64), np.float32), np.zeros((1, 1), np.float32))
    weights = ModelWeights([jnp.arange(1.0, 65.0)[:, None], jnp.zeros(1)], [])
    assert loss_of(model, ones, weights)[0] > 0


def test_fresh_weights_depend_on_the_seed_alone():
    """Neither Keras' nor Python's generators decide or notice."""
    model = keras.Sequential([keras.Input((FEATURES,)), L.Dense(5), L.Dropout(0.5), L.Dense(CLASSES)])
    algorithm = fl.algorithms.fedavg(from_keras(model, sparse), optax.sgd(0.1))

    def fresh(seed):
        process = fl.LearningProcess(algorithm, seed=seed)
        return process.get_weights(process.initialize()).trainable

    python_random.seed(11)
    state = python_random.getstate()
    first = fresh(0)
    assert python_random.getstate() == state
    python_random.random()
    keras.utils.set_random_seed(2)
    for again, other, was in zip(fresh(0), fresh(1), first, strict=True):
        np.testing.assert_array_equal(again, was)
        assert was.ndim == 1 or not np.allclose(other, was), "biases are zeros"
    limit = np.sqrt(6 / (FEATURES + 5))  # Glorot's
    assert 0.5 * limit < np.abs(first[0]).max() <= limit, "as the layer's initializer draws them"


# Statistics


def batch_norm_model():
    return sequential(L.BatchNormalization(momentum=0.9), L.Dense(CLASSES))


@pytest.mark.parametrize("policy", ["mean", "keep"])
def test_batch_norm(policy, rng):
    """Every client moves the statistics by its batches: m <- 0.9 m + 0.1 (mean of the batch); "mean" averages them by examples."""
    model = batch_norm_model()
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(model, sparse, non_trainable=policy), optax.sgd(0.1), optax.sgd(0.5)))
    clients = [[data(rng, 6), data(rng, 6)], [data(rng, 4)], []]
    state = process.initialize(model)
    start = [np.asarray(v, np.float64) for v in process.get_weights(state).non_trainable]
    moved = []
    for batches in clients[:2]:
        mean, variance = start
        for x, _ in batches:
            mean, variance = 0.9 * mean + 0.1 * x.mean(0), 0.9 * variance + 0.1 * x.var(0)
        moved.append([mean, variance])
    want = [np.average(kind, axis=0, weights=[12, 4]) for kind in zip(*moved, strict=True)] if policy == "mean" else start
    state, _ = process.next(state, clients)
    got = process.get_weights(state).non_trainable
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5)
    # Evaluation normalizes with the statistics of the state, as Keras does.
    x, y = data(rng)
    process.assign_weights(state, model)
    model.compile(loss=sparse)
    assert process.evaluate(state, [[(x, y)]])["loss"] == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


def test_a_frozen_layer_stays_and_is_not_averaged(rng):
    """Frozen weights are equal everywhere, but a mean of float32 numbers could move them: they are not sent."""
    model = batch_norm_model()
    model.layers[0].trainable = False
    ours = from_keras(model, sparse)
    assert ours.learned == (False,) * 4
    process = fl.LearningProcess(fl.algorithms.fedavg(ours, optax.sgd(0.1)))
    state, _ = process.next(process.initialize(model), [[data(rng, 3)], [data(rng, 5)], [data(rng, 7)]])
    got = process.get_weights(state)
    for g, w in zip(got.non_trainable, model.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(g, w)
    assert not np.allclose(got.trainable[0], model.trainable_weights[0])


# Optimizers

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.5),
    "adam": lambda: keras.optimizers.Adam(0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1, momentum=0.5),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "schedule": lambda: keras.optimizers.AdamW(keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.3, 0.2, 0.1])),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_keras_optimizers_take_the_steps_they_take_in_keras(name, rng):
    model = sequential(L.Dense(CLASSES))
    mine, theirs = OPTIMIZERS[name](), OPTIMIZERS[name]()
    transformation = from_keras(model, sparse).as_optax(mine)
    params = [jnp.asarray(w) for w in model.get_weights()]
    state, update = transformation.init(params), jax.jit(transformation.update)
    variables = [keras.Variable(w) for w in params]
    for step in range(4):
        gradients = [rng.normal(size=w.shape).astype(np.float32) for w in params]
        theirs.apply(gradients, variables)
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for got, want in zip(params, variables, strict=True):
            np.testing.assert_allclose(got, want.value, rtol=1e-5, atol=1e-6, err_msg=f"step {step}")
    assert not mine.built, "the user's own optimizer is not touched"


def test_optimizers_by_name_and_by_default(rng):
    compiled = from_keras(classifier(optimizer=keras.optimizers.SGD(0.5), loss=sparse))
    assert compiled.as_optax(optimizer := optax.sgd(1.0)) is optimizer
    params = compiled.init(KEY).trainable
    for given, rate in ((None, 0.5), ("sgd", 0.01)):  # Keras' default rate
        transformation = compiled.as_optax(given)
        updates, _ = transformation.update(params, transformation.init(params), params)
        np.testing.assert_allclose(updates[0], -rate * params[0], rtol=1e-4, atol=1e-7)


# Losses


def test_with_weights_of_one_the_loss_and_its_gradients_are_those_of_keras(rng):
    """Regularization of weights and activations included, which metrics leave out."""
    model = sequential(L.Dense(5, "tanh", kernel_regularizer="l2", activity_regularizer="l1"), L.Dense(CLASSES, bias_regularizer="l2"))
    ours, (x, y) = from_keras(model, sparse), data(rng)
    weights = ours.weights_from(model)

    def keras_loss(trainable):
        output, _, penalties = model.stateless_call(trainable, [], x, training=True, return_losses=True)
        return sparse(y, output) + sum(penalties)

    want, want_gradients = jax.value_and_grad(keras_loss)(weights.trainable)
    got, gradients = loss_of(ours, batch_of(x, y), weights)
    assert got == pytest.approx(float(want), rel=1e-6)
    for g, w in zip(gradients, want_gradients, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6)
    assert evaluate(ours, batch_of(x, y), weights)["loss"] == pytest.approx(float(sparse(y, model(x))), rel=1e-6)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def cross_entropy(logits, y):
    return -np.take_along_axis(log_softmax(np.asarray(logits, np.float64)), y[..., None], -1)[..., 0]


def test_weights_per_example(rng):
    """loss = sum(w l) / sum(w): rows of padding and of weight 0 count neither above nor below the line; so do the metrics."""
    model = classifier()
    ours = from_keras(model, sparse, ["accuracy"])
    x, y = data(rng)
    weight, real = np.float32([0.5, 2, 0, 1, 3, 9]), np.float32([1, 1, 1, 1, 1, 0])
    w = weight * real
    logits = np.asarray(model(x))
    batch = Batch(x, y, weight, real)
    want = (w * cross_entropy(logits, y)).sum() / w.sum()
    assert loss_of(ours, batch, ours.weights_from(model))[0] == pytest.approx(want, rel=1e-5)
    metrics = evaluate(ours, batch, ours.weights_from(model))
    assert metrics["loss"] == pytest.approx(want, rel=1e-5)
    assert metrics["accuracy"] == pytest.approx((w * (logits.argmax(-1) == y)).sum() / w.sum(), rel=1e-5)
    assert (metrics["num_examples"], metrics["num_tokens"], metrics["num_batches"]) == (5, w.sum(), 1)


def sequence_model(mask=False):
    return sequential(L.Embedding(6, 3, mask_zero=mask), L.LSTM(4, return_sequences=True), L.Dense(6), shape=(5,), dtype="int32")


@pytest.mark.parametrize("per", ["token", "example"])
def test_weights_of_sequences(per, rng):
    """One weight per token, or one per example for all its tokens; loss = sum(w l) / sum(w) over tokens either way."""
    model = sequence_model()
    ours = from_keras(model, sparse, ["accuracy"])
    x, y = rng.integers(0, 6, (4, 5)), rng.integers(0, 6, (4, 5))
    weight = rng.uniform(0, 2, (4, 5) if per == "token" else 4).astype(np.float32)
    real = np.float32([1, 1, 1, 0])
    w = (weight if per == "token" else np.repeat(weight[:, None], 5, axis=1)) * real[:, None]
    logits = np.asarray(model(x))
    metrics = evaluate(ours, batch := Batch(x, y, weight, real), weights := ours.weights_from(model))
    want = (w * cross_entropy(logits, y)).sum() / w.sum()
    assert loss_of(ours, batch, weights)[0] == pytest.approx(want, rel=1e-5)
    assert metrics["loss"] == pytest.approx(want, rel=1e-5)
    assert metrics["accuracy"] == pytest.approx((w * (logits.argmax(-1) == y)).sum() / w.sum(), rel=1e-5)
    assert metrics["num_examples"] == 3 and metrics["num_tokens"] == pytest.approx(w.sum(), rel=1e-6)


def test_weights_of_another_shape_are_an_error(rng):
    ours = from_keras(classifier(), sparse)
    x, y = data(rng)
    with pytest.raises(ValueError, match=r"sample_weight must have the shape .*\(6,\), got \(6, 2\)"):
        ours.loss(*ours.init(KEY), (), batch_of(x, y, np.ones((6, 2))), KEY)


def test_a_batch_without_weight_has_loss_0_and_no_gradient(rng):
    ours = from_keras(classifier(), sparse)
    value, gradients = loss_of(ours, batch_of(*data(rng), np.zeros(6)), ours.init(KEY))
    assert value == 0 and all((np.asarray(g) == 0).all() for g in gradients)


def test_masks_leave_the_loss_only_if_asked(rng):
    """True: as Keras' own masked loss, a mean over positions that are not masked. False: a mean over all, as in TFF."""
    model = sequence_model(mask=True)
    x, y = rng.integers(1, 6, (3, 5)), rng.integers(0, 6, (3, 5))
    x[0, 2:], x[1, :1] = 0, 0
    output = model(x)
    masked, plain = (from_keras(model, sparse, masked_loss=m) for m in (True, False))
    weights, batch = masked.weights_from(model), batch_of(x, y)
    every = cross_entropy(output, y)
    assert loss_of(masked, batch, weights)[0] == pytest.approx(float(sparse(y, output)), rel=1e-5)
    assert loss_of(masked, batch, weights)[0] == pytest.approx(every[x > 0].mean(), rel=1e-5)
    assert loss_of(plain, batch, weights)[0] == pytest.approx(every.mean(), rel=1e-5)
    assert evaluate(masked, batch, weights)["num_tokens"] == (x > 0).sum()
    assert evaluate(plain, batch, weights)["num_tokens"] == x.size


def test_masks_and_weights_multiply(rng):
    model = sequence_model(mask=True)
    ours = from_keras(model, sparse, ["accuracy"])
    x, y = rng.integers(0, 6, (3, 5)), rng.integers(0, 6, (3, 5))
    weight = rng.uniform(0.5, 2, (3, 5)).astype(np.float32)
    w = weight * (x > 0)
    logits = np.asarray(model(x))
    metrics = evaluate(ours, batch_of(x, y, weight), ours.weights_from(model))
    assert metrics["loss"] == pytest.approx((w * cross_entropy(logits, y)).sum() / w.sum(), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx((w * (logits.argmax(-1) == y)).sum() / w.sum(), rel=1e-5)


def test_a_loss_may_be_a_function(rng):
    """Of (y, prediction), one number per example."""
    x = rng.normal(size=(5, FEATURES)).astype(np.float32)
    y = rng.normal(size=(5, 2)).astype(np.float32)
    model = sequential(L.Dense(2))
    ours = from_keras(model, lambda y, p: jnp.abs(y - p).sum(-1))
    want = np.abs(y - np.asarray(model(x))).sum(-1).mean()
    assert loss_of(ours, batch_of(x, y), ours.weights_from(model))[0] == pytest.approx(want, rel=1e-5)


# Models of other forms


@pytest.mark.parametrize("form", ["tensor", "dict"])
def test_functional_models(form, rng):
    """Of one input, or of several by name; fresh weights included."""
    inputs = keras.Input((3,), name="p")
    other = keras.Input((2,), name="q")
    if form == "tensor":
        model, x = keras.Model(inputs, L.Dense(2)(inputs)), rng.normal(size=(4, 3)).astype(np.float32)
    else:
        model = keras.Model({"p": inputs, "q": other}, L.Dense(2)(L.Concatenate()([inputs, other])))
        x = {"p": rng.normal(size=(4, 3)).astype(np.float32), "q": rng.normal(size=(4, 2)).astype(np.float32)}
    ours, y = from_keras(model, "mse"), rng.normal(size=(4, 2)).astype(np.float32)
    process = fl.LearningProcess(fl.algorithms.fedavg(ours, optax.sgd(0.1)))
    fresh = process.initialize()
    assert [w.shape for w in process.get_weights(fresh).trainable] == [tuple(w.shape) for w in model.weights]
    got = process.evaluate(process.initialize(model), [[(x, y)]])["loss"]
    assert got == pytest.approx(float(((np.asarray(model(x)) - y) ** 2).mean()), rel=1e-5)


def test_nested_models_keep_the_order_of_their_weights(rng):
    inner = keras.Sequential([keras.Input((FEATURES,)), L.BatchNormalization(), L.Dense(5)])
    model = sequential(inner, L.Dense(CLASSES))
    ours, (x, y) = from_keras(model, sparse), data(rng)
    batch, weights = batch_of(x, y), ours.weights_from(model)
    assert evaluate(ours, batch, weights)["loss"] == pytest.approx(float(sparse(y, model(x))), rel=1e-5)
    assert jax.tree.map(jnp.shape, ours.init(KEY)) == jax.tree.map(jnp.shape, weights)


def test_a_subclassed_model_trains_but_has_no_fresh_weights(rng):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(CLASSES)

        def call(self, x):
            return self.dense(x)

    model, (x, y) = Own(), data(rng)
    model(x)
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(model, sparse), optax.sgd(0.1)))
    with pytest.raises(TypeError, match="Fresh weights need a Sequential or Functional model, got Own"):
        process.initialize()
    assert process.next(process.initialize(model), [[(x, y)]])[1]["loss"] == pytest.approx(float(sparse(y, model(x))), rel=1e-5)


# Weights in and out


def mixed_model():
    """Trainable and other weights by turns, so that an order could go wrong."""
    return sequential(L.BatchNormalization(), L.Dense(FEATURES), L.BatchNormalization())


def test_weights_go_in_and_out_in_keras_order():
    model = mixed_model()
    ours = from_keras(model, "mse")
    given = model.get_weights()
    for source in (model, given, ours.weights_from(model), jax.tree.map(lambda w: np.asarray(w, np.float64), ours.weights_from(model))):
        weights = ours.weights_from(source)
        assert {w.dtype for w in jax.tree.leaves(weights)} == {jnp.dtype("float32")}
        target = mixed_model()
        target.set_weights([0 * w for w in given])
        ours.assign(target, weights)
        for got, want in zip(target.get_weights(), given, strict=True):
            np.testing.assert_array_equal(got, want)


def test_arrays_given_stay_the_users(rng):
    """Changing an array afterwards changes no state."""
    model = mixed_model()
    ours, given = from_keras(model, "mse"), [w.copy() for w in model.get_weights()]
    weights = [ours.weights_from(given), ours.weights_from(by_kind := jax.tree.map(np.array, ours.weights_from(model)))]
    for array in (*given, *jax.tree.leaves(by_kind)):
        array[...] = 7
    for one in weights:
        np.testing.assert_array_equal(one.trainable[0], model.trainable_weights[0])


WRONG = {
    "too few": (lambda w: w[:-1], "has 10 weights, got 9 arrays"),
    "too many": (lambda w: [*w, w[0]], "has 10 weights, got 11 arrays"),
    "shape": (lambda w: [*w[:4], np.zeros((FEATURES, FEATURES + 1)), *w[5:]], r"Weight 4 .* must have shape \(4, 4\), got \(4, 5\)"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_weights_are_an_error(wrong):
    spoil, message = WRONG[wrong]
    model = mixed_model()
    ours = from_keras(model, "mse")
    process = fl.LearningProcess(fl.algorithms.fedavg(ours, optax.sgd(0.1)))
    with pytest.raises(ValueError, match=message):
        process.initialize(spoil(model.get_weights()))
    state = process.initialize(model)
    with pytest.raises(ValueError, match=message):
        process.set_weights(state, spoil(model.get_weights()))
    with pytest.raises(ValueError, match="has 6 weights, got 5 arrays"):
        ours.weights_from(ModelWeights(ours.weights_from(model).trainable[:-1], ours.weights_from(model).non_trainable))


@pytest.mark.parametrize(
    "other",
    [
        lambda: sequential(L.BatchNormalization(), L.Dense(FEATURES)),
        lambda: sequential(L.BatchNormalization(), L.Dense(FEATURES + 1), L.BatchNormalization()),
        lambda: sequential(L.BatchNormalization(trainable=False), L.Dense(FEATURES), L.BatchNormalization()),
    ],
    ids=["fewer", "shapes", "frozen"],
)
def test_assigning_to_another_architecture_changes_nothing(other):
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(mixed_model(), "mse"), optax.sgd(0.1)))
    target = other()
    target.set_weights([0 * w for w in target.get_weights()])
    with pytest.raises(ValueError, match="must have shape|weights, got"):
        process.assign_weights(process.initialize(), target)
    assert not any(w.any() for w in target.get_weights())


def test_weights_can_be_assigned_to_keras_models_only():
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(mixed_model(), "mse"), optax.sgd(0.1)))
    with pytest.raises(TypeError, match=r"a keras.Model, got list"):
        process.assign_weights(process.initialize(), [])


# Evaluation


def test_evaluation_is_that_of_keras(rng):
    """Over clients of any size, with a last batch that is not full on both sides; loss and accuracy to 1e-6."""
    model = classifier(optimizer="sgd", loss=sparse, metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")])
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(model)), batching=Batching(size=4))
    x, y = data(rng, 21)
    clients = {str(i): {"x": x[i : i + 7], "y": y[i : i + 7]} for i in (0, 7, 14)}
    want = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    got = process.evaluate(process.initialize(model), clients, batch_size=8)
    for name, value in want.items():
        assert got[name] == pytest.approx(value, rel=1e-6), name
    assert got["num_examples"] == 21


def test_evaluation_with_weights_is_that_of_keras_weighted_metrics(rng):
    """Keras' own `loss` divides by the number of rows; its weighted metric of the same loss divides by the weight, as ours does."""
    model = classifier()
    cross_entropy_metric = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy")
    model.compile(optimizer="sgd", loss=sparse, weighted_metrics=["accuracy", cross_entropy_metric])
    process = fl.LearningProcess(fl.algorithms.fedavg(from_keras(model)), batching=Batching(size=4))
    x, y = data(rng, 10)
    weight = rng.uniform(0, 3, 10).astype(np.float32)
    want = model.evaluate(x, y, sample_weight=weight, batch_size=10, verbose=0, return_dict=True)
    got = process.evaluate(process.initialize(model), [{"x": x, "y": y, "sample_weight": weight}], batch_size=4)
    assert got["accuracy"] == pytest.approx(want["accuracy"], rel=1e-6)
    assert got["loss"] == pytest.approx(want["cross_entropy"], rel=1e-6)
    assert got["cross_entropy"] == pytest.approx(want["cross_entropy"], rel=1e-6)


def test_weights_that_were_assigned_outlive_what_keras_does_with_the_model():
    """Keras' compiled training gives the buffers of its variables away."""
    keras.utils.set_random_seed(0)
    keras_model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    process = fl.LearningProcess(fl.algorithms.fedavg(fl.models.from_keras(keras_model, "mse"), fl.optimizers.sgd(0.1)))
    state = process.initialize(keras_model)
    process.assign_weights(state, keras_model)
    keras_model.compile(loss="mse", optimizer="sgd")
    x, y = np.ones((4, 3)), np.ones((4, 2))
    keras_model.fit(x, y, verbose=0)
    keras_model.evaluate(x, y, verbose=0)
    assert all(np.isfinite(w).all() for w in process.get_weights(state).trainable)
    process.next(state, [[(x, y)]])
