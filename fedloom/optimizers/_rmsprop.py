"""RMSprop."""

from __future__ import annotations

import jax
import optax

from ._settable import number_in, settable


def rmsprop(
    learning_rate: optax.ScalarOrSchedule, decay: float = 0.9, epsilon: jax.typing.ArrayLike = 1e-7
) -> optax.GradientTransformation:
    """RMSprop: v <- decay * v + (1 - decay) * g^2; w <- w - learning_rate * g / (sqrt(v) + epsilon).

    Tieleman and Hinton 2012, lecture 6.5. `optax.rmsprop` has epsilon inside the root, and 1e-8.

    Args:
        learning_rate: >= 0, or a function of the step, from 0.
        decay: In [0, 1).
        epsilon: >= 0.

    Raises:
        ValueError: A number is out of range.
    """
    decay = number_in("decay", decay, 0, 1, such_as=0.9)

    def rule(learning_rate, epsilon):
        return optax.rmsprop(learning_rate, decay, epsilon, eps_in_sqrt=False)

    return settable(rule, learning_rate=learning_rate, epsilon=epsilon)
