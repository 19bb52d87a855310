"""Local training as most algorithms do it: a client's own weights, steps of an optimizer on its batches, an update at the end.

Free to change: how it is computed. With care: the sign of `update_of`, and the names of hyperparameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedloom.core import (
    Array,
    Batch,
    Carry,
    Key,
    MetricSums,
    Model,
    ModelWeights,
    Params,
    PyTree,
    add_metrics,
    apply_non_trainable,
    hyperparameters,
    non_trainable_update,
    with_hyperparameters,
)

Schedule = Callable[[jax.Array], Any]
"""From the round, counted from 0, to a learning rate, as optax's schedules."""
Hyperparams = dict[str, Any]


class Message(NamedTuple):
    """What the server sends a client."""

    weights: ModelWeights  # x_t
    hyperparams: Hyperparams


class LocalState(NamedTuple):
    """A client at work."""

    weights: ModelWeights  # x_{i,k}
    carry: Carry  # RNN state
    opt_state: PyTree  # of the client optimizer
    metrics: MetricSums


class ServerState(NamedTuple):
    """The server of an algorithm that keeps no more than this between rounds."""

    weights: ModelWeights  # x_t
    server_optimizer: PyTree  # its state
    hyperparams: Hyperparams


def rates_of(optimizer: optax.GradientTransformation, weights: ModelWeights) -> dict[str, Array]:
    """The hyperparameters of a client optimizer, for the server to keep and to send: clients' own state starts fresh every round."""
    return hyperparameters(optimizer.init(weights.trainable))


def fresh_state(optimizer: optax.GradientTransformation, weights: ModelWeights, rates: dict[str, Array]) -> PyTree:
    """The state of a client optimizer at the start of a round."""
    return with_hyperparameters(optimizer.init(weights.trainable), rates)


def scheduled(hyperparams: Hyperparams, schedule: Schedule | None, round_number: jax.Array) -> Hyperparams:
    """The hyperparameters that clients are sent: those of the state, with the client optimizer's learning rate of this round."""
    if schedule is None:
        return hyperparams
    rate = jnp.asarray(schedule(round_number), jnp.float32)
    return {**hyperparams, "client_optimizer": {**hyperparams["client_optimizer"], "learning_rate": rate}}


def check_schedule(schedule: Schedule | None, optimizer: optax.GradientTransformation, argument: str) -> None:
    """Raises ValueError if the optimizer has no rate that a schedule could set."""
    if schedule is not None and "learning_rate" not in hyperparameters(optimizer.init(jnp.zeros(1))):
        raise ValueError(
            f"{argument} needs an optimizer that keeps its learning_rate in its state, so that it can change by round, got one that does "
            "not. Use one of fl.optimizers or optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)."
        )


def start(model: Model, optimizer: optax.GradientTransformation, weights: ModelWeights, rates: dict[str, Array]) -> LocalState:
    """A client before its first batch."""
    return LocalState(weights, model.init_carry(), fresh_state(optimizer, weights, rates), model.init_metrics())


def local_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    local: LocalState,
    batch: Batch,
    key: Key,
    correct: Callable[[Params, Params], Params] = lambda gradient, weights: gradient,
) -> LocalState:
    """One step of the optimizer on a batch.

    Args:
        model: The model.
        optimizer: Of the client.
        local: Where the client is.
        batch: The batch.
        key: Of the step.
        correct: (gradient, trainable weights it was taken at) -> the direction that the optimizer is given.
    """
    gradient, (metrics, non_trainable, carry) = jax.grad(model.loss, has_aux=True)(*local.weights, local.carry, batch, key)
    direction = correct(gradient, local.weights.trainable)
    updates, opt_state = optimizer.update(direction, local.opt_state, local.weights.trainable)
    trainable = optax.apply_updates(local.weights.trainable, updates)
    return LocalState(ModelWeights(trainable, non_trainable), carry, opt_state, add_metrics(local.metrics, metrics))


def update_of(model: Model, before: ModelWeights, after: ModelWeights) -> ModelWeights:
    """What a client sends: weights received minus weights after, and so the negative of most papers' Delta_i."""
    return ModelWeights(
        optax.tree.sub(before.trainable, after.trainable),
        non_trainable_update(model, before.non_trainable, after.non_trainable),
    )


def server_step(
    model: Model, optimizer: optax.GradientTransformation, opt_state: PyTree, weights: ModelWeights, mean_update: ModelWeights
) -> tuple[ModelWeights, PyTree]:
    """One step of the server optimizer, for which the mean update is the gradient; statistics (BatchNorm) are averaged without it."""
    updates, opt_state = optimizer.update(mean_update.trainable, opt_state, weights.trainable)
    trainable = optax.apply_updates(weights.trainable, updates)
    return ModelWeights(trainable, apply_non_trainable(model, weights.non_trainable, mean_update.non_trainable)), opt_state
