"""APFL: every client mixes the server's weights with its own, and learns how much of each.

Paper: Deng et al. 2020 (arXiv:2003.13461), Algorithm 1, whose symbols are used below.
Differs from it: a cohort of any size, means may be weighted, any optimizer takes the steps, and alpha_i, which moves with every step, has
a learning rate of its own and stays in [0, 1].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedloom import optimizers
from fedloom.core import Algorithm, ClientOutput, ClientWork, Contribution, Model, ModelWeights, Params

from ._checks import check_not_negative, check_share
from ._training import LocalState, Message, ServerState, local_step, rates_of, server_step, start, update_of
from ._weights import ClientWeight, resolve_client_weight


class APFLClient(NamedTuple):
    """What a client keeps."""

    weights: ModelWeights  # v_i; the statistics (BatchNorm) are those of the mixed model
    alpha: jax.Array  # alpha_i, shape ()


class APFLLocal(NamedTuple):
    """A client at work."""

    training: LocalState  # w_i
    personal: LocalState  # v_i
    alpha: jax.Array  # alpha_i


def apfl(
    model: Model,
    client_optimizer: Any = None,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    alpha: float = 0.5,
    alpha_learning_rate: float = 0.1,
    personal_optimizer: Any = None,
    client_weight: ClientWeight = "num_examples",
) -> Algorithm:
    """FedAvg for w, and on every client a mixture v'_i = alpha_i v_i + (1 - alpha_i) w_i, trained through v_i and alpha_i.

        w_i <- w_i - eta grad f_i(w_i)
        v_i <- v_i - eta alpha_i grad f_i(v'_i)
        alpha_i <- alpha_i - eta_alpha <v_i - w_i, grad f_i(v'_i)>

    Each line is a step down the gradient of its own variable, all three at the values before the step.
    `process.personal_weights(state, client)` hands out the mixture with the server's w. v_i starts from the server's weights of the first
    round in which the client takes part.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`; metrics are those of w.
        client_optimizer: Takes the steps of w; its state starts fresh every round. One of fl.optimizers, an optax or (for a Keras model)
            Keras optimizer; None takes the one that the Keras model was compiled with.
        server_optimizer: Is fed the mean update as a gradient.
        alpha: Where alpha_i starts, in [0, 1]; 0 is the server's model, 1 a client's own.
        alpha_learning_rate: eta_alpha, >= 0, the hyperparameter of this name; 0 leaves alpha_i where it starts.
        personal_optimizer: Takes the steps of v_i; its state starts fresh every round. None takes another instance of the client optimizer.
        client_weight: What a client counts for in the mean, or a function of its summed metrics, shape () and >= 0.

    Returns:
        An `Algorithm`, whose server and update are those of `fedavg`. Clients keep v_i and alpha_i.

    Raises:
        ValueError: A number is out of its range, `client_weight` is not known, or there is no client optimizer.
    """
    check_share("alpha", alpha, such_as="one such as 0.5")
    check_not_negative("alpha_learning_rate", alpha_learning_rate, such_as="one such as 0.1, or 0 to keep alpha as it is")
    client_optimizer, server_optimizer = model.as_optax(client_optimizer), model.as_optax(server_optimizer)
    personal_optimizer = client_optimizer if personal_optimizer is None else model.as_optax(personal_optimizer)
    weigh = resolve_client_weight(client_weight)

    def init(weights):
        hyperparams = {
            "client_optimizer": rates_of(client_optimizer, weights),
            "personal_optimizer": rates_of(personal_optimizer, weights),
            "alpha_learning_rate": jnp.float32(alpha_learning_rate),
        }
        return ServerState(weights, server_optimizer.init(weights.trainable), hyperparams)

    def init_client(weights):
        return APFLClient(weights, jnp.float32(alpha))

    def broadcast(state, round_number):
        return Message(state.weights, state.hyperparams)

    def begin(message, kept, key):
        training = start(model, client_optimizer, message.weights, message.hyperparams["client_optimizer"])
        rates = message.hyperparams["personal_optimizer"]
        personal = start(model, personal_optimizer, kept.weights, rates)
        return APFLLocal(training, personal, kept.alpha)

    def step(message, local, batch, key):
        w, v, alpha = local.training.weights.trainable, local.personal.weights.trainable, local.alpha
        mixed = _mix(alpha, v, w)
        gradient, (_, non_trainable, carry) = jax.grad(model.loss, has_aux=True)(
            mixed, local.personal.weights.non_trainable, local.personal.carry, batch, key
        )
        direction = jax.tree.map(lambda g: alpha.astype(g.dtype) * g, gradient)
        updates, opt_state = personal_optimizer.update(direction, local.personal.opt_state, v)
        weights = ModelWeights(optax.apply_updates(v, updates), non_trainable)
        slope = jnp.asarray(optax.tree.vdot(optax.tree.sub(v, w), gradient), jnp.float32)
        return APFLLocal(
            local_step(model, client_optimizer, local.training, batch, key),
            local.personal._replace(weights=weights, carry=carry, opt_state=opt_state),
            jnp.clip(alpha - message.hyperparams["alpha_learning_rate"] * slope, 0, 1),
        )

    def finish(message, local):
        update = update_of(model, message.weights, local.training.weights)
        kept = APFLClient(local.personal.weights, local.alpha)
        return ClientOutput(Contribution(update, weigh(local.training.metrics)), local.training.metrics, kept)

    def server_update(state, message, mean):
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, mean.value)
        return state._replace(weights=weights, server_optimizer=opt_state), {}

    def personal(state, kept):
        return kept.weights._replace(trainable=_mix(kept.alpha, kept.weights.trainable, state.weights.trainable))

    return Algorithm(model, init, ClientWork(begin, step, finish), server_update, broadcast, init_client, personal=personal, name="apfl")


def _mix(alpha: jax.Array, v: Params, w: Params) -> Params:
    """alpha v + (1 - alpha) w."""
    return jax.tree.map(lambda v, w: alpha.astype(v.dtype) * v + (1 - alpha).astype(v.dtype) * w, v, w)
