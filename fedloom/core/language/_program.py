"""A federated function as a program: what it computes where, and in how many passes over the clients.

A pass takes the clients through all that they can do before the server must speak again, and adds up what they contribute. A client keeps
nothing from one pass to the next: what a later pass needs again is computed again, so that it may be another machine, or another day.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from .._addends import fold
from .._types import PyTree
from ._placed import Node, Place, Placed, Trace, placed, tracing
from ._rules import Rule
from ._verbs import taken

Values = dict[Node, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A traced federated function.

    Attributes:
        name: Of the function.
        arguments: By name.
        result: What it returned, a tree in which a `Placed` stands for each value.
        passes: Over the clients, in their order.
        depths: Of all that the result is made of, inputs first: the passes that must be done before it can be computed.
    """

    name: str
    arguments: dict[str, Node]
    result: PyTree
    passes: tuple[Pass, ...]
    depths: dict[Node, int]

    @property
    def outputs(self) -> list[Node]:
        """The placed values in the result."""
        return [leaf.node for leaf in jax.tree.leaves(self.result, is_leaf=_is_placed) if isinstance(leaf, Placed)]

    def with_outputs(self, values: Mapping[Node, Any]) -> PyTree:
        """The result with these values in it."""
        return jax.tree.map(lambda leaf: values[leaf.node] if isinstance(leaf, Placed) else leaf, self.result, is_leaf=_is_placed)

    def at_server(self, done: int) -> tuple[Node, ...]:
        """What the server computes when so many passes are done, in an order in which it can be."""
        own = (node for node, depth in self.depths.items() if depth == done and node.place == "server")
        return tuple(node for node in own if node.verb in ("map", "zip"))

    @property
    def constants(self) -> Values:
        """The arrays that are at the server in every call."""
        return {node: node.function for node in self.depths if node.verb == "constant"}


@dataclasses.dataclass(frozen=True, eq=False)
class Pass:
    """Once over the clients.

    Attributes:
        nodes: Aggregations, or values at the clients that are to be had.
        message: What the clients need of the server.
    """

    nodes: tuple[Node, ...]
    message: tuple[Node, ...]

    @classmethod
    def over(cls, nodes: Iterable[Node]) -> Pass:
        """The pass that finds these."""
        side, waiting = dict.fromkeys(nodes), list(nodes)
        for node in waiting:
            new = dict.fromkeys(one for one in node.inputs if one.place == "clients" and one not in side)
            side |= new
            waiting.extend(new)
        return cls(tuple(nodes), tuple(dict.fromkeys(one for node in side for one in node.inputs if one.place == "server")))

    def of_client(self, message: tuple, own: Values, place: Any) -> tuple:
        """What one client contributes to each aggregation, or its own value.

        Args:
            message: Values of `self.message`.
            own: The client's arguments.
            place: Of the client in the cohort, int32.
        """
        values = {**own, **dict(zip(self.message, message, strict=True))}
        return tuple(
            node.function.part(place, *(_at_client(one, values, place) for one in node.inputs))
            if isinstance(node.function, Rule)
            else _at_client(node, values, place)
            for node in self.nodes
        )

    def results(self, totals: tuple) -> tuple:
        """What the sums of what all clients contribute say."""
        return tuple(node.function.result(total) for node, total in zip(self.nodes, totals, strict=True))


def trace(function: Callable, name: str, arguments: Mapping[str, tuple[Place, PyTree]]) -> Program:
    """Runs a function with placed values for arguments.

    Args:
        function: As the user wrote it.
        name: For error messages.
        arguments: Name -> where it is, and the shapes there: a tree of `jax.ShapeDtypeStruct`.
    """
    own = Trace(name, any(place == "clients" for place, _ in arguments.values()))
    nodes = {key: Node("argument", place, like, name=key) for key, (place, like) in arguments.items()}
    try:
        with tracing(own):
            result = function(**{key: placed(node, own) for key, node in nodes.items()})
    except TypeError as error:
        if Placed.__module__ not in str(error):  # JAX names the class of what it cannot take
            raise
        raise TypeError(
            f"In {name!r}, a value with a place was handed to a function of JAX, while it has no value yet. Compute with it in a function: "
            "fl.core.map(function, value)."
        ) from error
    leaves = [leaf for leaf in jax.tree.leaves(result, is_leaf=_is_placed) if _is_placed(leaf)]
    for leaf in leaves:
        leaf.check("a result", own)
    depths = _depths(leaf.node for leaf in leaves)
    passes = []
    for number in range(1, max(depths.values(), default=0) + 1):
        passes.append(Pass.over([node for node, depth in depths.items() if depth == number and isinstance(node.function, Rule)]))
    return Program(name, nodes, result, tuple(passes), depths)


def _depths(nodes: Iterable[Node]) -> dict[Node, int]:
    """The nodes and all that they are made of, inputs first, each with the passes that must be done before it can be computed."""
    found: dict[Node, int] = {}
    waiting = list(reversed(list(nodes)))
    while waiting:
        node = waiting[-1]
        if node not in found and (missing := [one for one in node.inputs if one not in found]):
            waiting.extend(reversed(missing))
        else:
            found[waiting.pop()] = max((found[one] for one in node.inputs), default=0) + isinstance(node.function, Rule)
    return found


def _at_client(node: Node, values: Values, place: Any) -> PyTree:
    """A value at one client; `values` takes what is found on the way."""
    if node not in values:
        values[node] = compute(node, [_at_client(one, values, place) for one in node.inputs], place)
    return values[node]


def compute(node: Node, inputs: list, place: Any = None) -> PyTree:
    """The value of a node that is no aggregation, from its inputs, at one client or at the server."""
    match node.verb:
        case "broadcast":
            return inputs[0]
        case "select":
            return taken(*inputs)
        case "client_keys":
            return jax.random.fold_in(inputs[0], place)
        case _:
            return node.function(*inputs)


def evaluate(program: Program, arguments: Mapping[str, PyTree], num_clients: int) -> PyTree:
    """The whole program as one function of JAX: it can be compiled, differentiated and vectorized.

    Args:
        program: To evaluate.
        arguments: By name; those at the clients with a first axis for them.
        num_clients: Its length.
    """
    places = jax.numpy.arange(num_clients, dtype=jax.numpy.int32)
    values = {node: arguments[name] for name, node in program.arguments.items()} | program.constants
    for node in program.depths:
        if node in values:
            continue
        axes = [0 if one.place == "clients" else None for one in node.inputs]
        inputs = [values[one] for one in node.inputs]
        if isinstance(node.function, Rule):
            parts = jax.vmap(node.function.part, in_axes=(0, *axes))(places, *inputs)
            values[node] = node.function.result(fold(parts))
        elif node.place == "server":
            values[node] = compute(node, inputs)
        else:
            values[node] = jax.vmap(lambda place, *own, node=node: compute(node, list(own), place), in_axes=(0, *axes))(places, *inputs)
    return program.with_outputs(values)


def _is_placed(node: Any) -> bool:
    return isinstance(node, Placed)
