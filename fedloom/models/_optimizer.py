"""Keras optimizers as optax's gradient transformations, with the same numbers as in Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax


def as_optax(
    optimizer: Any, weights: Sequence[keras.Variable], default: keras.optimizers.Optimizer | None = None
) -> optax.GradientTransformation:
    """An optax transformation, from one or from a Keras optimizer or its name.

    Args:
        optimizer: optax's are handed back; Keras' are wrapped; None takes `default`.
        weights: The trainable weights it will update: Keras ties an optimizer to their shapes.
        default: The optimizer that the Keras model was compiled with, if it was.

    Raises:
        ValueError: Neither is given.
        TypeError: It is no optimizer.
    """
    optimizer = default if optimizer is None else optimizer
    if optimizer is None:
        raise ValueError("An optimizer is needed, got None from a model that is not compiled. Pass one, such as optax.sgd(0.1).")
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    if isinstance(optimizer, str):
        optimizer = keras.optimizers.get(optimizer)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(f"An optimizer must come from optax or keras.optimizers, got {type(optimizer).__name__}.")
    return _keras_as_optax(optimizer, weights)


def _keras_as_optax(optimizer: keras.optimizers.Optimizer, weights: Sequence[keras.Variable]) -> optax.GradientTransformation:
    copy = type(optimizer).from_config(optimizer.get_config())  # the user's own stays as it is
    copy.build([keras.Variable(np.zeros(w.shape, w.dtype)) for w in weights])
    start = [np.asarray(variable.value) for variable in copy.variables]

    def init(params):
        return [jnp.asarray(value) for value in start]

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("A Keras optimizer needs the parameters in every update.")
        updated, state = copy.stateless_apply(state, list(updates), list(params))
        return jax.tree.map(jnp.subtract, list(updated), list(params)), list(state)

    return optax.GradientTransformation(init, update)
