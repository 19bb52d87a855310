"""Adagrad."""

from __future__ import annotations

import math

import jax
import optax

from ._settable import number_in, settable


def adagrad(
    learning_rate: optax.ScalarOrSchedule, initial_preconditioner_value: float = 0.1, epsilon: jax.typing.ArrayLike = 1e-7
) -> optax.GradientTransformation:
    """Adagrad: v <- v + g^2; w <- w - learning_rate * g / sqrt(v + epsilon).

    Duchi et al. 2011 (JMLR 12), Figure 1 with a diagonal matrix, where epsilon is outside the root. The rule and defaults are also optax's.

    Args:
        learning_rate: >= 0, or a function of the step, from 0.
        initial_preconditioner_value: What v starts from, >= 0.
        epsilon: >= 0. A weight whose v is still 0 stays where it is.

    Raises:
        ValueError: A number is out of range.
    """
    start = number_in("initial_preconditioner_value", initial_preconditioner_value, 0, math.inf, such_as=0.1)

    def rule(learning_rate, epsilon):
        return optax.adagrad(learning_rate, start, epsilon)

    return settable(rule, learning_rate=learning_rate, epsilon=epsilon)
