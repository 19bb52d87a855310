# pyright: reportMissingImports=false, reportMissingModuleSource=false
"""TensorFlow Federated: its weighted federated averaging with Keras models, in its native runtime.

    python -m benchmarks.workers.tff FOLDER

`build_weighted_fed_avg` with TFF's own optimizers; clients are `tf.data` sets of tensors in memory.
"""

from __future__ import annotations

from .._turns import Turns, serve

TURNS = Turns()

import os  # noqa: E402

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}

import argparse  # noqa: E402
import collections  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_federated as tff  # noqa: E402

from .._workload import Workload  # noqa: E402

IGNORED = -1  # the label of what carries no weight


def _losses(y_true, y_pred):
    """The cross-entropy of each label, and 0 or 1: whether it counts."""
    counts = tf.cast(tf.not_equal(y_true, IGNORED), tf.float32)  # `!=` would compare objects: TFF turns off comparing tensors by it
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(y_true, 0), y_pred), counts


class MeanLoss(tf.keras.losses.Loss):
    """Mean cross-entropy over the labels that count."""

    def __init__(self):
        super().__init__(reduction=tf.keras.losses.Reduction.SUM)

    def call(self, y_true, y_pred):
        """Parts whose sum it is; Keras' own mean would divide by all labels."""
        losses, counts = _losses(y_true, y_pred)
        return losses * counts / tf.maximum(tf.reduce_sum(counts), 1.0)


class SumOfLosses(tf.keras.metrics.Mean):
    """The same over all batches and clients."""

    def __init__(self, name="mean_loss", dtype=tf.float32):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch."""
        return super().update_state(*_losses(y_true, y_pred))


def main() -> None:
    """Does rounds until there are no more turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    workload = Workload(parser.parse_args().folder)
    case = workload.case
    weighted = case["model"] == "lstm"

    def model_fn():
        # Labels that do not count need a loss and a metric of our own; elsewhere Keras' are the same and what users take.
        loss: Any = MeanLoss() if weighted else tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model = _keras_model(case["model"])
        signature = collections.OrderedDict(
            x=tf.TensorSpec((None, *model.input_shape[1:]), tf.int32 if case["model"] in ("gru", "lstm") else tf.float32),
            y=tf.TensorSpec((None, *model.output_shape[1:-1]), tf.int32),
        )
        metrics = [SumOfLosses()] if weighted else []
        return tff.learning.models.from_keras_model(model, loss=loss, input_spec=signature, metrics=metrics)

    process = tff.learning.algorithms.build_weighted_fed_avg(
        model_fn,
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(case["learning_rate"]),
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
    )
    state = process.set_model_weights(process.initialize(), tff.learning.models.ModelWeights(workload.weights(), []))

    def prepare(number: int) -> list[tf.data.Dataset]:
        clients = []
        for rows in workload.round(number):
            y = rows.y if rows.weight is None else np.where(rows.weight > 0, rows.y, IGNORED)
            columns: Any = collections.OrderedDict(x=rows.x, y=y.astype(np.int32))
            clients.append(tf.data.Dataset.from_tensor_slices(columns).batch(case["batch_size"]))
        return clients

    def run(clients: list[tf.data.Dataset]) -> dict[str, Any]:
        nonlocal state
        begin = time.perf_counter()
        state, metrics = process.next(state, clients)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "loss": float(metrics["client_work"]["train"]["mean_loss" if weighted else "loss"])}

    serve(TURNS, prepare, run)


def _keras_model(name: str) -> tf.keras.Model:
    layers = tf.keras.layers
    if name == "gru":
        stack = [layers.Embedding(86, 256), layers.GRU(1024, return_sequences=True), layers.Dense(86)]
        return tf.keras.Sequential([layers.InputLayer((100,), dtype=tf.int32), *stack])
    if name == "lstm":
        recurrent = [layers.LSTM(256, return_sequences=True) for _ in range(2)]
        return tf.keras.Sequential([layers.InputLayer((80,), dtype=tf.int32), layers.Embedding(90, 8), *recurrent, layers.Dense(90)])
    if name == "cnn":
        convolutions = [layers.Conv2D(filters, 3, activation="relu") for filters in (32, 64)]
        head = [layers.MaxPooling2D(), layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(62)]
        return tf.keras.Sequential([layers.InputLayer((28, 28, 1)), *convolutions, *head])
    return tf.keras.Sequential([layers.InputLayer((784,)), layers.Dense(10)])


if __name__ == "__main__":
    main()
