"""The pieces of a client's work as programs, each from named groups of arrays to named groups of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedloom.core import (
    Aggregator,
    Algorithm,
    Batch,
    ClientWork,
    Contribution,
    Generation,
    Message,
    Model,
    ModelWeights,
    PyTree,
    first_kept,
)

from ._names import named_leaves, shapes_of
from ._unsupported import explaining


class Program(NamedTuple):
    """A function of a client's work, and the shapes that it is called with."""

    name: str
    run: Callable[..., tuple[PyTree, ...]]  # one argument for each group, one result for each
    arguments: dict[str, PyTree]  # of `jax.ShapeDtypeStruct`s, by group
    results: tuple[str, ...]  # the groups that come out


class Start(NamedTuple):
    """What a client's work begins with, as trees of arrays."""

    weights: ModelWeights
    message: Message
    aggregator_state: PyTree


def client_programs(
    algorithm: Algorithm, aggregator: Aggregator, start: Start, batch: Batch, generation: Generation | None = None
) -> list[Program]:
    """All programs of a client.

    Args:
        algorithm: Whose client work it is.
        aggregator: Whose client half `encode` is.
        start: Lends its shapes.
        batch: Shapes of a batch.
        generation: Of a model of text.

    Raises:
        ValueError: A step hands on another tree than it was given.
    """
    given, key = shapes_of(start), jax.eval_shape(lambda: jax.random.key(0))
    programs = []
    if prelude := algorithm.prelude:
        programs += _work_programs("prelude_", prelude.client, given.message, (), batch, key)

    def contribution_of(weights, message):
        local = algorithm.client.begin(message, algorithm.init_client(weights), jax.random.key(0))
        return algorithm.client.finish(message, local).contribution

    value = _shapes("finish", contribution_of, *given[:2])

    def init_client(weights):
        return tuple(first_kept(algorithm, aggregator, weights, value.value))

    client_state, memory = _shapes("init_client", init_client, given.weights)
    if jax.tree.leaves((client_state, memory)):
        programs.append(Program("init_client", init_client, {"weights": given.weights}, ("client_state", "memory")))
    programs += _work_programs("", algorithm.client, given.message, client_state, batch, key)

    def encode(state, value, weight, memory, key):
        encoded = aggregator.encode(state, Contribution(value, weight, memory=memory), key)
        return encoded.value, encoded.weight, encoded.tally, encoded.memory

    contribution = {"value": value.value, "weight": value.weight, "memory": memory}
    arguments = {"aggregator_state": given.aggregator_state, **contribution, "key": key}
    programs.append(Program("encode", encode, arguments, ("value", "weight", "tally", "memory")))
    programs.append(_evaluate(algorithm.model, given.weights, batch))
    if generation is not None:
        programs.append(_generate(generation, given.weights, key))
    return programs


def step_names(work: ClientWork, prefix: str = "") -> tuple[str, ...]:
    """Of the program of each pass, in the order in which they run.

    Example:
        >>> step_names(ClientWork(None, lambda message, local, batch, key: local, None))
        ('step',)
    """
    count = len(work.passes)
    return tuple(f"{prefix}step" if count == 1 else f"{prefix}step_{i}" for i in range(count))


def _work_programs(prefix: str, work: ClientWork, message: Any, client_state: Any, batch: Batch, key: Any) -> list[Program]:
    def begin(message, client_state, key):
        return (work.begin(message, client_state, key),)

    def finish(message, local):
        output = work.finish(message, local)
        return output.contribution.value, output.contribution.weight, output.metrics, output.state

    (local,) = _shapes(f"{prefix}begin", begin, message, client_state, key)
    programs = [Program(f"{prefix}begin", begin, {"message": message, "client_state": client_state, "key": key}, ("local",))]
    for name, one in zip(step_names(work, prefix), work.passes, strict=True):
        arguments = {"message": message, "local": local, "batch": batch, "key": key}
        programs.append(Program(name, _one_result(one.step), arguments, ("local",)))
        _check_same(name, local, _shapes(name, one.step, *arguments.values()))
    results = ("value", "weight", "metrics", "client_state")
    return [*programs, Program(f"{prefix}finish", finish, {"message": message, "local": local}, results)]


def _shapes(name: str, run: Callable[..., PyTree], *arguments: PyTree) -> PyTree:
    """Of what a function returns that belongs to the program of this name."""
    with explaining(name):
        return shapes_of(jax.eval_shape(run, *arguments))


def _one_result(run: Callable[..., PyTree]) -> Callable[..., tuple[PyTree]]:
    return lambda *arguments: (run(*arguments),)


def _check_same(name: str, before: PyTree, after: PyTree) -> None:
    """So that a step can follow on a step."""
    old, new = ({key: (leaf.shape, leaf.dtype) for key, leaf in named_leaves("local", tree).items()} for tree in (before, after))
    if changed := sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)):
        was, became = (f"{tree[changed[0]][1]}{list(tree[changed[0]][0])}" if changed[0] in tree else "nothing" for tree in (old, new))
        raise ValueError(
            f"Program {name!r} must hand on a local state of the shapes and types that it was given, but {changed[0]} was {was} and became "
            f"{became}. Cast it in the algorithm's `begin` or `step`."
        )


def _evaluate(model: Model, weights: ModelWeights, batch: Batch) -> Program:
    carry = _shapes("evaluate", model.init_carry)
    return Program("evaluate", model.evaluate, {"weights": weights, "carry": carry, "batch": batch}, ("metrics", "carry"))


def _generate(generation: Generation, weights: ModelWeights, key: Any) -> Program:
    state = _shapes("generate", generation.init_state)
    number = {"token": jax.ShapeDtypeStruct((), jnp.int32), "temperature": jax.ShapeDtypeStruct((), jnp.float32)}
    return Program("generate", generation.step, {"weights": weights, "state": state, **number, "key": key}, ("token", "state"))
