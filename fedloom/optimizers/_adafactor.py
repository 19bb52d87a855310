"""Adafactor.

Paper: Shazeer and Stern 2018 (arXiv:1804.04235), Algorithms 4 and 5, whose symbols are used below.
Free to change: nothing that is in the paper. With care: the oddity of TFF's relative step, which its numbers need.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedloom.core import PyTree

from ._settable import number_in, settable


class FactoredMoment(NamedTuple):
    row: jax.Array  # R_t: means over the last axis
    column: jax.Array  # C_t: means over the last but one


class AdafactorState(NamedTuple):
    count: jax.Array  # t
    moments: PyTree  # for each weight V_t, or a FactoredMoment if it has two axes or more


def adafactor(
    learning_rate: optax.ScalarOrSchedule,
    *,
    beta_2_decay: float = -0.8,
    epsilon_1: jax.typing.ArrayLike = 1e-30,
    epsilon_2: jax.typing.ArrayLike = 1e-3,
    clip_threshold: jax.typing.ArrayLike = 1.0,
    relative_step: bool = True,
) -> optax.GradientTransformation:
    """Adafactor: steps relative to the size of each weight array, with second moments kept as row and column means.

        beta_2 = 1 - t^beta_2_decay
        V <- beta_2 * V + (1 - beta_2) * (g^2 + epsilon_1)                      # one axis at most
        R, C <- the same of the means of g^2 + epsilon_1 over the last axis, the last but one; V = R C^T / mean(R)
        u = g / sqrt(V), divided by max(1, rms(u) / clip_threshold)
        w <- w - max(epsilon_2, rms(w)) * min(rate, sqrt(t)) * u

    where rate is min(learning_rate, 1 / sqrt(t)) if `relative_step`, else learning_rate. The bound sqrt(t) is TFF's, not the paper's; it
    matters for rates over 1 without a relative step. `optax.adafactor` factors the two largest axes, if both are of 128 or more, and has
    no relative step.

    Args:
        learning_rate: >= 0, or a function of the step, from 0. The paper's is 0.01 with a relative step.
        beta_2_decay: At most 0.
        epsilon_1: >= 0.
        epsilon_2: >= 0.
        clip_threshold: > 0.
        relative_step: Whether the rate falls as 1 / sqrt(t).

    Raises:
        ValueError: A number is out of range; or, from `update`, the weights are not passed.
    """
    beta_2_decay = number_in("beta_2_decay", beta_2_decay, -math.inf, 0, such_as=-0.8, closed=True)
    if isinstance(clip_threshold, (int, float)) and clip_threshold == 0:
        raise ValueError("clip_threshold must be > 0, got 0. Pass one such as 1.0, or a large one such as 1e9 not to clip.")

    def init(params):
        return AdafactorState(jnp.zeros((), jnp.int32), jax.tree.map(_zero_moment, params))

    def rule(learning_rate, epsilon_1, epsilon_2, clip_threshold):
        def update(updates, state, params=None):
            if params is None:
                raise ValueError("adafactor scales its steps by the weights, got None for them. Call update(gradients, state, weights).")
            count = state.count + 1
            t = count.astype(jnp.float32)
            rest = t**beta_2_decay  # 1 - beta_2

            def next_moment(g, moment):
                square = g**2 + epsilon_1
                if isinstance(moment, FactoredMoment):
                    square = FactoredMoment(square.mean(axis=-1), square.mean(axis=-2))
                return jax.tree.map(lambda old, new: (1 - rest) * old + rest * new, moment, square)

            def step(g, moment, w):
                u = g / jnp.sqrt(_second_moment(moment))
                u = u / jnp.maximum(1, _rms(u) / clip_threshold)
                rate = jnp.minimum(learning_rate, 1 / jnp.sqrt(t)) if relative_step else learning_rate
                return -jnp.maximum(epsilon_2, _rms(w)) * jnp.minimum(rate, jnp.sqrt(t)) * u

            moments = jax.tree.map(next_moment, updates, state.moments)
            return jax.tree.map(step, updates, moments, params), AdafactorState(count, moments)

        return optax.GradientTransformation(init, update)

    return settable(rule, learning_rate=learning_rate, epsilon_1=epsilon_1, epsilon_2=epsilon_2, clip_threshold=clip_threshold)


def _zero_moment(w: jax.Array) -> jax.Array | FactoredMoment:
    if w.ndim < 2:
        return jnp.zeros_like(w)
    return FactoredMoment(jnp.zeros(w.shape[:-1], w.dtype), jnp.zeros((*w.shape[:-2], w.shape[-1]), w.dtype))


def _second_moment(moment: jax.Array | FactoredMoment) -> jax.Array:
    if not isinstance(moment, FactoredMoment):
        return moment
    row = moment.row / moment.row.mean(axis=-1, keepdims=True)
    return row[..., None] * moment.column[..., None, :]


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(x**2))
