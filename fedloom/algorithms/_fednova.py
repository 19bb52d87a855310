"""FedNova: updates normalized by how far a client's steps could take it, so that clients with many steps do not count for more.

Paper: Wang et al. 2020 (arXiv:2007.07481), section 4, whose symbols are used below; local solvers are SGD, with momentum, with a proximal
term, or with both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedloom import optimizers
from fedloom.core import Algorithm, ClientOutput, ClientWork, Contribution, Model, ModelWeights

from ._checks import check_not_negative, check_positive, check_share
from ._training import LocalState, Message, ServerState, local_step, server_step, start, update_of
from ._weights import ClientWeight, resolve_client_weight


class Coefficients(NamedTuple):
    """Of the gradients g_{i,1}, g_{i,2}, ... in what a client has done so far, summed; each has shape ()."""

    direction: jax.Array  # in the last step, over eta
    update: jax.Array  # in x - y_i, over eta: |a_i|_1


class FedNovaLocal(NamedTuple):
    """A client at work."""

    training: LocalState  # y_i
    coefficients: Coefficients


class FedNovaValue(NamedTuple):
    """What a client contributes."""

    normalized: ModelWeights  # (x - y_i) / |a_i|_1, which is eta d_i; statistics are not normalized
    norm: jax.Array  # |a_i|_1


def fednova(
    model: Model,
    client_learning_rate: float,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    momentum: float = 0.0,
    proximal_strength: float = 0.0,
    client_weight: ClientWeight = "num_examples",
) -> Algorithm:
    """Local SGD and a mean of normalized updates.

        x - y_i = eta sum_k a_{i,k} g_{i,k};  d_i = sum_k a_{i,k} g_{i,k} / |a_i|_1
        x <- x - tau_eff eta sum_i p_i d_i, with tau_eff = sum_i p_i |a_i|_1

    For tau_i plain steps |a_i|_1 = tau_i: FedAvg moves towards the optimum of sum_i p_i tau_i F_i, FedNova towards that of sum_i p_i F_i.
    If all clients take equally many plain steps, it is FedAvg.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`; the reported loss is without the proximal term.
        client_learning_rate: eta, > 0. It is a hyperparameter, as the next two are.
        server_optimizer: Is fed the normalized mean as a gradient; `sgd(1.0)` is the paper's step. One of fl.optimizers, an optax or (for a
            Keras model) Keras optimizer.
        momentum: rho, in [0, 1], of the clients' SGD; it starts anew every round.
        proximal_strength: mu, >= 0: clients minimize F_i(y) + mu/2 |y - x|^2. eta mu should stay well below 1.
        client_weight: p_i before it is divided by the sum over the cohort, or a function of a client's summed metrics, shape () and >= 0.

    Returns:
        An `Algorithm`. A client contributes (x - y_i) / |a_i|_1, with the tree and shapes of the trainable weights, and |a_i|_1, shape ().
        The server reports `tau_eff`.

    Raises:
        ValueError: A number is out of its range, or `client_weight` is not known.
    """
    check_positive("client_learning_rate", client_learning_rate, such_as="one such as 0.1")
    check_share("momentum", momentum, such_as="one such as 0.9, or 0 for plain SGD")
    check_not_negative("proximal_strength", proximal_strength, such_as="one such as 0.1, or 0 for plain SGD")
    server_optimizer = model.as_optax(server_optimizer)
    weigh = resolve_client_weight(client_weight)

    def init(weights):
        hyperparams = {
            "client_learning_rate": jnp.float32(client_learning_rate),
            "momentum": jnp.float32(momentum),
            "proximal_strength": jnp.float32(proximal_strength),
        }
        return ServerState(weights, server_optimizer.init(weights.trainable), hyperparams)

    def broadcast(state, round_number):
        return Message(state.weights, state.hyperparams)

    def begin(message, client_state, key):
        return FedNovaLocal(start(model, _sgd(message), message.weights, {}), Coefficients(jnp.float32(0), jnp.float32(0)))

    def step(message, local, batch, key):
        mu, x = message.hyperparams["proximal_strength"], message.weights.trainable

        def add_proximal_term(gradient, y):
            return jax.tree.map(lambda g, y, x: g + mu.astype(g.dtype) * (y - x), gradient, y, x)

        training = local_step(model, _sgd(message), local.training, batch, key, add_proximal_term)
        return FedNovaLocal(training, _after_step(local.coefficients, message))

    def finish(message, local):
        update, norm = update_of(model, message.weights, local.training.weights), local.coefficients.update
        divisor = jnp.where(norm == 0, 1, norm)  # no step, no update
        normalized = jax.tree.map(lambda d: d / divisor.astype(d.dtype), update.trainable)
        value = FedNovaValue(update._replace(trainable=normalized), norm)
        return ClientOutput(Contribution(value, weigh(local.training.metrics)), local.training.metrics)

    def server_update(state, message, mean):
        tau_eff, normalized = mean.value.norm, mean.value.normalized
        update = normalized._replace(trainable=jax.tree.map(lambda d: tau_eff.astype(d.dtype) * d, normalized.trainable))
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, update)
        return state._replace(weights=weights, server_optimizer=opt_state), {"tau_eff": tau_eff}

    return Algorithm(model, init, ClientWork(begin, step, finish), server_update, broadcast, name="fednova")


def _sgd(message: Message) -> optax.GradientTransformation:
    """u <- rho u + g + mu (y - x);  y <- y - eta u."""
    rate, rho = message.hyperparams["client_learning_rate"], message.hyperparams["momentum"]
    return optax.sgd(rate, rho, accumulator_dtype=jnp.float32)  # what rho, an array, would make of half precision anyway


def _after_step(sums: Coefficients, message: Message) -> Coefficients:
    """The rule of `_sgd`, applied to the coefficients: that of a new gradient is 1, and y - x has -eta |a_i|_1.

    Without momentum and proximal term |a_i|_1 grows by 1 a step. The closed forms of the paper's section 4 for either of them follow.
    """
    eta, rho, mu = (message.hyperparams[name] for name in ("client_learning_rate", "momentum", "proximal_strength"))
    direction = rho * sums.direction + 1 - mu * eta * sums.update
    return Coefficients(direction, sums.update + direction)
