"""SCAFFOLD: control variates that take the drift out of local steps.

Paper: Karimireddy et al. 2020 (arXiv:1910.06378), Algorithm 1 with option II, whose symbols are used below.
Differs from it: clients may be weighted, and a server optimizer takes the place of the global step size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedloom import optimizers
from fedloom.core import Algorithm, ClientOutput, ClientWork, Contribution, Model, ModelWeights, Params, PyTree

from ._checks import check_positive
from ._training import Hyperparams, LocalState, local_step, server_step, start, update_of
from ._weights import ClientWeight, resolve_client_weight


class ScaffoldState(NamedTuple):
    """The server, between rounds."""

    weights: ModelWeights  # x
    control: Params  # c
    server_optimizer: PyTree  # its state
    hyperparams: Hyperparams


class ScaffoldMessage(NamedTuple):
    """What the server sends a client."""

    weights: ModelWeights  # x
    control: Params  # c
    hyperparams: Hyperparams


class ScaffoldLocal(NamedTuple):
    """A client at work."""

    training: LocalState  # y_i
    control: Params  # c_i
    steps: jax.Array  # K, so far


class ScaffoldValue(NamedTuple):
    """What a client contributes."""

    update: ModelWeights  # x - y_i
    control: Params  # c_i+ - c_i


def scaffold(
    model: Model,
    client_learning_rate: float,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    population: float,
    client_weight: ClientWeight = "uniform",
) -> Algorithm:
    """Local SGD whose gradients are corrected by what clients remember of their own and the server of everybody's.

        y_i <- y_i - eta_l (g_i(y_i) - c_i + c)
        c_i+ = c_i - c + (x - y_i) / (K eta_l) after K steps: the mean of the client's gradients on its way
        x <- x + mean of (y_i - x);  c <- c + |S| / N mean of (c_i+ - c_i) over the cohort S

    So a fixed point is a stationary point of the objective, whatever K and however different the clients, which FedAvg's is not. Clients
    keep c_i between rounds (from 0), so they must be the same ones that come back: where most take part once, it is FedAvg with old news.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`.
        client_learning_rate: eta_l, > 0. It is the hyperparameter of this name.
        server_optimizer: Is fed the mean update as a gradient; `sgd(s)` is the paper's global step size s. One of fl.optimizers, an optax
            or (for a Keras model) Keras optimizer.
        population: N, the number of clients that may ever take part; with other client weights than "uniform", their total weight. Then c
            is the mean of all c_i with these weights, as long as a client's weight stays the same.
        client_weight: What a client counts for in both means, or a function of its summed metrics, shape () and >= 0.

    Returns:
        An `Algorithm`. A client contributes its update and the change of its control, each with the tree and shapes of the trainable
        weights, so an aggregator that clips sees the norm of both together. It should be a mean: its total weight stands for |S|. Without
        data, or with weight 0, a client keeps its c_i.

    Raises:
        ValueError: `client_learning_rate` or `population` is not above 0, or `client_weight` is not known.
    """
    check_positive("client_learning_rate", client_learning_rate, such_as="one such as 0.1")
    check_positive("population", population, such_as="the number of clients that rounds draw from, or their total weight")
    server_optimizer = model.as_optax(server_optimizer)
    weigh = resolve_client_weight(client_weight)

    def init(weights):
        control = optax.tree.zeros_like(weights.trainable)
        hyperparams = {"client_learning_rate": jnp.float32(client_learning_rate)}
        return ScaffoldState(weights, control, server_optimizer.init(weights.trainable), hyperparams)

    def init_client(weights):
        return optax.tree.zeros_like(weights.trainable)

    def broadcast(state, round_number):
        return ScaffoldMessage(state.weights, state.control, state.hyperparams)

    def begin(message, control, key):
        return ScaffoldLocal(start(model, _sgd(message), message.weights, {}), control, jnp.float32(0))

    def step(message, local, batch, key):
        def correct(gradient, y):
            return jax.tree.map(lambda g, c_i, c: g - (c_i - c), gradient, local.control, message.control)

        return ScaffoldLocal(local_step(model, _sgd(message), local.training, batch, key, correct), local.control, local.steps + 1)

    def finish(message, local):
        update = update_of(model, message.weights, local.training.weights)
        weight = weigh(local.training.metrics)
        # The control of a client that counts for nothing must stay, or c would no longer be the mean of all c_i.
        counts = (local.steps > 0) & (weight > 0)
        way = jnp.where(counts, local.steps * message.hyperparams["client_learning_rate"], 1)  # K eta_l
        change = jax.tree.map(lambda c, d: jnp.where(counts, d / way.astype(d.dtype) - c, 0), message.control, update.trainable)
        control = optax.tree.add(local.control, change)
        return ClientOutput(Contribution(ScaffoldValue(update, change), weight), local.training.metrics, control)

    def server_update(state, message, mean):
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, mean.value.update)
        share = mean.weight / population  # |S| / N
        control = jax.tree.map(lambda c, change: c + share.astype(c.dtype) * change, state.control, mean.value.control)
        return state._replace(weights=weights, control=control, server_optimizer=opt_state), {}

    return Algorithm(model, init, ClientWork(begin, step, finish), server_update, broadcast, init_client, name="scaffold")


def _sgd(message: ScaffoldMessage) -> optax.GradientTransformation:
    return optax.sgd(message.hyperparams["client_learning_rate"])
