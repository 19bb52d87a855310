"""Losses and metrics by the kind of prediction, where nobody writes Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import keras

Objective = Literal["classification", "binary", "regression"]


def objective(kind: Objective, *, from_logits: bool = False) -> tuple[keras.losses.Loss, Sequence[keras.metrics.Metric]]:
    """What `from_keras` is to minimize and to measure.

    Args:
        kind: "classification" of integer labels (cross-entropy and accuracy), "binary" for one output and labels 0 or 1 (likewise), or
            "regression" (mean squared error and mean absolute error).
        from_logits: Whether the model's output has not been through a softmax or sigmoid.

    Raises:
        ValueError: `kind` is not known.

    Example:
        >>> loss, (accuracy,) = objective("classification", from_logits=True)
        >>> accuracy.name
        'accuracy'
    """
    if kind == "classification":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits), [
            keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        ]
    if kind == "binary":
        threshold = 0.0 if from_logits else 0.5
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)
        return keras.losses.BinaryCrossentropy(from_logits=from_logits), [accuracy]
    if kind == "regression":
        return keras.losses.MeanSquaredError(), [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]
    raise ValueError(f'kind must be "classification", "binary" or "regression", got {kind!r}.')
