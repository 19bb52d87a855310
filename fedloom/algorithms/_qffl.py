"""q-FedAvg: fair federated learning, in which clients with a higher loss count for more.

Paper: Li et al. 2020 (arXiv:1905.10497), Algorithm 2 for the objective (equation 2)
f_q(w) = sum_k p_k F_k(w)^(q+1) / (q+1), whose symbols are used below.
Differs from it: the server may take another step than the plain one, and clients one with another optimizer than gradient descent.
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
    Ratio,
    add_metrics,
    hyperparameters,
)

from ._checks import check_not_negative
from ._training import LocalState, Message, Schedule, ServerState, local_step, rates_of, scheduled, server_step, start, update_of
from ._weights import ClientWeight, resolve_client_weight

SMALLEST_LOSS = 1e-10
"""Added to F_k, as in the paper's experiments: F_k^(q-1) has no value at F_k = 0 for q < 1."""


class QUpdate(NamedTuple):
    """What a client sends: the two parts of a ratio, each of which adds up."""

    Delta: Params  # Delta_k^t
    h: jax.Array  # h_k^t, shape ()
    statistics: list[jax.Array]  # of the non-trainable weights that clients learn: before minus after


class QLocalState(NamedTuple):
    """A client at work."""

    training: LocalState
    loss: Ratio  # F_k(w^t), over the batches so far
    carry: Carry  # RNN state of the model as it was received


def qffl(
    model: Model,
    client_optimizer: Any = None,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    q: float,
    client_weight: ClientWeight = "uniform",
    client_schedule: Schedule | None = None,
) -> Algorithm:
    """FedAvg whose server step is sum_k Delta_k / sum_k h_k, with Delta_k = F_k^q L (w^t - w_k) and L = 1 / learning rate.

    F_k is the loss over all of a client's data at the weights it received, in inference mode. It is added up batch by batch next to the
    training, which costs one more forward pass for each batch but no second exchange: neither the training nor the sums need it before
    the end.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`; the loss must be >= 0.
        client_optimizer: Takes the local steps; its state starts fresh every round. The paper's is `fl.optimizers.sgd`. It must keep its
            `learning_rate` (> 0) in its state, as those of fl.optimizers and Keras do: 1 / learning_rate is L, the estimate of the
            Lipschitz constant of grad F_k.
        server_optimizer: Is fed the step as a gradient.
        q: >= 0; 0 is FedAvg with clients of equal weight, and the larger it is, the more the largest losses decide. It is the
            hyperparameter of this name.
        client_weight: p_k, if clients are drawn with equal chances; "uniform", as here, if they are drawn by p_k, as in the paper.
        client_schedule: The learning rate of the client optimizer by round, counted from 0; L changes with it.

    Returns:
        An `Algorithm`.

    Raises:
        ValueError: `q` is negative or not finite, `client_weight` is not known, or the client optimizer does not keep its rate.
    """
    check_not_negative("q", q, such_as="one such as 1.0, or 0 for FedAvg with clients of equal weight")
    client_optimizer, server_optimizer = model.as_optax(client_optimizer), model.as_optax(server_optimizer)
    if "learning_rate" not in hyperparameters(client_optimizer.init(jnp.zeros(1))):
        raise ValueError(
            "client_optimizer must keep its learning_rate in its state, since q-FedAvg needs L = 1 / learning_rate, got one that does not. "
            "Use one of fl.optimizers or optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)."
        )
    weigh = resolve_client_weight(client_weight)

    def init(weights):
        hyperparams = {"client_optimizer": rates_of(client_optimizer, weights), "q": jnp.float32(q)}
        return ServerState(weights, server_optimizer.init(weights.trainable), hyperparams)

    def broadcast(state, round_number):
        return Message(state.weights, scheduled(state.hyperparams, client_schedule, round_number))

    def begin(message, client_state, key):
        training = start(model, client_optimizer, message.weights, message.hyperparams["client_optimizer"])
        return QLocalState(training, Ratio(jnp.float32(0), jnp.float32(0)), model.init_carry())

    def step(message, local, batch, key):
        sums, carry = model.evaluate(message.weights, local.carry, batch)
        training = local_step(model, client_optimizer, local.training, batch, key)
        return QLocalState(training, add_metrics(local.loss, sums["loss"]), carry)

    def finish(message, local):
        q, L = message.hyperparams["q"], 1 / message.hyperparams["client_optimizer"]["learning_rate"]
        F = local.loss.total / jnp.where(local.loss.weight > 0, local.loss.weight, 1) + SMALLEST_LOSS
        update = update_of(model, message.weights, local.training.weights)
        Delta_w = _times(L, update.trainable)
        Delta = _times(F**q, Delta_w)
        h = q * F ** (q - 1) * optax.tree.norm(Delta_w, squared=True) + L * F**q
        metrics = local.training.metrics
        return ClientOutput(Contribution(QUpdate(Delta, h, update.non_trainable), weigh(metrics)), metrics)

    def server_update(state, message, mean):
        # A ratio of two means with the same weights is the ratio of the sums. h is 0 only if F^q has underflowed at every client.
        Delta, h, statistics = mean.value
        ratio = ModelWeights(_times(1 / jnp.where(h > 0, h, 1), Delta), statistics)
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, ratio)
        return state._replace(weights=weights, server_optimizer=opt_state), {}

    return Algorithm(model, init, ClientWork(begin, step, finish), server_update, broadcast, name="qffl")


def _times(factor, tree: Params) -> Params:
    return jax.tree.map(lambda leaf: factor.astype(leaf.dtype) * leaf, tree)
