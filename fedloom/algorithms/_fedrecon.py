"""Federated reconstruction: weights that never leave a client, and are found anew every time they are needed.

Paper: Singhal et al. 2021 (arXiv:2102.03448), Algorithm 1, whose g and l are the global and local weights here. The default of alternating
batches, and what counts towards metrics and client weights, are those of TFF's `build_fed_recon`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedloom import optimizers
from fedloom.core import (
    Algorithm,
    Batch,
    Carry,
    ClientOutput,
    ClientWork,
    Contribution,
    Key,
    Model,
    Params,
    Pass,
    PyTree,
    ReadBatches,
)

from ._checks import check_count
from ._training import LocalState, Message, ServerState, fresh_state, local_step, rates_of, server_step, start, update_of
from ._weights import ClientWeight, resolve_client_weight


class ReconstructionState(NamedTuple):
    """A client at work."""

    training: LocalState  # its weights are (g, l) in both parts; its optimizer and metrics are those of the second
    carry: Carry  # RNN state of the first part
    opt_state: PyTree  # of the reconstruction optimizer


def fedrecon(
    model: Model,
    local: str | Sequence[str],
    *,
    server_optimizer: Any = optimizers.sgd(1.0),
    client_optimizer: Any = optimizers.sgd(0.1),
    reconstruction_optimizer: Any = optimizers.sgd(0.1),
    recon_epochs: int = 1,
    recon_steps_max: int | None = None,
    post_recon_epochs: int = 1,
    post_recon_steps_max: int | None = None,
    split_dataset: bool = True,
    client_weight: ClientWeight = "num_examples",
) -> Algorithm:
    """FedAvg of the global weights, after each client has reconstructed its local ones with the global ones held fixed.

    The local weights start every round from the values that the process was initialized with. A client keeps nothing between rounds, so it
    need not take part twice, and one that never did can reconstruct its own from its data. Nothing of them is sent.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`. Metrics and client weights are of the second part alone.
        local: Which trainable weights are local: names in `model.names`, in full or a part of the path ("user_embedding", "dense_1").
        server_optimizer: Is fed the mean update of the global weights as a gradient.
        client_optimizer: Takes the steps on the global weights.
        reconstruction_optimizer: Takes the steps on the local weights.
        recon_epochs: Passes over the first part of a client's batches; steps stop at `recon_steps_max`, None is no limit.
        recon_steps_max: See above.
        post_recon_epochs: The same for the second part.
        post_recon_steps_max: See above.
        split_dataset: Whether a client's batches 0, 2, 4, ... are the first part and 1, 3, 5, ... the second; False takes all for both.
        client_weight: What a client counts for in the mean, or a function of its summed metrics, shape () and >= 0. A client with nothing
            in its second part has learned nothing and, by default, counts for nothing.

    Returns:
        An `Algorithm`. Statistics of the model (BatchNorm) are global: fixed in the first part, learned in the second.

    Raises:
        ValueError: A name in `local` is not among the model's, all weights are local, a number is out of its range, or `client_weight` is
            not known.
    """
    for name, value in (("recon_epochs", recon_epochs), ("post_recon_epochs", post_recon_epochs)):
        check_count(name, value)
    for name, value in (("recon_steps_max", recon_steps_max), ("post_recon_steps_max", post_recon_steps_max)):
        if value is not None:
            check_count(name, value)
    client_optimizer, server_optimizer = model.as_optax(client_optimizer), model.as_optax(server_optimizer)
    reconstruction_optimizer = model.as_optax(reconstruction_optimizer)
    weigh = resolve_client_weight(client_weight)
    is_local = local_weights(model, local)
    is_global = tuple(not one for one in is_local)

    def init(weights):
        rates = {"client_optimizer": client_optimizer, "reconstruction_optimizer": reconstruction_optimizer}
        hyperparams = {name: rates_of(optimizer, weights) for name, optimizer in rates.items()}
        return ServerState(weights, server_optimizer.init(weights.trainable), hyperparams)

    def broadcast(state, round_number):
        return Message(state.weights, state.hyperparams)

    def begin(message, client_state, key):
        training = start(model, client_optimizer, message.weights, message.hyperparams["client_optimizer"])
        opt_state = fresh_state(reconstruction_optimizer, message.weights, message.hyperparams["reconstruction_optimizer"])
        return ReconstructionState(training, model.init_carry(), opt_state)

    def reconstruct(message, state, batch, key):
        before = LocalState(state.training.weights, state.carry, state.opt_state, state.training.metrics)
        after = partial_step(model, reconstruction_optimizer, is_local, before, batch, key)
        weights = after.weights._replace(non_trainable=before.weights.non_trainable)
        return ReconstructionState(state.training._replace(weights=weights), after.carry, after.opt_state)

    def train(message, state, batch, key):
        return state._replace(training=partial_step(model, client_optimizer, is_global, state.training, batch, key))

    def finish(message, state):
        update = update_of(model, message.weights, state.training.weights)
        only_global = update._replace(trainable=_leaves_where(is_global, update.trainable))
        return ClientOutput(Contribution(only_global, weigh(state.training.metrics)), state.training.metrics)

    def server_update(state, message, mean):
        before = state.weights.trainable
        mean_update = mean.value._replace(trainable=_with_leaves_where(is_global, mean.value.trainable, before))
        weights, opt_state = server_step(model, server_optimizer, state.server_optimizer, state.weights, mean_update)
        weights = weights._replace(trainable=_choose(is_global, weights.trainable, before))
        return state._replace(weights=weights, server_optimizer=opt_state), {}

    parts = [slice(0, None, 2), slice(1, None, 2)] if split_dataset else [slice(None)] * 2
    work = ClientWork(
        begin,
        (
            Pass(reconstruct, _repeated(parts[0], recon_epochs, recon_steps_max)),
            Pass(train, _repeated(parts[1], post_recon_epochs, post_recon_steps_max)),
        ),
        finish,
    )
    return Algorithm(model, init, work, server_update, broadcast, name="fedrecon")


def local_weights(model: Model, local: str | Sequence[str]) -> tuple[bool, ...]:
    """For each trainable weight, in the order of `model.names`: whether it is local.

    Args:
        model: Has the names.
        local: As in `fedrecon`.

    Raises:
        ValueError: A name is not among the model's, or all weights are local.
    """
    wanted = [local] if isinstance(local, str) else list(local)
    listed = ", ".join(model.names) or "none"
    if unknown := [part for part in wanted if not any(_is_part(part, name) for name in model.names)]:
        raise ValueError(f"local must name trainable weights of the model, got {unknown}; there are: {listed}.")
    is_local = tuple(any(_is_part(part, name) for part in wanted) for name in model.names)
    if all(is_local):
        raise ValueError(f"local must leave some weights to the server, got {wanted}, which is all of: {listed}.")
    return is_local


def partial_step(
    model: Model, optimizer: optax.GradientTransformation, moves: Sequence[bool], local: LocalState, batch: Batch, key: Key
) -> LocalState:
    """A local step on some of the trainable weights; the others have gradient 0 for the optimizer and stay as they are.

    Args:
        model: The model.
        optimizer: Of the client.
        moves: For each trainable weight: whether it takes part.
        local: Where the client is.
        batch: The batch.
        key: Of the step.
    """

    def hold(gradient, weights):
        return _choose(moves, gradient, optax.tree.zeros_like(gradient))

    after = local_step(model, optimizer, local, batch, key, hold)
    # An optimizer may move weights without a gradient too, by weight decay.
    trainable = _choose(moves, after.weights.trainable, local.weights.trainable)
    return after._replace(weights=after.weights._replace(trainable=trainable))


def _repeated(part: slice, epochs: int, steps_max: int | None) -> Callable[[ReadBatches], Iterable[Batch]]:
    def batches(read: ReadBatches) -> Iterable[Batch]:
        passes = (itertools.islice(read(), part.start, part.stop, part.step) for _ in range(epochs))
        return itertools.islice(itertools.chain.from_iterable(passes), steps_max)

    return batches


def _is_part(part: str, name: str) -> bool:
    """Whether it is the name, or whole steps of the path that the name is."""
    return f"/{part}/" in f"/{name}/"


def _choose(where: Sequence[bool], a: Params, b: Params) -> Params:
    """The tree with the leaves of `a` where it says so, and those of `b` elsewhere."""
    leaves, tree = jax.tree.flatten(a)
    return tree.unflatten([x if take else y for take, x, y in zip(where, leaves, jax.tree.leaves(b), strict=True)])


def _leaves_where(where: Sequence[bool], tree: Params) -> list[jax.Array]:
    return [leaf for take, leaf in zip(where, jax.tree.leaves(tree), strict=True) if take]


def _with_leaves_where(where: Sequence[bool], given: list[jax.Array], like: Params) -> Params:
    """A tree with the given leaves in their places, and zeros elsewhere."""
    leaves, tree = jax.tree.flatten(like)
    rest = iter(given)
    return tree.unflatten([next(rest) if take else jnp.zeros_like(leaf) for take, leaf in zip(where, leaves, strict=True)])
