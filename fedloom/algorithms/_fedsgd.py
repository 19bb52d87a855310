"""Federated SGD: no local training, one server step per round on the gradient over all clients' data.

Paper: McMahan et al. 2017 (arXiv:1602.05629), section 2, "FederatedSGD", whose symbols are used below.
"""

from __future__ import annotations

from typing import Any

from fedloom import optimizers
from fedloom.core import Algorithm, Model

from ._full_gradient import full_gradient_work
from ._training import Message, ServerState, server_step
from ._weights import ClientWeight, resolve_client_weight


def fedsgd(model: Model, server_optimizer: Any = optimizers.sgd(0.1), *, client_weight: ClientWeight = "num_examples") -> Algorithm:
    """Clients send g_k = grad F_k(w_t); the server steps on sum_k (n_k / n) g_k.

    With client weights that say what carries weight in the loss, "num_examples" or, with sample weights, "tokens", this is gradient descent
    on the pooled data of the cohort, whatever the batching. The paper's "FederatedAveraging" with one local step on one batch is the same.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`.
        server_optimizer: Is fed the mean gradient. One of fl.optimizers, an optax or (for a Keras model) Keras optimizer.
        client_weight: What a client counts for in the mean, or a function of its summed metrics, shape () and >= 0.

    Returns:
        An `Algorithm`. A client contributes its gradient, with the tree and shapes of the trainable weights; an empty one zeros with
        weight 0. Statistics that the model lets clients learn (BatchNorm) are averaged with the same weights, without the server optimizer.

    Raises:
        ValueError: `client_weight` is not known, or there is no server optimizer.

    Example:
        On (w - c)^2 / 2 the gradient is w - c, here at w = 0 and averaged over c = 1, 1 and 4:

        >>> import jax.numpy as jnp, fedloom as fl
        >>> model = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, c: w - c, lambda y, error: error**2 / 2)
        >>> process = fl.LearningProcess(fedsgd(model, fl.optimizers.sgd(0.5)), batching=fl.data.Batching(size=2))
        >>> clients = {"ada": {"x": jnp.ones(2), "y": jnp.zeros(2)}, "bob": {"x": jnp.full(1, 4.0), "y": jnp.zeros(1)}}
        >>> state, _ = process.next(process.initialize(), clients)
        >>> float(process.get_weights(state).trainable)
        1.0
    """
    server_optimizer = model.as_optax(server_optimizer)

    def init(weights):
        return ServerState(weights, server_optimizer.init(weights.trainable), {})

    def server_update(state, message, mean):
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, mean.value)
        return state._replace(weights=weights, server_optimizer=opt_state), {}

    return Algorithm(
        model,
        init,
        full_gradient_work(model, resolve_client_weight(client_weight)),
        server_update,
        broadcast=lambda state, round_number: Message(state.weights, {}),
        name="fedsgd",
    )
