"""Adam, AdamW and Yogi, which differ in one line each.

Papers: Kingma and Ba 2015 (arXiv:1412.6980), whose symbols are used below; Loshchilov and Hutter 2019 (arXiv:1711.05101); Zaheer et al.
2018 (NeurIPS).
Free to change: the rules of v. With care: `_one_minus_power`, whose digits the first steps need.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ._settable import number_in, settable


def adam(
    learning_rate: optax.ScalarOrSchedule, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: jax.typing.ArrayLike = 1e-7
) -> optax.GradientTransformation:
    """Adam in the order that the paper gives at the end of section 2, before Algorithm 1.

        m <- beta_1 * m + (1 - beta_1) * g
        v <- beta_2 * v + (1 - beta_2) * g^2
        w <- w - learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    So epsilon is not bias-corrected: it acts as epsilon / sqrt(1 - beta_2^t) would in Algorithm 1 and in `optax.adam`, 32 times as much in
    the first step. Keras' rule is this one.

    Args:
        learning_rate: >= 0, or a function of the step, from 0.
        beta_1: In [0, 1).
        beta_2: In [0, 1).
        epsilon: >= 0.

    Raises:
        ValueError: A number is out of range.

    Example:
        The first step has the length of the rate, whatever the gradient's:

        >>> import jax
        >>> optimizer = adam(0.125)
        >>> state = optimizer.init(jax.numpy.zeros(2))
        >>> updates, state = optimizer.update(jax.numpy.array([3.0, -700.0]), state)
        >>> updates.round(5).tolist()
        [-0.125, 0.125]

        Its rate is a number in the state, to be read and replaced:

        >>> state.hyperparams["learning_rate"].item()
        0.125
    """
    direction = _direction(beta_1, beta_2, _adam_v)

    def rule(learning_rate, epsilon):
        return optax.chain(direction(epsilon), optax.scale_by_learning_rate(learning_rate))

    return settable(rule, learning_rate=learning_rate, epsilon=epsilon)


def adamw(
    learning_rate: optax.ScalarOrSchedule,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: jax.typing.ArrayLike = 1e-7,
    weight_decay: jax.typing.ArrayLike = 0.004,
) -> optax.GradientTransformation:
    """Adam with decoupled decay: w <- w - learning_rate * (Adam's direction + weight_decay * w), on every weight, biases too.

    Loshchilov and Hutter 2019, Algorithm 2, whose lambda is learning_rate * weight_decay here. `optax.adamw` has another epsilon (see
    `adam`) and decays by 1e-4.

    Args:
        learning_rate: >= 0, or a function of the step, from 0.
        beta_1: In [0, 1).
        beta_2: In [0, 1).
        epsilon: >= 0.
        weight_decay: >= 0.

    Raises:
        ValueError: A number is out of range; or, from `update`, the weights are not passed.
    """
    direction = _direction(beta_1, beta_2, _adam_v)

    def rule(learning_rate, epsilon, weight_decay):
        return optax.chain(direction(epsilon), optax.add_decayed_weights(weight_decay), optax.scale_by_learning_rate(learning_rate))

    return settable(rule, learning_rate=learning_rate, epsilon=epsilon, weight_decay=weight_decay)


def yogi(
    learning_rate: optax.ScalarOrSchedule,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: jax.typing.ArrayLike = 1e-3,
    initial_preconditioner_value: float = 1e-6,
) -> optax.GradientTransformation:
    """Adam with v <- v + (1 - beta_2) * sign(g^2 - v) * g^2, whose step does not depend on how far v is off.

    Zaheer et al. 2018, Algorithm 2. The paper corrects no bias; TFF corrects it as in `adam`, epsilon left out. `optax.yogi` corrects
    epsilon too, and starts m, not only v, from 1e-6.

    Args:
        learning_rate: >= 0, or a function of the step, from 0; TFF advises ten times Adam's.
        beta_1: In [0, 1).
        beta_2: In [0, 1).
        epsilon: >= 0.
        initial_preconditioner_value: What v starts from, >= 0; m starts from 0.

    Raises:
        ValueError: A number is out of range.
    """
    direction = _direction(beta_1, beta_2, _yogi_v, initial_preconditioner_value)

    def rule(learning_rate, epsilon):
        return optax.chain(direction(epsilon), optax.scale_by_learning_rate(learning_rate))

    return settable(rule, learning_rate=learning_rate, epsilon=epsilon)


def _adam_v(v, g, beta_2):
    return beta_2 * v + (1 - beta_2) * g**2


def _yogi_v(v, g, beta_2):
    return v + (1 - beta_2) * jnp.sign(g**2 - v) * g**2


def _direction(
    beta_1: float, beta_2: float, next_v: Callable[..., jax.Array], initial_preconditioner_value: float = 0.0
) -> Callable[[jax.Array], optax.GradientTransformation]:
    """From epsilon: sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon), with v <- next_v(v, g, beta_2)."""
    beta_1 = number_in("beta_1", beta_1, 0, 1, such_as=0.9)
    beta_2 = number_in("beta_2", beta_2, 0, 1, such_as=0.999)
    start = number_in("initial_preconditioner_value", initial_preconditioner_value, 0, math.inf, such_as=1e-6)

    def init(params):
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), optax.tree.full_like(params, start))

    def direction(epsilon):
        def update(updates, state, params=None):
            t = state.count + 1
            m = jax.tree.map(lambda m, g: beta_1 * m + (1 - beta_1) * g, state.mu, updates)
            v = jax.tree.map(lambda v, g: next_v(v, g, beta_2), state.nu, updates)
            correction = jnp.sqrt(_one_minus_power(beta_2, t)) / _one_minus_power(beta_1, t)
            return jax.tree.map(lambda m, v: correction * m / (jnp.sqrt(v) + epsilon), m, v), optax.ScaleByAdamState(t, m, v)

        return optax.GradientTransformation(init, update)

    return direction


def _one_minus_power(beta: float, t: jax.Array) -> jax.Array:
    """1 - beta^t, shape (), to the last digits of float32; computed as written, 1 - 0.999 is off by 2e-5 of itself."""
    log = math.log(beta) if beta else -math.inf  # in float64
    return -jnp.expm1(t.astype(jnp.float32) * log)
