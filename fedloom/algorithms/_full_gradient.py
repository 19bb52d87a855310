"""The gradient of a client's whole loss at the weights it received, a batch at a time.

grad f_i(x) = sum_b n_b grad f_b(x) / sum_b n_b, where f_b is the mean loss over a batch and n_b all that carries weight in it: whatever the
batching, it is the gradient of the mean over the client's examples (or tokens), with sample weights too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedloom.core import (
    Carry,
    ClientOutput,
    ClientWork,
    Contribution,
    MetricSums,
    Model,
    ModelWeights,
    Params,
    add_metrics,
    non_trainable_update,
)


class FullGradient(NamedTuple):
    """Over the batches seen so far."""

    total: Params  # sum_b n_b grad f_b(x)
    weight: jax.Array  # sum_b n_b, shape ()

    def plus(self, gradient: Params, metrics: MetricSums) -> FullGradient:
        """With another batch: its gradient, and its sums, which tell n_b."""
        n = metrics["loss"].weight
        return FullGradient(jax.tree.map(lambda total, g: total + n.astype(g.dtype) * g, self.total, gradient), self.weight + n)

    def mean(self) -> Params:
        """grad f_i(x); zeros without any weight, so that an empty client is no failure."""
        divisor = jnp.where(self.weight > 0, self.weight, 1)
        return jax.tree.map(lambda total: total / divisor.astype(total.dtype), self.total)


def no_gradient(weights: ModelWeights) -> FullGradient:
    """Over no batch."""
    return FullGradient(optax.tree.zeros_like(weights.trainable), jnp.float32(0))


class LocalState(NamedTuple):
    """A client at work."""

    gradient: FullGradient
    non_trainable: list[jax.Array]  # statistics, such as BatchNorm's, still move from batch to batch
    carry: Carry  # RNN state
    metrics: MetricSums


def full_gradient_work(model: Model, weigh: Callable[[MetricSums], jax.Array]) -> ClientWork:
    """Client work whose contribution is grad f_i(x), as `ModelWeights` with the update of the statistics that clients learn.

    Args:
        model: Whose loss f is.
        weigh: What a client counts for, from its summed metrics.

    Returns:
        Work for a message with a field `weights`.
    """

    def begin(message, client_state, key):
        return LocalState(no_gradient(message.weights), message.weights.non_trainable, model.init_carry(), model.init_metrics())

    def step(message, local, batch, key):
        x = message.weights.trainable
        gradient, (metrics, non_trainable, carry) = jax.grad(model.loss, has_aux=True)(x, local.non_trainable, local.carry, batch, key)
        return LocalState(local.gradient.plus(gradient, metrics), non_trainable, carry, add_metrics(local.metrics, metrics))

    def finish(message, local):
        learned = non_trainable_update(model, message.weights.non_trainable, local.non_trainable)
        return ClientOutput(Contribution(ModelWeights(local.gradient.mean(), learned), weigh(local.metrics)), local.metrics)

    return ClientWork(begin, step, finish)
