"""FedProx: local training that is held near the server's weights, for clients whose data differ.

Paper: Li et al. 2020 (arXiv:1812.06127), Algorithm 2, whose symbols are used below.
Differs from it: clients are weighted in the mean rather than in the draw, the subproblem is solved by steps of any optimizer rather than to
a given inexactness gamma, and a server optimizer may take the place of the plain mean.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from fedloom import optimizers
from fedloom.core import Algorithm, ClientOutput, ClientWork, Contribution, Model

from ._training import (
    Message,
    Schedule,
    ServerState,
    check_schedule,
    local_step,
    rates_of,
    scheduled,
    server_step,
    start,
    update_of,
)
from ._weights import ClientWeight, resolve_client_weight


def fedprox(
    model: Model,
    client_optimizer: Any = None,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    proximal_strength: float,
    client_weight: ClientWeight = "num_examples",
    client_schedule: Schedule | None = None,
) -> Algorithm:
    """FedAvg whose clients minimize h_k(w; w^t) = F_k(w) + mu/2 |w - w^t|^2 (equation 2 of the paper).

    The first local step is FedAvg's, since it is taken at w^t. mu * learning_rate of the client optimizer should stay well below 1.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`; the reported loss is F_k, without the proximal term.
        client_optimizer: Takes the local steps; its state starts fresh every round. One of fl.optimizers, an optax or (for a Keras model)
            Keras optimizer; None takes the one that the Keras model was compiled with.
        server_optimizer: Is fed the mean update as a gradient.
        proximal_strength: mu, >= 0; 0 is FedAvg. It is the hyperparameter of this name.
        client_weight: What a client counts for in the mean, or a function of its summed metrics, shape () and >= 0.
        client_schedule: The learning rate of the client optimizer by round, counted from 0; it stays the same within a round.

    Returns:
        An `Algorithm`, whose update is that of `fedavg`.

    Raises:
        ValueError: `proximal_strength` is negative or not finite, `client_weight` is not known, there is no client optimizer, or it has no
            rate that the schedule could set.
    """
    if not 0 <= proximal_strength < math.inf:
        raise ValueError(
            f"proximal_strength must be a finite number >= 0, got {proximal_strength}: a negative one would push clients away from the "
            "server's weights. Pass one such as 0.1, or 0 for FedAvg."
        )
    client_optimizer, server_optimizer = model.as_optax(client_optimizer), model.as_optax(server_optimizer)
    check_schedule(client_schedule, client_optimizer, "client_schedule")
    weigh = resolve_client_weight(client_weight)

    def init(weights):
        hyperparams = {"client_optimizer": rates_of(client_optimizer, weights), "proximal_strength": jnp.float32(proximal_strength)}
        return ServerState(weights, server_optimizer.init(weights.trainable), hyperparams)

    def broadcast(state, round_number):
        return Message(state.weights, scheduled(state.hyperparams, client_schedule, round_number))

    def begin(message, client_state, key):
        return start(model, client_optimizer, message.weights, message.hyperparams["client_optimizer"])

    def step(message, local, batch, key):
        mu, received = message.hyperparams["proximal_strength"], message.weights.trainable

        def add_proximal_term(gradient, w):  # grad h_k = grad F_k + mu (w - w^t)
            return jax.tree.map(lambda g, w, w_t: g + mu.astype(g.dtype) * (w - w_t), gradient, w, received)

        return local_step(model, client_optimizer, local, batch, key, add_proximal_term)

    def finish(message, local):
        return ClientOutput(Contribution(update_of(model, message.weights, local.weights), weigh(local.metrics)), local.metrics)

    def server_update(state, message, mean):
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, mean.value)
        rate = {"client_learning_rate": message.hyperparams["client_optimizer"]["learning_rate"]} if client_schedule else {}
        return state._replace(weights=weights, server_optimizer=opt_state), rate

    return Algorithm(model, init, ClientWork(begin, step, finish), server_update, broadcast, name="fedprox")
