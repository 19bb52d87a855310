"""A federated function as programs: what the server does before, between and after the passes, and what a client does in each.

    server_0(arguments) -> message, state
    client_0(message, own, place) -> part        on every client; parts are added up by add_0(part, other) -> part
    server_1(state, part) -> message, state      from the sum of all parts
    ...
    server_n(state, part) -> result              after the last pass

and, where the function returns values at the clients, client_n(message, own, place) -> own_result, for which server_n gives a message too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedloom.core import PyTree, add_contributions
from fedloom.core.language import Node, Pass, Place, Values, compute
from fedloom.core.language import Program as Traced

from ._programs import Program

_PLACE = jax.ShapeDtypeStruct((), jnp.int32)  # of a client in the cohort


def federated_programs(traced: Traced) -> list[Program]:
    """All programs of a federated function, in the order in which they run.

    Args:
        traced: For arguments of given shapes.

    Raises:
        ValueError: The function returns something else than arrays.
    """
    _check_result(traced)
    own = {name: node for name, node in traced.arguments.items() if node.place == "clients"}
    of_clients = [node for node in traced.outputs if node.place == "clients"]
    passes = [*traced.passes, *([Pass.over(of_clients)] if of_clients else [])]
    programs, state = [], tuple(node for node in traced.arguments.values() if node.place == "server")
    part: Any = None
    for number in range(len(traced.passes) + 1):
        stage = _Stage(traced, passes, number, state)
        arguments = {"arguments": _likes_by_name(traced, "server")} if number == 0 else {"state": _likes(state), "part": part}
        programs.append(Program(f"server_{number}", stage.run, arguments, stage.results))
        state = stage.state
        if number == len(passes):
            break
        is_last = number == len(traced.passes)
        client = _client(passes[number], own, traced if is_last else None)
        arguments = {"message": _likes(passes[number].message), "own": _likes_by_name(traced, "clients"), "place": _PLACE}
        programs.append(Program(f"client_{number}", client, arguments, ("own_result" if is_last else "part",)))
        if not is_last:
            (part,) = jax.eval_shape(client, *arguments.values())
            programs.append(Program(f"add_{number}", _add, {"part": part, "other": part}, ("part",)))
    return programs


class _Stage:
    """The server before the pass of this number, or after the last."""

    def __init__(self, traced: Traced, passes: list[Pass], number: int, given: tuple[Node, ...]):
        self._traced, self._given = traced, given
        self._before = traced.passes[number - 1] if number else None
        self._computed = traced.at_server(number)
        self._message = passes[number].message if number < len(passes) else None
        self._is_last = number == len(traced.passes)
        known = [*given, *(self._before.nodes if self._before else ()), *self._computed]
        later = [*(node for one in passes[number + 1 :] for node in one.message), *(node for node in traced.outputs)]
        later += [one for done in range(number + 1, len(traced.passes) + 1) for node in traced.at_server(done) for one in node.inputs]
        self.state = () if self._is_last else tuple(node for node in dict.fromkeys(known) if node in later)
        parts = {"result": self._is_last, "message": self._message is not None, "state": not self._is_last}
        self.results = tuple(name for name, there in parts.items() if there)

    def run(self, given: Any, part: Any = None) -> tuple[PyTree, ...]:
        values: Values = dict(self._traced.constants)
        if self._before is None:
            values |= {node: given[name] for name, node in self._traced.arguments.items() if node.place == "server"}
        else:
            values |= dict(zip(self._given, given, strict=True))
            values |= dict(zip(self._before.nodes, self._before.results(part), strict=True))
        for node in self._computed:
            values[node] = compute(node, [values[one] for one in node.inputs])
        found = {
            "result": lambda: _result(self._traced, "server", values),
            "message": lambda: tuple(values[node] for node in self._message or ()),
            "state": lambda: tuple(values[node] for node in self.state),
        }
        return tuple(found[name]() for name in self.results)


def _client(one: Pass, own: dict[str, Node], traced: Traced | None) -> Callable[..., tuple[PyTree]]:
    """What a client contributes; with the function, what it has of its result."""

    def client(message, arguments, place):
        found = one.of_client(message, {node: arguments[name] for name, node in own.items()}, place)
        return (found if traced is None else _result(traced, "clients", dict(zip(one.nodes, found, strict=True))),)

    return client


def _add(part, other):
    return (add_contributions(part, other),)


def _result(traced: Traced, place: Place, values: Values) -> PyTree:
    """What the function returned, with its values at this place only."""
    return traced.with_outputs({node: values[node] if node.place == place else () for node in traced.outputs})


def _likes(nodes: tuple[Node, ...]) -> tuple[PyTree, ...]:
    return tuple(node.like for node in nodes)


def _likes_by_name(traced: Traced, place: str) -> dict[str, PyTree]:
    return {name: node.like for name, node in traced.arguments.items() if node.place == place}


def _check_result(traced: Traced) -> None:
    kinds = {type(leaf).__name__ for leaf in jax.tree.leaves(traced.with_outputs(dict.fromkeys(traced.outputs, ())))}
    if kinds:
        raise ValueError(
            f"What {traced.name!r} returns must be values at the server or the clients, got {', '.join(sorted(kinds))} besides."
        )
