"""Federated averaging, with any optimizer on the clients and any optimizer on the server.

Papers: McMahan et al. 2017 (arXiv:1602.05629), Algorithm 1; Reddi et al. 2021 (arXiv:2003.00295), Algorithm 1, whose symbols are used
below.
"""

from __future__ import annotations

from typing import Any

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


def fedavg(
    model: Model,
    client_optimizer: Any = None,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    client_weight: ClientWeight = "num_examples",
    client_schedule: Schedule | None = None,
) -> Algorithm:
    """Local training on each client, then one server step on the weighted mean update.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`.
        client_optimizer: Takes the local steps; its state starts fresh every round. One of fl.optimizers, an optax or (for a Keras model)
            Keras optimizer; None takes the one that the Keras model was compiled with.
        server_optimizer: Is fed the mean update as a gradient: `sgd(1.0)` is FedAvg, `adam` is FedAdam (Reddi et al., Algorithm 2).
        client_weight: What a client counts for in the mean, or a function of its summed metrics, shape () and >= 0.
        client_schedule: The learning rate of the client optimizer by round, counted from 0; it stays the same within a round.

    Returns:
        An `Algorithm`. The update is initial minus trained weights, with the tree and shapes of the trainable weights. Statistics that the
        model lets clients learn (BatchNorm) are averaged with the same weights, without the server optimizer.

    Raises:
        ValueError: `client_weight` is not known, there is no client optimizer, or it has no rate that the schedule could set.
    """
    client_optimizer, server_optimizer = model.as_optax(client_optimizer), model.as_optax(server_optimizer)
    check_schedule(client_schedule, client_optimizer, "client_schedule")
    weigh = resolve_client_weight(client_weight)

    def init(weights):
        return ServerState(weights, server_optimizer.init(weights.trainable), {"client_optimizer": rates_of(client_optimizer, weights)})

    def broadcast(state, round_number):
        return Message(state.weights, scheduled(state.hyperparams, client_schedule, round_number))

    def begin(message, client_state, key):
        return start(model, client_optimizer, message.weights, message.hyperparams["client_optimizer"])

    def step(message, local, batch, key):
        return local_step(model, client_optimizer, local, batch, key)

    def finish(message, local):
        update = update_of(model, message.weights, local.weights)  # -Delta_i = x_t - x_{i,K}
        return ClientOutput(Contribution(update, weigh(local.metrics)), local.metrics)

    def server_update(state, message, mean):
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, mean.value)
        rate = {"client_learning_rate": message.hyperparams["client_optimizer"]["learning_rate"]} if client_schedule else {}
        return state._replace(weights=weights, server_optimizer=opt_state), rate

    return Algorithm(model, init, ClientWork(begin, step, finish), server_update, broadcast, name="fedavg")
