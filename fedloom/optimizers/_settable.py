"""Optimizers whose numbers stand in the state, so that they can change between two updates without compiling again.

Free to change: the messages. With care: the field `hyperparams` of the state, by whose name the numbers are found and set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from fedloom.core import PyTree


def settable(rule: Callable[..., optax.GradientTransformation], **hyperparams: Any) -> optax.GradientTransformation:
    """`rule(**hyperparams)`, reading these arguments from its state: the dict `hyperparams` there, of float32 arrays of shape ().

    State and arithmetic are float32 for weights of half precision too; updates come back in the dtype of the gradients.

    Args:
        rule: An optimizer, from the hyperparameters by name.
        hyperparams: Finite numbers >= 0. `learning_rate` may be a schedule instead, None is left to the rule.

    Raises:
        ValueError: One is negative or not finite.
        TypeError: One is no number.
    """
    values = {name: _as_float32(name, value) for name, value in hyperparams.items()}
    inner: Any = optax.inject_hyperparams(rule, hyperparam_dtype=jnp.float32)(**values)

    def init(params):
        return inner.init(_widened(params))

    def update(updates, state, params=None):
        wide, state = inner.update(_widened(updates), state, None if params is None else _widened(params))
        return jax.tree.map(lambda u, given: u.astype(given.dtype), wide, updates), state

    return optax.GradientTransformation(init, update)


def number_in(name: str, value: Any, low: float, high: float, *, such_as: float, closed: bool = False) -> float:
    """The number as a Python float, which the rule keeps in full precision; in [low, high), or [low, high] if closed.

    Raises:
        ValueError: It is outside.
        TypeError: It is no number. A traced one is none: its complement, such as 1 - 0.999, would lose digits in float32.
    """
    number = _number(name, value)
    if not (low <= number < high or (closed and number == high)):
        raise ValueError(f"{name} must be in [{low:g}, {high:g}{']' if closed else ')'}, got {value!r}. Pass one such as {such_as:g}.")
    return number


def _as_float32(name: str, value: Any) -> Any:
    # NumPy, not JAX: an optimizer may be a default argument, and importing must not start a device.
    if value is None:
        return None
    if isinstance(value, Tracer):
        return value.astype(jnp.float32)
    if name == "learning_rate" and callable(value):
        return lambda step: jnp.asarray(value(step), jnp.float32)
    number = _number(name, value)
    if not 0 <= number < math.inf:
        what, advice = "a finite number >= 0", "Pass a positive one, or leave it out for the default."
        if name == "learning_rate":
            what, advice = f"{what} or a function of the step", "Pass one such as 0.1: the step already goes down the gradient."
        raise ValueError(f"{name} must be {what}, got {value!r}. {advice}")
    return np.asarray(number, np.float32)


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tracer) or np.ndim(value) or np.asarray(value).dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a plain number, got {value!r}. Pass a Python float.")
    return float(value)


def _widened(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32)), tree)
