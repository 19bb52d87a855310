"""Federated averaging, with any optimizer on the clients and any optax optimizer on the server.

Papers: McMahan et al. 2017 (arXiv:1602.05629), Algorithm 1; Reddi et al. 2021 (arXiv:2003.00295), Algorithm 1, whose symbols are used
below.
Free to change: the body of `step`. With care: the fields of `FedAvgState` (saved runs) and the sign of the update.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from fedloom.core import (
    Algorithm,
    Carry,
    ClientOutput,
    ClientWork,
    Contribution,
    MetricSums,
    Model,
    ModelWeights,
    PyTree,
    add_metrics,
    apply_non_trainable,
    non_trainable_update,
)

from ._weights import ClientWeight, resolve_client_weight


class FedAvgState(NamedTuple):
    weights: ModelWeights  # x_t
    opt_state: PyTree  # of the server optimizer


class LocalState(NamedTuple):
    weights: ModelWeights  # x_{i,k}
    carry: Carry  # RNN state
    opt_state: PyTree  # of the client optimizer
    metrics: MetricSums


def fedavg(
    model: Model,
    client_optimizer: Any = None,
    server_optimizer: Any = optax.sgd(1.0),
    *,
    client_weight: ClientWeight = "num_examples",
) -> Algorithm:
    """Local training on each client, then one server step on the weighted mean update.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`.
        client_optimizer: Takes the local steps; its state starts fresh every round. An optax or (for a Keras model) Keras optimizer; None
            takes the one that the Keras model was compiled with.
        server_optimizer: Is fed the mean update as a gradient: `sgd(1.0)` is FedAvg, `adam` is FedAdam (Reddi et al., Algorithm 2).
        client_weight: What a client counts for in the mean, or a function of its summed metrics, shape () and >= 0.

    Returns:
        An `Algorithm`. The update is initial minus trained weights, with the tree and shapes of the trainable weights. Statistics that the
        model lets clients learn (BatchNorm) are averaged with the same weights, without the server optimizer.

    Raises:
        ValueError: `client_weight` is not known, or there is no client optimizer.
    """
    client_optimizer, server_optimizer = model.as_optax(client_optimizer), model.as_optax(server_optimizer)
    weigh = resolve_client_weight(client_weight)

    def init(weights):
        return FedAvgState(weights, server_optimizer.init(weights.trainable))

    def begin(message, key):
        return LocalState(message, model.init_carry(), client_optimizer.init(message.trainable), model.init_metrics())

    def step(message, local, batch, key):
        grads, (metrics, non_trainable, carry) = jax.grad(model.loss, has_aux=True)(*local.weights, local.carry, batch, key)
        updates, opt_state = client_optimizer.update(grads, local.opt_state, local.weights.trainable)
        trainable = optax.apply_updates(local.weights.trainable, updates)
        return LocalState(ModelWeights(trainable, non_trainable), carry, opt_state, add_metrics(local.metrics, metrics))

    def finish(message, local):
        update = ModelWeights(
            optax.tree.sub(message.trainable, local.weights.trainable),  # -Delta_i = x_t - x_{i,K}
            non_trainable_update(model, message.non_trainable, local.weights.non_trainable),
        )
        return ClientOutput(Contribution(update, weigh(local.metrics)), local.metrics)

    def server_update(state, mean_update):
        updates, opt_state = server_optimizer.update(mean_update.trainable, state.opt_state, state.weights.trainable)
        trainable = optax.apply_updates(state.weights.trainable, updates)
        non_trainable = apply_non_trainable(model, state.weights.non_trainable, mean_update.non_trainable)
        return FedAvgState(ModelWeights(trainable, non_trainable), opt_state)

    return Algorithm(model, init, ClientWork(begin, step, finish), server_update)
