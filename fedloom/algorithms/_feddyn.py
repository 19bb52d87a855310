"""FedDyn: a regularizer that each client adapts from round to round, so that its own optimum comes to agree with everybody's.

Paper: Acar et al. 2021 (arXiv:2111.04263), Algorithm 1, whose symbols are used below.
Differs from it: the local problem is solved by steps of any optimizer rather than exactly, and clients may be weighted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedloom.core import Algorithm, ClientOutput, ClientWork, Contribution, Model, ModelWeights, Params, apply_non_trainable

from ._checks import check_positive
from ._training import Hyperparams, LocalState, Message, Schedule, check_schedule, local_step, rates_of, scheduled, start, update_of
from ._weights import ClientWeight, resolve_client_weight


class FedDynState(NamedTuple):
    """The server, between rounds."""

    weights: ModelWeights  # theta^t
    h: Params  # h^t
    hyperparams: Hyperparams


class FedDynLocal(NamedTuple):
    """A client at work."""

    training: LocalState  # theta_k
    gradient: Params  # grad L_k(theta_k) as of its last round, written g_k below


def feddyn(
    model: Model,
    client_optimizer: Any = None,
    *,
    alpha: float,
    population: float,
    client_weight: ClientWeight = "uniform",
    client_schedule: Schedule | None = None,
) -> Algorithm:
    """Clients minimize a dynamically regularized loss; the server corrects the mean of what they find.

        theta_k = argmin of L_k(theta) - <g_k, theta> + alpha/2 |theta - theta^t|^2
        g_k <- g_k - alpha (theta_k - theta^t), which is grad L_k(theta_k) if theta_k is that minimum
        h <- h - alpha / m sum over the cohort of (theta_k - theta^t)
        theta^(t+1) = mean of theta_k - h / alpha

    So a fixed point is a stationary point of the objective, however different the clients and however long they train. Clients keep g_k
    between rounds (from 0), so they must be the same ones that come back.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`; the reported loss is L_k.
        client_optimizer: Takes the local steps; its state starts fresh every round. One of fl.optimizers, an optax or (for a Keras model)
            Keras optimizer; None takes the one that the Keras model was compiled with. Its rate times alpha should stay well below 1.
        alpha: > 0, the hyperparameter of this name: the smaller, the longer the steps of clients and server.
        population: m, the number of clients that may ever take part; with other client weights than "uniform", their total weight.
        client_weight: What a client counts for in the mean and in h, or a function of its summed metrics, shape () and >= 0.
        client_schedule: The learning rate of the client optimizer by round, counted from 0; it stays the same within a round.

    Returns:
        An `Algorithm`, whose update is that of `fedavg`. The aggregator should be a mean: its total weight stands for the size of the
        cohort. Without data, or with weight 0, a client keeps its g_k.

    Raises:
        ValueError: `alpha` or `population` is not above 0, `client_weight` is not known, there is no client optimizer, or it has no rate
            that the schedule could set.
    """
    check_positive("alpha", alpha, such_as="one such as 0.1")
    check_positive("population", population, such_as="the number of clients that rounds draw from, or their total weight")
    client_optimizer = model.as_optax(client_optimizer)
    check_schedule(client_schedule, client_optimizer, "client_schedule")
    weigh = resolve_client_weight(client_weight)

    def init(weights):
        hyperparams = {"client_optimizer": rates_of(client_optimizer, weights), "alpha": jnp.float32(alpha)}
        return FedDynState(weights, optax.tree.zeros_like(weights.trainable), hyperparams)

    def init_client(weights):
        return optax.tree.zeros_like(weights.trainable)

    def broadcast(state, round_number):
        return Message(state.weights, scheduled(state.hyperparams, client_schedule, round_number))

    def begin(message, gradient, key):
        return FedDynLocal(start(model, client_optimizer, message.weights, message.hyperparams["client_optimizer"]), gradient)

    def step(message, local, batch, key):
        alpha, received = message.hyperparams["alpha"], message.weights.trainable

        def regularize(gradient, theta):  # grad L_k - g_k + alpha (theta - theta^t)
            return jax.tree.map(
                lambda g, g_k, theta, theta_t: g - g_k + alpha.astype(g.dtype) * (theta - theta_t),
                gradient,
                local.gradient,
                theta,
                received,
            )

        return local._replace(training=local_step(model, client_optimizer, local.training, batch, key, regularize))

    def finish(message, local):
        update = update_of(model, message.weights, local.training.weights)  # theta^t - theta_k
        weight = weigh(local.training.metrics)
        # A client that counts for nothing must not change, since h does not learn of it.
        alpha = jnp.where(weight > 0, message.hyperparams["alpha"], 0)
        gradient = jax.tree.map(lambda g_k, d: g_k + alpha.astype(d.dtype) * d, local.gradient, update.trainable)
        return ClientOutput(Contribution(update, weight), local.training.metrics, gradient)

    def server_update(state, message, mean):
        alpha, share = message.hyperparams["alpha"], mean.weight / population  # |P_t| / m
        h = jax.tree.map(lambda h, d: h + (share * alpha).astype(h.dtype) * d, state.h, mean.value.trainable)
        trainable = jax.tree.map(
            lambda theta, d, h: theta - d - h / alpha.astype(h.dtype), state.weights.trainable, mean.value.trainable, h
        )
        weights = ModelWeights(trainable, apply_non_trainable(model, state.weights.non_trainable, mean.value.non_trainable))
        rate = {"client_learning_rate": message.hyperparams["client_optimizer"]["learning_rate"]} if client_schedule else {}
        return state._replace(weights=weights, h=h), rate

    return Algorithm(model, init, ClientWork(begin, step, finish), server_update, broadcast, init_client, name="feddyn")
