"""Which Keras metrics add up: those whose variables, summed over batches, are what one metric over all batches would hold.

Keras' own metrics do, but for the few named below; `tests/models/test_metrics.py` shows it for every one of them. Others are tried out on
random batches when the model is made, which is when there is still time to take another metric.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import keras
import numpy as np

_SUMS_ONLY = "Use metrics whose variables start from zero and grow by assign_add, such as keras.metrics.MeanMetricWrapper(fn)."


class _Probe(NamedTuple):
    """A random batch."""

    y: np.ndarray
    prediction: np.ndarray
    weight: np.ndarray  # of every element of the loss


def is_keras_own(metric: keras.metrics.Metric) -> bool:
    """Whether Keras ships the metric with all that it computes: a wrapper computes the user's function."""
    return type(metric).__module__.partition(".")[0] == "keras" and type(metric) is not keras.metrics.MeanMetricWrapper


def result_of(metric: keras.metrics.Metric, values: Sequence[Any]) -> Any:
    """What the metric says if its variables have these values, as arrays."""
    with keras.StatelessScope(list(zip(metric.variables, values, strict=True))):
        # A metric may hand out a variable itself, which has these values only in here.
        return keras.tree.map_structure(keras.ops.convert_to_tensor, metric.result())


def build_and_check(metric: keras.metrics.Metric, loss: Any, output_shape: Sequence[int | None] | None) -> None:
    """Makes variables that a metric leaves to its first update, and refuses what does not add up.

    Args:
        metric: Is changed, and is back at its start afterwards.
        loss: Its name tells whether labels are class numbers ("sparse") or have the shape of the output.
        output_shape: Of the model, batch first; None if that is not known. Then nothing is tried out.

    Raises:
        ValueError: The metric takes no labels and predictions, has no variables, does not start from zero, does not add up, or counts rows
            that are padding.
    """
    what = f"Metric {metric.name!r}"
    if not _takes_batches(metric):
        raise ValueError(
            f"{what} cannot be updated with (y_true, y_pred, sample_weight), which is what a model gives it, got a "
            f"{type(metric).__name__}. Wrap the function that you mean: keras.metrics.MeanMetricWrapper(fn, name={metric.name!r})."
        )
    if isinstance(metric, keras.metrics.R2Score) and metric.num_regressors:
        raise ValueError(
            f"{what} must have num_regressors=0, got {metric.num_regressors}: the adjusted score counts rows, those of padding too."
        )
    if any(np.any(np.asarray(v.value)) for v in metric.variables):
        raise ValueError(f"{what} does not start from zero, so its variables are no sums that clients could add up. {_SUMS_ONLY}")
    if not is_keras_own(metric) or not _is_built(metric):
        _try_out(metric, what, loss, output_shape)
    if not metric.variables:
        raise ValueError(f"{what} has no variables, so there is nothing to sum. Leave it out.")


def _is_built(metric: keras.metrics.Metric) -> bool:
    """Whether it has all its variables; Keras keeps no public word for that."""
    return bool(metric.variables) and getattr(metric, "_built", True)


def _takes_batches(metric: keras.metrics.Metric) -> bool:
    if type(metric).update_state is keras.metrics.Metric.update_state:
        return False
    try:
        inspect.signature(metric.update_state).bind(None, None, sample_weight=None)
    except TypeError:
        return False
    return True


def _try_out(metric: keras.metrics.Metric, what: str, loss: Any, output_shape: Sequence[int | None] | None) -> None:
    built = _is_built(metric)
    for one, other in _probes(loss, output_shape):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fault = _fault(metric, one, other)
        except Exception as error:  # a metric may expect other labels than these, which says nothing about sums
            metric.reset_state()
            if not built:
                raise ValueError(
                    f"{what} has no variables before its first update, and cannot be updated with what the loss takes, labels of shape "
                    f"{one.y.shape} for predictions of shape {one.prediction.shape}: {error} Leave it out, or change loss and labels."
                ) from error
            continue
        if fault:
            raise ValueError(f"{what} {fault}")
        return
    if not built:
        raise ValueError(f"{what} has no variables before its first update, and the shape of the output is not known. Leave it out.")


def _fault(metric: keras.metrics.Metric, one: _Probe, other: _Probe) -> str:
    """Why the metric cannot be used; "" if it can."""
    metric.update_state(one.y, one.prediction, sample_weight=one.weight)  # makes the variables that are not there yet
    metric.reset_state()

    def after(state: list, batch: _Probe) -> list:
        return list(metric.stateless_update_state(state, batch.y, batch.prediction, sample_weight=batch.weight))

    start = [jnp.asarray(v.value) for v in metric.variables]
    first, second = after(start, one), after(start, other)
    if not _close(after(first, other), [a + b for a, b in zip(first, second, strict=True)]):
        return f"does not add up: after two batches it is not the sum of what it is after each. {_SUMS_ONLY}"
    filled_up = _Probe(*[np.concatenate([part, part[:1]]) for part in other])
    filled_up.weight[-1] = 0
    padded = after(start, filled_up)
    if not _close([result_of(metric, padded)], [result_of(metric, second)]):
        return "counts rows of sample_weight 0, which only fill up batches. Let `update_state` weigh what it adds by sample_weight."
    return ""


def _close(got: list, want: list) -> bool:
    return all(
        np.allclose(*map(np.asarray, pair), rtol=1e-4, atol=1e-6, equal_nan=True)
        for pair in zip(keras.tree.flatten(got), keras.tree.flatten(want), strict=True)
    )


def _probes(loss: Any, output_shape: Sequence[int | None] | None) -> Iterator[tuple[_Probe, _Probe]]:
    """Pairs of batches of different sizes, with labels as the loss takes them, or in both forms if that is not known."""
    if output_shape is None:
        return
    *middle, classes = [5 if d is None else d for d in output_shape[1:]] or [1]
    shape = [min(d, 3) for d in middle]  # metrics go over these axes; only the last one is in the shape of their variables
    name = getattr(loss, "__name__", type(loss).__name__).lower()
    known = getattr(loss, "__module__", "").partition(".")[0] == "keras"
    rng = np.random.default_rng(0)

    def probe(rows: int, sparse: bool) -> _Probe:
        prediction = rng.uniform(0.05, 0.95, (rows, *shape, classes))
        labels = rng.integers(classes, size=(rows, *shape)) if classes > 1 else rng.integers(2, size=(rows, *shape))
        y = labels if sparse else np.eye(classes)[labels] if classes > 1 else labels[..., None]
        prediction = prediction / prediction.sum(-1, keepdims=True) if classes > 1 else prediction
        weight = rng.uniform(0.5, 2, (rows, *shape))
        return _Probe(y if sparse else y.astype(np.float32), prediction.astype(np.float32), weight.astype(np.float32))

    forms = [True] if "sparse" in name else [False] if known else [False, True]
    for sparse in forms:
        yield probe(7, sparse), probe(8, sparse)
