"""Keras metrics as sums that clients add up."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np

from fedloom.core import MetricSums

from ._metric_check import build_and_check, is_keras_own, result_of

_RESERVED = {
    *("loss", "num_examples", "num_batches", "num_tokens", "num_clients", "num_nonfinite_clients", "accepted"),
    *("round", "client", "asked", "answered", "weight", "update_norm", "nonfinite", "bytes_up", "bytes_down", "seconds"),  # of a client
}


class AdditiveMetrics:
    """Several Keras metrics over one output."""

    def __init__(self, metrics: Sequence[keras.metrics.Metric]):
        self.metrics = {metric.name: metric for metric in metrics}

    def init(self) -> MetricSums:
        """Zeros for every variable."""
        return {name: [jnp.zeros(v.shape, v.dtype) for v in m.variables] for name, m in self.metrics.items()}

    def sums(self, y, prediction, weight) -> MetricSums:
        """The variables after this batch alone."""
        zeros = self.init()
        with warnings.catch_warnings():
            # Keras' confusion matrices ask for int64, which JAX does not have; numbers of classes fit into int32.
            warnings.filterwarnings("ignore", message="Explicitly requested dtype int64")
            return {
                name: list(metric.stateless_update_state(zeros[name], y, prediction, sample_weight=weight))
                for name, metric in self.metrics.items()
            }

    def finish(self, sums: MetricSums) -> dict[str, Any]:
        """The metrics' values."""
        return {name: _plain(result_of(metric, sums[name])) for name, metric in self.metrics.items()}


def additive_metrics(
    metrics: Sequence[keras.metrics.Metric | str], loss: Any, output_shape: Sequence[int | None] | None = None
) -> AdditiveMetrics:
    """Fresh copies of these metrics; "accuracy" is the one that goes with the loss.

    Args:
        metrics: Keras metrics or their names.
        loss: Of the model.
        output_shape: Of the model, batch first; None if it is not known.

    Raises:
        ValueError: Two have the same name, one has a name that fedloom uses itself, or one does not add up: see `build_and_check`.
        TypeError: One is not a Keras metric.
    """
    copies = [_copy(metric, loss) for metric in metrics]
    names = [metric.name for metric in copies]
    for name in names:
        if name in _RESERVED or names.count(name) > 1:
            raise ValueError(f"Every metric needs a name of its own, and none of {sorted(_RESERVED)}, got {names}. Pass `name=`.")
    for metric in copies:
        build_and_check(metric, loss, output_shape)
    return AdditiveMetrics(copies)


def compiled_metrics(model: keras.Model) -> list:
    """The metrics that a model was compiled with, as they were given."""
    if not model.compiled:
        return []
    config = model.get_compile_config()
    given = [*(config.get("metrics") or []), *(config.get("weighted_metrics") or [])]
    return [metric if isinstance(metric, str) else keras.saving.deserialize_keras_object(metric) for metric in given]


def _copy(metric: Any, loss: Any) -> keras.metrics.Metric:
    if metric in ("accuracy", "acc"):
        return _accuracy(loss, name=metric)
    if isinstance(metric, str):
        metric = keras.metrics.get(metric)
    if not isinstance(metric, keras.metrics.Metric):
        raise TypeError(f"metrics must be Keras metrics or their names, got {metric!r} of type {type(metric).__name__}.")
    if type(metric) is keras.metrics.MeanMetricWrapper:  # its config names the function, and only functions registered with Keras are found
        return keras.metrics.MeanMetricWrapper(metric._fn, name=metric.name, dtype=metric.dtype, **metric._fn_kwargs)
    config = metric.get_config()
    if is_keras_own(metric) and "int" in str(metric.dtype):
        config["dtype"] = "float32"  # IoU counts in integers, and would cut off what a sample weight has after the point
    return type(metric).from_config(config)


def _accuracy(loss: Any, name: str) -> keras.metrics.Metric:
    kinds = {
        "SparseCategoricalCrossentropy": keras.metrics.SparseCategoricalAccuracy,
        "CategoricalCrossentropy": keras.metrics.CategoricalAccuracy,
        "BinaryCrossentropy": keras.metrics.BinaryAccuracy,
    }
    given = getattr(loss, "__name__", type(loss).__name__)  # a loss given by its name is a function
    kind = next((metric for loss_name, metric in kinds.items() if loss_name.lower() == given.replace("_", "").lower()), None)
    if kind is None:
        raise ValueError(f'The metric "accuracy" needs one of the losses {sorted(kinds)}, got {given}. Name the metric you mean.')
    return kind(name=name)


def _plain(value) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    array = np.asarray(value)
    return float(array) if array.ndim == 0 else array.tolist()
