"""Gradient descent, with momentum."""

from __future__ import annotations

import jax
import optax
from jax.core import Tracer

from ._settable import number_in, settable


def sgd(learning_rate: optax.ScalarOrSchedule = 0.01, momentum: jax.typing.ArrayLike | None = None) -> optax.GradientTransformation:
    """Gradient descent: a <- momentum * a + g; w <- w - learning_rate * a, or g in place of a without momentum.

    Polyak 1964, no dampening, no Nesterov. The rule is optax's; TFF's default rate is 0.01.

    Args:
        learning_rate: >= 0, or a function of the step, from 0.
        momentum: In [0, 1]; None keeps no accumulator, so it cannot be set later.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> import jax, optax
        >>> optimizer = sgd(0.5)
        >>> weights = jax.numpy.array([1.0, 2.0])
        >>> state = optimizer.init(weights)
        >>> updates, state = optimizer.update(jax.numpy.array([2.0, -2.0]), state)
        >>> optax.apply_updates(weights, updates).tolist()
        [0.0, 3.0]
    """
    if momentum is not None and not isinstance(momentum, Tracer):
        momentum = number_in("momentum", momentum, 0, 1, such_as=0.9, closed=True)
    return settable(optax.sgd, learning_rate=learning_rate, momentum=momentum)
