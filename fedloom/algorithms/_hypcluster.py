"""HypCluster: several models, of which each client trains the one that fits its data best.

Papers: Mansour et al. 2020 (arXiv:2002.10619), section 3 and its algorithm HypCluster; Ghosh et al. 2020 (arXiv:2006.04088), the same as
IFCA, Algorithm 1, option II (model averaging).
Differs from them: the models start from one set of weights, moved apart at random or given, and a server optimizer may take the step.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedloom import optimizers
from fedloom.core import (
    Algorithm,
    Array,
    Carry,
    ClientOutput,
    ClientWork,
    Contribution,
    Model,
    ModelWeights,
    Pass,
    PyTree,
    Ratio,
    add_metrics,
    hyperparameters,
    with_hyperparameters,
)

from ._checks import check_count, check_not_negative
from ._training import (
    LocalState,
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


class ClusterUpdate(NamedTuple):
    """What a client sends: its update in the place of its cluster, zeros in that of the others."""

    update: ModelWeights  # (K, ...): before minus after
    chosen: jax.Array  # (K,): 1 for its cluster


class ClusterLocalState(NamedTuple):
    """A client at work."""

    training: LocalState
    losses: Ratio  # (K,): of every cluster's weights over the batches so far
    carries: Carry  # (K, ...): RNN state of every cluster's model in the first pass


def hypcluster(
    model: Model,
    client_optimizer: Any = None,
    server_optimizer: Any = optimizers.sgd(1.0),
    *,
    num_clusters: int,
    others: Sequence[Any] | None = None,
    spread: float = 0.1,
    seed: int = 0,
    client_weight: ClientWeight = "num_examples",
    client_schedule: Schedule | None = None,
) -> Algorithm:
    """FedAvg with K models: a client finds the one with the lowest loss on its data, and trains that one.

    It goes over its data twice, to choose and to train. It is sent K models and sends as much, since only a sum of zeros and updates can
    hide which cluster it chose. With one cluster it is `fedavg`.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`; reported are those of the clients' own clusters.
        client_optimizer: Takes the local steps; its state starts fresh every round.
        server_optimizer: Is fed the mean update of each cluster as a gradient; every cluster has a state of its own.
        num_clusters: K.
        others: The weights that clusters 1 to K - 1 start from, each as in `LearningProcess.initialize`; the first starts from those given
            there. None: all start from those, moved apart at random. What is found depends much on the start.
        spread: Standard deviation by which each trainable weight is moved at random for clusters 1 to K - 1. If it is too small, one
            cluster may be the best for all clients, and the others never learn.
        seed: Of these moves.
        client_weight: What a client counts for in the mean of its cluster, or a function of its summed metrics, shape () and >= 0.
        client_schedule: The learning rate of the client optimizer by round, counted from 0.

    Returns:
        An `Algorithm`. It reports `cluster_sizes`, a list with the summed client weights (so examples, by default) of each cluster. A
        cluster that nobody chose stays as it is. The weights of the process, which are also those it evaluates, are cluster 0's; for
        others, see `cluster_weights`.

    Raises:
        ValueError: A number is out of its range, `others` are not K - 1, `client_weight` is not known, there is no client optimizer, or it
            has no rate that the schedule could set.
    """
    check_count("num_clusters", num_clusters)
    check_not_negative("spread", spread, such_as="one such as 0.1, or the clusters' own starts in `others`")
    if others is not None and len(others) != num_clusters - 1:
        raise ValueError(
            f"others must have the weights of {num_clusters - 1} clusters, one less than num_clusters={num_clusters}, got {len(others)}. "
            "The first cluster starts from the weights that the process is initialized with."
        )
    client_optimizer, server_optimizer = model.as_optax(client_optimizer), model.as_optax(server_optimizer)
    check_schedule(client_schedule, client_optimizer, "client_schedule")
    weigh = resolve_client_weight(client_weight)

    def init(weights):
        if others is None:
            keys = jax.random.split(jax.random.key(seed), num_clusters)[1:]
            starts = [weights, *[_moved(weights, spread, key) for key in keys]]
        else:
            starts = [weights, *map(model.weights_from, others)]
        weights_K = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        rates = rates_of(server_optimizer, weights)
        opt_states = with_hyperparameters(jax.vmap(server_optimizer.init)(weights_K.trainable), rates)  # one rate for all clusters
        return ServerState(weights_K, opt_states, {"client_optimizer": rates_of(client_optimizer, weights)})

    def broadcast(state, round_number):
        return Message(state.weights, scheduled(state.hyperparams, client_schedule, round_number))

    def begin(message, client_state, key):
        training = start(model, client_optimizer, _row(message.weights, 0), message.hyperparams["client_optimizer"])
        carries = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_clusters, *leaf.shape)), model.init_carry())
        return ClusterLocalState(training, Ratio(jnp.zeros(num_clusters), jnp.zeros(num_clusters)), carries)

    def choose(message, local, batch, key):
        def evaluate(weights, carry):
            sums, carry = model.evaluate(weights, carry, batch)
            return sums["loss"], carry

        losses, carries = jax.vmap(evaluate)(message.weights, local.carries)
        losses = add_metrics(local.losses, losses)
        best_so_far = _row(message.weights, lowest(losses))  # after the last batch, the best
        return ClusterLocalState(local.training._replace(weights=best_so_far), losses, carries)

    def train(message, local, batch, key):
        return local._replace(training=local_step(model, client_optimizer, local.training, batch, key))

    def finish(message, local):
        k = lowest(local.losses)
        chosen = jax.nn.one_hot(k, num_clusters)
        update = update_of(model, _row(message.weights, k), local.training.weights)
        placed = jax.tree.map(lambda leaf: _along(chosen, leaf[None]).astype(leaf.dtype) * leaf, update)
        metrics = local.training.metrics
        return ClientOutput(Contribution(ClusterUpdate(placed, chosen), weigh(metrics)), metrics)

    def server_update(state, message, mean):
        # Within a cluster, the ratio of two means over all clients is the mean over its own.
        update, share = mean.value
        mean_update = jax.tree.map(lambda leaf: leaf / _along(jnp.where(share > 0, share, 1), leaf).astype(leaf.dtype), update)
        opt_states = state.server_optimizer
        step = jax.vmap(functools.partial(server_step, model, server_optimizer), in_axes=(_axes(opt_states), 0, 0))
        weights, next_states = step(opt_states, state.weights, mean_update)
        next_states = with_hyperparameters(next_states, hyperparameters(opt_states))
        weights, opt_states = jax.tree.map(
            lambda new, old: jnp.where(_along(share > 0, new), new, old) if jnp.ndim(old) else old,
            (weights, next_states),
            (state.weights, opt_states),
        )
        return state._replace(weights=weights, server_optimizer=opt_states), {"cluster_sizes": mean.weight * share}

    def set_weights(state, weights):
        replaced = jax.tree.map(lambda leaf, new: leaf.at[0].set(new), state.weights, weights)
        return state._replace(weights=replaced)

    return Algorithm(
        model,
        init,
        ClientWork(begin, (Pass(choose), Pass(train)), finish),
        server_update,
        broadcast,
        get_weights=lambda state: _row(state.weights, 0),
        set_weights=set_weights,
        name="hypcluster",
    )


def cluster_weights(server: ServerState, k: int) -> ModelWeights:
    """The weights of cluster k, from 0, in the `server` field of a state of `hypcluster`.

    Raises:
        ValueError: There is no such cluster.

    Example:
        >>> import fedloom as fl
        >>> model = fl.models.from_functions(lambda key: jnp.ones(2), lambda w, x: x @ w, lambda y, p: (y - p) ** 2)
        >>> algorithm = hypcluster(model, fl.optimizers.sgd(0.1), num_clusters=2, others=[jnp.zeros(2)])
        >>> cluster_weights(fl.LearningProcess(algorithm).initialize().server, 1).trainable.tolist()
        [0.0, 0.0]
    """
    num_clusters = len(jax.tree.leaves(server.weights)[0])
    if not 0 <= k < num_clusters:
        raise ValueError(f"k must be a cluster in [0, {num_clusters}), got {k}.")
    return _row(server.weights, k)


def _moved(weights: ModelWeights, spread: float, key) -> ModelWeights:
    leaves, tree = jax.tree.flatten(weights.trainable)
    keys = jax.random.split(key, len(leaves))
    moved = [leaf + spread * jax.random.normal(k, leaf.shape, leaf.dtype) for leaf, k in zip(leaves, keys, strict=True)]
    return weights._replace(trainable=tree.unflatten(moved))


def lowest(losses: Ratio) -> jax.Array:
    """The model with the lowest loss, (K,), the first of equals; one whose weights have diverged is the last choice."""
    means = losses.total / jnp.where(losses.weight > 0, losses.weight, 1)
    return jnp.argmin(jnp.where(jnp.isfinite(means), means, jnp.inf))


def _row(tree: PyTree, k) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[k], tree)


def _along(values: jax.Array, leaf: Array) -> jax.Array:
    """(K,) in a shape that goes along the first axis of the leaf."""
    return values.reshape((-1,) + (1,) * (leaf.ndim - 1))


def _axes(opt_states: PyTree) -> PyTree:
    """For vmap: what is kept per cluster has a first axis K, and only hyperparameters, which all share, have no axis."""
    return jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, opt_states)
