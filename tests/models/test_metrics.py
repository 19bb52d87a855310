"""Every metric of Keras: either it adds up over batches and ignores padding, or it is refused when the model is made."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import keras

import fedloom as fl
from fedloom.core import Batch, add_metrics

CLASSES = 3
metrics = keras.metrics


class Kind(NamedTuple):
    """Labels of a kind, with the loss that takes them."""

    loss: Any
    outputs: int
    labels: Callable


KINDS = {
    "classes": Kind("sparse_categorical_crossentropy", CLASSES, lambda rng, n: rng.integers(CLASSES, size=n)),
    "one-hot": Kind("categorical_crossentropy", CLASSES, lambda rng, n: np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=n)]),
    "tags": Kind("binary_crossentropy", CLASSES, lambda rng, n: rng.integers(2, size=(n, CLASSES)).astype(np.float32)),
    "numbers": Kind("mean_squared_error", CLASSES, lambda rng, n: rng.uniform(0.2, 3, (n, CLASSES)).astype(np.float32)),
    "rounded": Kind(lambda y, p: jnp.mean((y - p) ** 2, -1), 1, lambda rng, n: np.zeros((n, 1), np.float32)),
    "yes or no": Kind("binary_crossentropy", 1, lambda rng, n: rng.integers(2, size=(n, 1)).astype(np.float32)),
}

# Class (with the arguments it needs): the kind of labels it takes. A class that Keras adds is missing here, and so fails the last test.
ADDITIVE = {
    "AUC": [
        ({"num_thresholds": 20}, "yes or no"),
        ({"curve": "PR"}, "one-hot"),
        ({"multi_label": True, "label_weights": [0.5, 1.0, 2.0]}, "tags"),
    ],
    "Accuracy": [({}, "rounded")],
    "BinaryAccuracy": [({}, "yes or no")],
    "BinaryCrossentropy": [({}, "yes or no")],
    "BinaryIoU": [({"target_class_ids": [0, 1]}, "yes or no")],
    "CategoricalAccuracy": [({}, "one-hot")],
    "CategoricalCrossentropy": [({}, "one-hot")],
    "CategoricalHinge": [({}, "one-hot")],
    "ConcordanceCorrelation": [({}, "numbers")],
    "CosineSimilarity": [({}, "numbers")],
    "F1Score": [({"average": "macro"}, "one-hot"), ({"average": None, "threshold": 0.4}, "tags")],
    "FBetaScore": [({"beta": 0.5, "average": "weighted"}, "one-hot"), ({"average": "micro"}, "one-hot")],
    "FalseNegatives": [({}, "yes or no")],
    "FalsePositives": [({"thresholds": [0.3, 0.6]}, "yes or no")],
    "Hinge": [({}, "yes or no")],
    "IoU": [({"num_classes": CLASSES, "target_class_ids": [0, 2], "sparse_y_pred": False}, "classes")],
    "KLDivergence": [({}, "one-hot")],
    "LogCoshError": [({}, "numbers")],
    "MeanAbsoluteError": [({}, "numbers")],
    "MeanAbsolutePercentageError": [({}, "numbers")],
    "MeanIoU": [({"num_classes": CLASSES, "sparse_y_pred": False}, "classes")],
    "MeanMetricWrapper": [({"fn": keras.losses.mean_squared_error}, "numbers")],
    "MeanSquaredError": [({}, "numbers")],
    "MeanSquaredLogarithmicError": [({}, "numbers")],
    "OneHotIoU": [({"num_classes": CLASSES, "target_class_ids": [1]}, "one-hot")],
    "OneHotMeanIoU": [({"num_classes": CLASSES}, "one-hot")],
    "PearsonCorrelation": [({}, "numbers")],
    "Poisson": [({}, "numbers")],
    "Precision": [({"thresholds": 0.3}, "yes or no"), ({"top_k": 2}, "one-hot"), ({"class_id": 1}, "one-hot")],
    "PrecisionAtRecall": [({"recall": 0.5, "num_thresholds": 20}, "yes or no")],
    "R2Score": [({}, "numbers"), ({"class_aggregation": None}, "numbers")],
    "Recall": [({}, "yes or no")],
    "RecallAtPrecision": [({"precision": 0.5, "num_thresholds": 20}, "yes or no")],
    "RootMeanSquaredError": [({}, "numbers")],
    "SensitivityAtSpecificity": [({"specificity": 0.5, "num_thresholds": 20}, "yes or no")],
    "SparseCategoricalAccuracy": [({}, "classes")],
    "SparseCategoricalCrossentropy": [({}, "classes")],
    "SparseTopKCategoricalAccuracy": [({"k": 2}, "classes")],
    "SpecificityAtSensitivity": [({"sensitivity": 0.5, "num_thresholds": 20}, "yes or no")],
    "SquaredHinge": [({}, "yes or no")],
    "TopKCategoricalAccuracy": [({"k": 2}, "one-hot")],
    "TrueNegatives": [({}, "yes or no")],
    "TruePositives": [({}, "yes or no")],
}
REFUSED = {
    "Mean": ({}, r"'m' cannot be updated with \(y_true, y_pred, sample_weight\)"),
    "Metric": ({}, r"'m' cannot be updated with \(y_true, y_pred, sample_weight\)"),
    "R2Score": ({"num_regressors": 2}, "'m' must have num_regressors=0, got 2"),
    "Sum": ({}, r"'m' cannot be updated with \(y_true, y_pred, sample_weight\)"),
}


def keras_model(outputs=CLASSES, activation="softmax"):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs, activation)])


@pytest.mark.filterwarnings(
    "ignore:Explicitly requested dtype int64"
)  # of Keras' metrics by themselves; a test below shows that ours are silent
@pytest.mark.parametrize("kind", KINDS)
def test_sums_over_batches_finish_to_what_one_metric_over_all_of_them_says(kind):
    """The first batch has rows of padding, which count nothing."""
    loss, outputs, labels = KINDS[kind]
    cases = {f"{name}_{i}": (name, *case) for name, its in ADDITIVE.items() for i, case in enumerate(its)}
    wanted = {key: getattr(metrics, name)(name=key, **arguments) for key, (name, arguments, its) in cases.items() if its == kind}
    network = keras_model(outputs, {"rounded": "relu"}.get(kind, "sigmoid" if outputs == 1 else "softmax"))
    model = fl.models.from_keras(network, loss, list(wanted.values()))
    weights, evaluate = model.weights_from(network), jax.jit(model.evaluate)
    rng = np.random.default_rng(1)
    total = model.init_metrics()
    for real in (5, 8, 8):
        x, y, weight = rng.normal(size=(8, 4)).astype(np.float32), labels(rng, 8), rng.integers(1, 4, 8).astype(np.float32)
        sums, _ = evaluate(weights, (), Batch(x, y, weight, (np.arange(8) < real).astype(np.float32)))
        total = add_metrics(total, sums)
        for metric in wanted.values():
            own = weight[:real].astype(int) if "int" in str(metric.dtype) else weight[:real]
            metric.update_state(y[:real], network(x[:real]), sample_weight=own)
    got = model.finish_metrics(jax.device_get(total))
    for key, metric in wanted.items():
        want = np.asarray(metric.result())
        assert np.isfinite(want).all() and np.any(want), f"{key} would say the same of anything"
        np.testing.assert_allclose(got[key], want, rtol=1e-5, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", REFUSED)
def test_metrics_that_take_no_predictions_or_count_padding_are_refused(name):
    arguments, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        fl.models.from_keras(keras_model(), "mse", [getattr(metrics, name)(name="m", **arguments)])


def test_the_tables_name_every_metric_of_keras():
    classes = {name for name, value in vars(metrics).items() if inspect.isclass(value)}
    assert classes == ADDITIVE.keys() | REFUSED.keys()


def test_intersection_over_union_counts_fractions_of_a_weight():
    """Keras would cut them off. One class: weight of rows where both say so / where either does."""
    network = keras_model()
    model = fl.models.from_keras(network, "categorical_crossentropy", [metrics.OneHotIoU(CLASSES, [1], name="iou")])
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(size=(9, 4)).astype(np.float32), np.arange(9) % CLASSES, rng.uniform(0.1, 0.9, 9).astype(np.float32)
    batch = Batch(x, np.eye(CLASSES, dtype=np.float32)[y], weight, np.ones(9, np.float32))
    predicted = np.argmax(network(x), -1)
    got = model.finish_metrics(model.evaluate(model.weights_from(network), (), batch)[0])["iou"]
    both, either = weight[(y == 1) & (predicted == 1)].sum(), weight[(y == 1) | (predicted == 1)].sum()
    assert 0 < both < either
    assert got == pytest.approx(both / either, rel=1e-6)


# Metrics of the user's own, which are tried out


class Own(metrics.Metric):
    """What a user would write: one variable, changed by `change(old, per-example error, weight)`."""

    def __init__(self, change=None, name="own", **kwargs):
        super().__init__(name=name, **kwargs)
        self.change = change
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        error = keras.ops.mean(keras.ops.abs(y_true - y_pred), -1)
        self.value.assign(self.change(self.value, error, sample_weight))

    def result(self):
        return self.value

    def get_config(self):
        return {**super().get_config(), "change": self.change}


def test_a_sum_of_the_users_own_is_taken():
    model = fl.models.from_keras(keras_model(), "mse", [Own(lambda old, error, weight: old + keras.ops.sum(error * weight))])
    assert model.init_metrics()["own"][0] == 0, "what it was tried out on is gone"
    worst = metrics.MeanMetricWrapper(lambda y, p: keras.ops.max(keras.ops.abs(y - p), -1), name="worst")
    assert "worst" in fl.models.from_keras(keras_model(), "mse", [worst]).init_metrics()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda old, error, weight: keras.ops.maximum(old, keras.ops.max(error * weight)),
            "'own' does not add up: after two batches.*MeanMetricWrapper",
        ),
        (lambda old, error, weight: keras.ops.sum(error * weight), "'own' does not add up"),
        (lambda old, error, weight: 0.9 * old + 0.1 * keras.ops.sum(error * weight), "'own' does not add up"),
        (lambda old, error, weight: old + keras.ops.sum(error), "'own' counts rows of sample_weight 0.*weigh what it adds"),
    ],
    ids=["maximum", "last", "moving average", "weights ignored"],
)
def test_what_does_not_add_up_is_refused_when_the_model_is_made(change, message):
    with pytest.raises(ValueError, match=message):
        fl.models.from_keras(keras_model(), "mse", [Own(change)])


def test_a_function_that_looks_at_the_whole_batch_is_refused():
    def batchwise(y, p):
        return jnp.mean(jnp.abs(y - p)) + jnp.zeros(len(y))

    with pytest.raises(ValueError, match="'batchwise' counts rows of sample_weight 0"):
        fl.models.from_keras(keras_model(), "mse", [metrics.MeanMetricWrapper(batchwise, name="batchwise")])


def test_a_metric_that_cannot_be_tried_out_is_taken_as_it_is():
    """It wants labels of a shape that no loss tells of."""

    def change(old, error, weight):
        if error.shape != (2,):
            raise ValueError("two examples, please")
        return old + keras.ops.sum(error * weight)

    assert "own" in fl.models.from_keras(keras_model(), "mse", [Own(change)]).init_metrics()


def test_a_metric_may_hand_out_its_variable():
    """As the examples in Keras' documentation do."""
    network = keras_model()
    model = fl.models.from_keras(network, "mse", [Own(lambda old, error, weight: old + keras.ops.sum(error * weight))])
    x, y = np.ones((2, 4), np.float32), np.zeros((2, CLASSES), np.float32)
    sums, _ = model.evaluate(model.weights_from(network), (), Batch(x, y, np.array([1, 3], np.float32), np.ones(2, np.float32)))
    assert model.finish_metrics(sums)["own"] == pytest.approx(4 / CLASSES)  # a softmax sums to 1


def test_a_metric_without_sample_weights_is_refused():
    class Unweighted(Own):
        def update_state(self, y_true, y_pred):
            self.value.assign_add(keras.ops.sum(y_true * y_pred))

    with pytest.raises(ValueError, match=r"'own' cannot be updated with \(y_true, y_pred, sample_weight\)"):
        fl.models.from_keras(keras_model(), "mse", [Unweighted()])


def test_a_metric_that_waits_for_shapes_is_made_for_the_models_and_refused_where_labels_do_not_fit():
    model = fl.models.from_keras(keras_model(), "categorical_crossentropy", [metrics.F1Score(name="f1")])
    assert [v.shape for v in model.init_metrics()["f1"]] == [(CLASSES,)] * 4
    with pytest.raises(ValueError, match=r"'f1' has no variables before its first update.*labels of shape \(7,\) for predictions"):
        fl.models.from_keras(keras_model(), "sparse_categorical_crossentropy", [metrics.F1Score(name="f1")])
