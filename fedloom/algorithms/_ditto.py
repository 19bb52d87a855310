"""Ditto: FedAvg, and for every client weights of its own that stay near the server's.

Paper: Li et al. 2021 (arXiv:2012.04221), Algorithm 1 with FedAvg as its global solver, whose symbols are used below.
Differs from it: local and personal weights take their steps on the same batches, one of each per batch, and any optimizer takes them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedloom import optimizers
from fedloom.core import Algorithm, ClientOutput, ClientWork, Contribution, Model

from ._checks import check_not_negative
from ._training import LocalState, Message, ServerState, local_step, rates_of, server_step, start, update_of
from ._weights import ClientWeight, resolve_client_weight


class DittoLocal(NamedTuple):
    """A client at work."""

    training: LocalState  # w_k, for the server
    personal: LocalState  # v_k, for itself


def ditto(
    model: Model,
    client_optimizer: Any = None,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    lam: float,
    personal_optimizer: Any = None,
    client_weight: ClientWeight = "num_examples",
) -> Algorithm:
    """FedAvg for w, and on every client v_k <- v_k - eta (grad F_k(v_k) + lambda (v_k - w^t)).

    So v_k goes to the minimum of F_k(v) + lambda/2 |v - w^t|^2: with lambda = 0 a client trains alone, with a large one it uses the
    server's weights. `process.personal_weights(state, client)` hands v_k out; it starts from the server's weights of the first round in
    which the client takes part.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`; metrics are those of w.
        client_optimizer: Takes the steps of w; its state starts fresh every round. One of fl.optimizers, an optax or (for a Keras model)
            Keras optimizer; None takes the one that the Keras model was compiled with.
        server_optimizer: Is fed the mean update as a gradient.
        lam: lambda, >= 0, the hyperparameter of this name. lambda times the rate of the personal optimizer should stay well below 1.
        personal_optimizer: Takes the steps of v_k; its state starts fresh every round. None takes another instance of the client optimizer.
        client_weight: What a client counts for in the mean, or a function of its summed metrics, shape () and >= 0.

    Returns:
        An `Algorithm`, whose server and update are those of `fedavg`. Clients keep v_k, with statistics (BatchNorm) of their own.

    Raises:
        ValueError: `lam` is negative or not finite, `client_weight` is not known, or there is no client optimizer.
    """
    check_not_negative("lam", lam, such_as="one such as 0.1, or 0 for clients that train alone")
    client_optimizer, server_optimizer = model.as_optax(client_optimizer), model.as_optax(server_optimizer)
    personal_optimizer = client_optimizer if personal_optimizer is None else model.as_optax(personal_optimizer)
    weigh = resolve_client_weight(client_weight)

    def init(weights):
        rates = {"client_optimizer": rates_of(client_optimizer, weights), "personal_optimizer": rates_of(personal_optimizer, weights)}
        return ServerState(weights, server_optimizer.init(weights.trainable), {**rates, "lam": jnp.float32(lam)})

    def broadcast(state, round_number):
        return Message(state.weights, state.hyperparams)

    def begin(message, v, key):
        training = start(model, client_optimizer, message.weights, message.hyperparams["client_optimizer"])
        return DittoLocal(training, start(model, personal_optimizer, v, message.hyperparams["personal_optimizer"]))

    def step(message, local, batch, key):
        lam, received = message.hyperparams["lam"], message.weights.trainable

        def pull(gradient, v):  # grad F_k(v_k) + lambda (v_k - w^t)
            return jax.tree.map(lambda g, v, w: g + lam.astype(g.dtype) * (v - w), gradient, v, received)

        return DittoLocal(
            local_step(model, client_optimizer, local.training, batch, key),
            local_step(model, personal_optimizer, local.personal, batch, key, pull),
        )

    def finish(message, local):
        update = update_of(model, message.weights, local.training.weights)
        return ClientOutput(Contribution(update, weigh(local.training.metrics)), local.training.metrics, local.personal.weights)

    def server_update(state, message, mean):
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, mean.value)
        return state._replace(weights=weights, server_optimizer=opt_state), {}

    return Algorithm(
        model,
        init,
        ClientWork(begin, step, finish),
        server_update,
        broadcast,
        init_client=lambda weights: weights,
        personal=lambda state, v: v,
        name="ditto",
    )
