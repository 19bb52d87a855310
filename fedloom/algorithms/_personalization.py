"""Evaluation of personalized models: on each client, train on one part of its data, and evaluate on another before and after.

Paper: Wang et al. 2019 (arXiv:1910.10252), section 3: a strategy turns the server's weights and a client's training data into weights for
that client. The client keeps nothing, and nothing is learned from it.
Free to change: the strategies, to which users may add their own. With care: what each strategy sees, which is the training part only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedloom.core import (
    Algorithm,
    Array,
    Batch,
    ClientOutput,
    ClientWork,
    Contribution,
    Evaluated,
    Key,
    Model,
    ModelWeights,
    Pass,
    PyTree,
    begin_evaluation,
    evaluate_batch,
)

from ._fedrecon import local_weights, partial_step
from ._hypcluster import lowest
from ._training import local_step, start

BASELINE = "baseline"


class Received(NamedTuple):
    """What a strategy gets from the server."""

    weights: ModelWeights
    sent: PyTree  # what else the strategy wants sent


class Strategy(NamedTuple):
    """A way to personalize: as a client's training, with weights at the end instead of an update."""

    begin: Callable[[Received, Key], PyTree]  # -> local state
    step: Callable[[Received, PyTree, Batch, Key], PyTree]  # for every batch of the client's training part
    weights: Callable[[Received, PyTree], ModelWeights]  # what is evaluated; of a client without training data, of what `begin` gave
    sent: PyTree = ()  # arrays that clients need besides the weights; others in their place compile nothing anew


class PersonalizationMessage(NamedTuple):
    """What the server sends a client."""

    weights: ModelWeights
    sent: dict[str, PyTree]  # by strategy


class PersonalizationLocal(NamedTuple):
    """A client at work."""

    trained: dict[str, PyTree]  # local state by strategy
    evaluated: dict[str, Evaluated]  # by strategy, and the baseline
    num_train_examples: Array


def personalization(model: Model, strategies: Mapping[str, Strategy]) -> Algorithm:
    """All strategies side by side, on the same batches in the same order: a first pass trains, a second one evaluates.

    A client's `read("train")` and `read("test")` give its two parts. It contributes nothing; what counts is its report, whose metrics are
    `num_train_examples`, of all batches it trained on, and under `models` the sums over its test part, by strategy, with those of the
    weights as they were received under "baseline".

    Args:
        model: The model.
        strategies: By name.

    Raises:
        ValueError: There is no strategy, or one is called "baseline".
    """
    if not strategies or BASELINE in strategies:
        raise ValueError(
            f'strategies must name at least one strategy, and none of them "{BASELINE}", got {list(strategies)}. Try for example '
            '{"sgd": fl.algorithms.fine_tune(model, fl.optimizers.sgd(0.1))}.'
        )

    def received(message, name):
        return Received(message.weights, message.sent[name])

    def begin(message, client_state, key):
        trained = {name: strategy.begin(received(message, name), key) for name, strategy in strategies.items()}
        return PersonalizationLocal(trained, {name: begin_evaluation(model) for name in (BASELINE, *strategies)}, jnp.float32(0))

    def train(message, local, batch, key):
        trained = {name: one.step(received(message, name), local.trained[name], batch, key) for name, one in strategies.items()}
        return local._replace(trained=trained, num_train_examples=local.num_train_examples + batch.real.sum())

    def test(message, local, batch, key):
        weights = {name: strategy.weights(received(message, name), local.trained[name]) for name, strategy in strategies.items()}
        weights[BASELINE] = message.weights
        return local._replace(
            evaluated={name: evaluate_batch(model, weights[name], so_far, batch) for name, so_far in local.evaluated.items()}
        )

    def finish(message, local):
        metrics = {
            "num_train_examples": local.num_train_examples,
            "models": {name: one.metrics for name, one in local.evaluated.items()},
        }
        return ClientOutput(Contribution((), jnp.float32(0)), metrics)

    parts = (Pass(train, lambda read: read("train")), Pass(test, lambda read: read("test")))
    return Algorithm(
        model,
        init=lambda weights: PersonalizationMessage(weights, {name: strategy.sent for name, strategy in strategies.items()}),
        client=ClientWork(begin, parts, finish),
        server_update=lambda state, message, aggregate: (state, {}),
        broadcast=lambda state, round_number: state,
        name="personalization",
    )


def fine_tune(model: Model, optimizer: Any = None) -> Strategy:
    """Training of all weights from the server's; how long it takes is up to the batching (epochs, at most so many batches).

    Args:
        model: The model.
        optimizer: As the client optimizer of `fedavg`.
    """
    optimizer = model.as_optax(optimizer)
    return Strategy(
        begin=lambda received, key: start(model, optimizer, received.weights, {}),
        step=lambda received, local, batch, key: local_step(model, optimizer, local, batch, key),
        weights=lambda received, local: local.weights,
    )


def reconstruct(model: Model, local: str | Sequence[str], optimizer: Any = None) -> Strategy:
    """Training of the local weights alone, as clients of `fedrecon` do before they use the model.

    Args:
        model: The model.
        local: Which trainable weights are local, as in `fedrecon`.
        optimizer: The reconstruction optimizer, as the client optimizer of `fedavg`.

    Raises:
        ValueError: A name in `local` is not among the model's, or all weights are local.
    """
    optimizer, is_local = model.as_optax(optimizer), local_weights(model, local)

    def step(received, state, batch, key):
        after = partial_step(model, optimizer, is_local, state, batch, key)
        return after._replace(weights=after.weights._replace(non_trainable=received.weights.non_trainable))

    return Strategy(
        begin=lambda received, key: start(model, optimizer, received.weights, {}),
        step=step,
        weights=lambda received, state: state.weights,
    )


def choose_best(model: Model, candidates: Sequence[Any]) -> Strategy:
    """The one of several models with the lowest loss on the training part, as clients of `hypcluster` choose theirs.

    Without training data it is the first; so it is of equals. A loss that is not finite is the highest.

    Args:
        model: The model of all candidates.
        candidates: The weights of each, as in `LearningProcess.initialize`.

    Raises:
        ValueError: There is no candidate, or one does not fit the model.

    Example:
        >>> import fedloom as fl
        >>> model = fl.models.from_functions(lambda key: jnp.ones(2), lambda w, x: x @ w, lambda y, p: (y - p) ** 2)
        >>> strategy = choose_best(model, [jnp.zeros(2), jnp.ones(2)])
        >>> changed = strategy._replace(sent=choose_best(model, [jnp.ones(2), jnp.ones(2)]).sent)  # the next round's, nothing compiled anew
    """
    if not len(candidates):
        raise ValueError("candidates must hold the weights of at least one model, got none.")
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(model.weights_from, candidates))

    def begin(received, key):
        count = len(jax.tree.leaves(received.sent)[0])
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), begin_evaluation(model))

    def step(received, so_far, batch, key):
        return jax.vmap(lambda weights, own: evaluate_batch(model, weights, own, batch))(received.sent, so_far)

    def weights(received, so_far):
        best = lowest(so_far.metrics["loss"])
        return jax.tree.map(lambda leaf: leaf[best], received.sent)

    return Strategy(begin, step, weights, stacked)
