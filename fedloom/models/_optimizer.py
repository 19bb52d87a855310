"""Keras optimizers as optax's gradient transformations, with the same numbers as in Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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


class _KerasState(NamedTuple):
    variables: list[jax.Array]  # in Keras' order; the place of the learning rate is not read
    hyperparams: dict[str, jax.Array]  # learning_rate, unless a schedule of Keras' decides it


def _keras_as_optax(optimizer: keras.optimizers.Optimizer, weights: Sequence[keras.Variable]) -> optax.GradientTransformation:
    copy = type(optimizer).from_config(optimizer.get_config())  # the user's own stays as it is
    copy.build([keras.Variable(np.zeros(w.shape, w.dtype)) for w in weights])
    start = [np.asarray(variable.value) for variable in copy.variables]
    rate = next((i for i, variable in enumerate(copy.variables) if variable is copy._learning_rate), None)

    def init(params):
        hyperparams = {} if rate is None else {"learning_rate": jnp.asarray(start[rate])}
        return _KerasState([jnp.asarray(value) for value in start], hyperparams)

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("A Keras optimizer needs the parameters in every update.")
        variables = list(state.variables)
        if rate is not None:
            variables[rate] = state.hyperparams["learning_rate"]
        updated, variables = copy.stateless_apply(variables, list(updates), list(params))
        return jax.tree.map(jnp.subtract, list(updated), list(params)), _KerasState(list(variables), state.hyperparams)

    return optax.GradientTransformation(init, update)
