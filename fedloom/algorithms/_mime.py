"""Mime and MimeLite: local steps with the state that an optimizer has on the server, so that they mimic centralized training.

Paper: Karimireddy et al. 2020 (arXiv:2008.03606), Algorithm 1, whose symbols are used below. A base optimizer is a pair: from a gradient
and the optimizer's state s, U gives the step and V the next state. Clients take steps with U and leave s alone; the server moves s once a
round, with V and the mean gradient at the weights x that it sent.
Differs from it: means are weighted by client, and a server optimizer may take the place of the plain mean of the y_i.
With care: the name `base_optimizer`, which hyperparameters and saved states go by.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedloom import optimizers
from fedloom.core import (
    Algorithm,
    Carry,
    ClientOutput,
    ClientWork,
    Contribution,
    Model,
    ModelWeights,
    Params,
    Pass,
    Prelude,
    PyTree,
    hyperparameters,
    with_hyperparameters,
)

from ._full_gradient import FullGradient, full_gradient_work, no_gradient
from ._training import LocalState, Schedule, check_schedule, local_step, server_step, update_of
from ._weights import ClientWeight, resolve_client_weight


class MimeState(NamedTuple):
    """The server, between rounds."""

    weights: ModelWeights  # x
    base_optimizer: PyTree  # s
    server_optimizer: PyTree  # its state


class MimeMessage(NamedTuple):
    """What the server sends a client."""

    weights: ModelWeights  # x
    base_optimizer: PyTree  # s, with the learning rate of this round
    mean_gradient: Params = ()  # c, for Mime only


class MimeLiteLocal(NamedTuple):
    """A client at work."""

    gradient: FullGradient  # grad f_i(x), from the first pass
    training: LocalState  # y_i, from the second; its RNN state is that of both passes


class MimeLocal(NamedTuple):
    """A client at work."""

    training: LocalState  # y_i
    carry_at_x: Carry  # the RNN state that x would have


class MimeLiteValue(NamedTuple):
    """What a client contributes."""

    update: ModelWeights  # x - y_i
    full_gradient: Params  # grad f_i(x)


def mimelite(
    model: Model,
    base_optimizer: Any = None,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    client_weight: ClientWeight = "num_examples",
    base_schedule: Schedule | None = None,
) -> Algorithm:
    """MimeLite: y_i <- y_i - U(grad f_i(y_i; batch), s) on clients; s <- V(mean of grad f_i(x), s) on the server.

    A client goes over its batches twice: first for grad f_i(x), then to train. If the model carries RNN state, the second pass goes on from
    the state that the first left, as in TFF. With a base optimizer that has no state, such as plain SGD, this is FedAvg.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`; metrics are those of the second pass.
        base_optimizer: (U, V), e.g. `fl.optimizers.sgd(0.1, momentum=0.9)`; s is a part of the server's state. One of fl.optimizers, an
            optax or (for a Keras model) Keras optimizer; None takes the one that the Keras model was compiled with.
        server_optimizer: Is fed the mean update as a gradient; `sgd(1.0)` is the paper's mean of the y_i.
        client_weight: What a client counts for in both means, or a function of its summed metrics, shape () and >= 0.
        base_schedule: The learning rate of the base optimizer by round, counted from 0.

    Returns:
        An `Algorithm`. A client contributes its update and its gradient, each with the tree and shapes of the trainable weights, so an
        aggregator that clips sees the norm of both together. If either is not finite, neither counts.

    Raises:
        ValueError: `client_weight` is not known, there is no base optimizer, or it has no rate that the schedule could set.
    """
    base_optimizer, server_optimizer = model.as_optax(base_optimizer), model.as_optax(server_optimizer)
    check_schedule(base_schedule, base_optimizer, "base_schedule")
    weigh = resolve_client_weight(client_weight)
    u = _without_v(base_optimizer)

    def init(weights):
        return MimeState(weights, base_optimizer.init(weights.trainable), server_optimizer.init(weights.trainable))

    def broadcast(state, round_number):
        return MimeMessage(state.weights, _at_rate(state.base_optimizer, base_schedule, round_number))

    def begin(message, client_state, key):
        return MimeLiteLocal(no_gradient(message.weights), _start(model, message))

    def gradient_step(message, local, batch, key):
        gradient, (metrics, _, carry) = jax.grad(model.loss, has_aux=True)(*message.weights, local.training.carry, batch, key)
        return MimeLiteLocal(local.gradient.plus(gradient, metrics), local.training._replace(carry=carry))

    def training_step(message, local, batch, key):
        return local._replace(training=local_step(model, u, local.training, batch, key))

    def finish(message, local):
        value = MimeLiteValue(update_of(model, message.weights, local.training.weights), local.gradient.mean())
        return ClientOutput(Contribution(value, weigh(local.training.metrics)), local.training.metrics)

    def server_update(state, message, mean):
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, mean.value.update)
        s = _v(base_optimizer, mean.value.full_gradient, message)
        return MimeState(weights, s, opt_state), _rate(message, base_schedule)

    client = ClientWork(begin, (Pass(gradient_step), Pass(training_step)), finish)
    return Algorithm(model, init, client, server_update, broadcast, name="mimelite")


def mime(
    model: Model,
    base_optimizer: Any = None,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    client_weight: ClientWeight = "num_examples",
    base_schedule: Schedule | None = None,
) -> Algorithm:
    """Mime: MimeLite whose local steps are corrected for what sets a client's data apart, as in SVRG.

        c = mean of grad f_i(x) over the cohort
        y_i <- y_i - U(grad f_i(y_i; batch) - grad f_i(x; batch) + c, s) on clients
        s <- V(c, s) on the server

    So where x is optimal for all clients together, c = 0 and it stays there, which FedAvg and MimeLite with several local steps do not. A
    round takes two exchanges with the same clients, the first for c, and two gradients per local step.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`.
        base_optimizer: (U, V), e.g. `fl.optimizers.sgd(0.1, momentum=0.9)`; s is a part of the server's state. One of fl.optimizers, an
            optax or (for a Keras model) Keras optimizer; None takes the one that the Keras model was compiled with.
        server_optimizer: Is fed the mean update as a gradient; `sgd(1.0)` is the paper's mean of the y_i.
        client_weight: What a client counts for in both means, or a function of its summed metrics, shape () and >= 0.
        base_schedule: The learning rate of the base optimizer by round, counted from 0.

    Returns:
        An `Algorithm`. The update is that of `fedavg`; c is a weighted mean, whatever the aggregator of the updates.

    Raises:
        ValueError: `client_weight` is not known, there is no base optimizer, or it has no rate that the schedule could set.
    """
    base_optimizer, server_optimizer = model.as_optax(base_optimizer), model.as_optax(server_optimizer)
    check_schedule(base_schedule, base_optimizer, "base_schedule")
    weigh = resolve_client_weight(client_weight)
    u = _without_v(base_optimizer)

    def init(weights):
        return MimeState(weights, base_optimizer.init(weights.trainable), server_optimizer.init(weights.trainable))

    def broadcast(state, round_number):
        unknown = optax.tree.zeros_like(state.weights.trainable)
        return MimeMessage(state.weights, _at_rate(state.base_optimizer, base_schedule, round_number), unknown)

    def add_mean_gradient(message, mean):
        return message._replace(mean_gradient=mean.value.trainable)

    def begin(message, client_state, key):
        return MimeLocal(_start(model, message), model.init_carry())

    def step(message, local, batch, key):
        # With the key of the step at y_i, and in the prelude: all three gradients see the same dropout.
        at_x, (_, _, carry_at_x) = jax.grad(model.loss, has_aux=True)(*message.weights, local.carry_at_x, batch, key)

        def correct(at_y, y):
            return jax.tree.map(lambda g_y, g_x, c: g_y - g_x + c, at_y, at_x, message.mean_gradient)

        return MimeLocal(local_step(model, u, local.training, batch, key, correct), carry_at_x)

    def finish(message, local):
        update = update_of(model, message.weights, local.training.weights)
        return ClientOutput(Contribution(update, weigh(local.training.metrics)), local.training.metrics)

    def server_update(state, message, mean):
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, mean.value)
        s = _v(base_optimizer, message.mean_gradient, message)
        return MimeState(weights, s, opt_state), _rate(message, base_schedule)

    prelude = Prelude(full_gradient_work(model, weigh), add_mean_gradient)
    return Algorithm(model, init, ClientWork(begin, step, finish), server_update, broadcast, prelude=prelude, name="mime")


def _start(model: Model, message: MimeMessage) -> LocalState:
    """A client before its first batch: y_i = x, and the server's s."""
    return LocalState(message.weights, model.init_carry(), message.base_optimizer, model.init_metrics())


def _without_v(base_optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """U alone: takes steps and leaves its state as it is."""

    def update(updates, state, params=None):
        return base_optimizer.update(updates, state, params)[0], state

    return optax.GradientTransformation(base_optimizer.init, update)


def _v(base_optimizer: optax.GradientTransformation, mean_gradient: Params, message: MimeMessage) -> PyTree:
    """V(c, s): the state after a step on the mean gradient; the step itself is not taken."""
    return base_optimizer.update(mean_gradient, message.base_optimizer, message.weights.trainable)[1]


def _at_rate(s: PyTree, schedule: Schedule | None, round_number: jax.Array) -> PyTree:
    return s if schedule is None else with_hyperparameters(s, {"learning_rate": jnp.float32(schedule(round_number))})


def _rate(message: MimeMessage, schedule: Schedule | None) -> dict[str, Any]:
    return {} if schedule is None else {"base_learning_rate": hyperparameters(message.base_optimizer)["learning_rate"]}
