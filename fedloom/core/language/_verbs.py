"""What a federated function is made of: sending, computing in a place, and bringing together.

Names that Python has too are meant to be used with their package: `fl.core.sum(values)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ._placed import Clients, Node, Place, Placed, Server, Trace, apply, current_trace, placed
from ._rules import MAX, MEAN, MIN, SUM, Rule, collecting
from ._words import shapes_in_words


def broadcast(value: Any) -> Clients:
    """Sends a value of the server to every client.

    Args:
        value: At the server, or an array or tree of arrays that is the same in every call.

    Returns:
        The same value at each client.
    """
    trace = current_trace("broadcast")
    node = _server(value, "broadcast", "value", trace)
    if not trace.has_clients:
        raise TypeError(
            f"fl.core.broadcast in {trace.function!r} has no clients to send to: no argument is placed at them. Annotate one, as in "
            f"`def {trace.function}(values: fl.core.Clients)`, or name it: fl.federated(function, clients=('values',))."
        )
    return placed(Node("broadcast", "clients", node.like, (node,)), trace)


def map(function: Callable, *values: Any) -> Any:
    """Computes with values where they are: at each client with that client's own, or at the server.

    Args:
        function: Of as many values as there are, made of JAX operations; it is traced, and compiled. What it needs besides, such as a
            model, it takes from its closure.
        *values: At least one, all at the clients, or all at the server.

    Returns:
        What the function returns, a tree of arrays, at the same place.
    """
    trace = current_trace("map")
    if not callable(function):
        raise TypeError(f"fl.core.map in {trace.function!r}: function must be callable, got {type(function).__name__}.")
    return apply("map", function, _together(values, "map", trace))


def zip(*values: Any) -> Any:
    """Values at one place as a tuple there."""
    return apply("zip", lambda *parts: parts, _together(values, "zip", current_trace("zip")))


def sum(values: Any) -> Server:
    """The sum over the clients, of each array of a tree.

    Integers wrap around at 32 bits, as a sum modulo 2^32 does; booleans and narrower integers become int32 or uint32 first.
    """
    return _aggregate("sum", SUM, values)


def mean(values: Any, weight: Any = None) -> Server:
    """The mean over the clients, of each array of a tree, in float32.

    Args:
        values: At the clients.
        weight: At the clients, an array of shape (); None weighs all alike. Where all weights are 0, the mean is NaN.
    """
    if weight is None:
        return _aggregate("mean", MEAN, values)
    trace = current_trace("mean")
    node = _at(weight, "clients", "mean", "weight", trace)
    if not isinstance(node.like, jax.ShapeDtypeStruct) or node.like.shape:
        raise ValueError(
            f"fl.core.mean in {trace.function!r}: weight must be one number at each client, shape (), got {shapes_in_words(node.like)}."
        )
    return _aggregate("mean", MEAN, values, node)


def min(values: Any) -> Server:
    """The smallest over the clients, element by element."""
    return _aggregate("min", MIN, values)


def max(values: Any) -> Server:
    """The largest over the clients, element by element."""
    return _aggregate("max", MAX, values)


def collect(values: Any, at_most: int, key: Any) -> Server:
    """The values of some clients, drawn without replacement, each client as likely as any other.

    Args:
        values: At the clients.
        at_most: Clients to draw, at least 1; if there are fewer, all are there.
        key: At the server: a JAX random key, shape (), that decides the draw.

    Returns:
        A `Sample(values, present)` at the server: values with a first axis of length `at_most`, in the order of the clients, and bool
        (at_most,), which says where there is one.
    """
    trace = current_trace("collect")
    if isinstance(at_most, bool) or not isinstance(at_most, int) or at_most < 1:
        raise ValueError(f"fl.core.collect in {trace.function!r}: at_most must be a whole number of at least 1, got {at_most!r}.")
    return _aggregate("collect", collecting(at_most), values, _key(key, "collect", trace))


def select(value: Any, indices: Any) -> Clients:
    """Sends each client the rows of a value of the server that it asks for, as TFF's `federated_select` does.

    In a simulation a client's work sees the whole value and takes its rows, so it saves the client work, and nothing on a network.

    Args:
        value: At the server: a tree of arrays with equally long first axes.
        indices: At the clients: whole numbers from 0, any shape. One beyond the end gives NaN, or the lowest number of an integer type;
            contributed, NaN is an error that names the client.

    Returns:
        At each client, the tree with the shape of `indices` in place of the first axes.
    """
    trace = current_trace("select")
    table = _server(value, "select", "value", trace)
    rows = _at(indices, "clients", "select", "indices", trace)
    if not isinstance(rows.like, jax.ShapeDtypeStruct) or not jnp.issubdtype(rows.like.dtype, jnp.integer):
        raise TypeError(
            f"fl.core.select in {trace.function!r}: indices must be an array of whole numbers, got {shapes_in_words(rows.like)}."
        )
    if any(not leaf.shape for leaf in jax.tree.leaves(table.like)):
        raise ValueError(
            f"fl.core.select in {trace.function!r}: each array of value needs a first axis to choose from, "
            f"got {shapes_in_words(table.like)}."
        )
    like = jax.eval_shape(taken, table.like, rows.like)
    return placed(Node("select", "clients", like, (table, rows)), trace)


def taken(table: Any, rows: Any) -> Any:
    """Rows of every array of a tree."""
    return jax.tree.map(lambda column: jnp.take(column, rows, axis=0, mode="fill"), table)


def client_keys(key: Any) -> Clients:
    """A random key for each client, from one of the server and the client's place in the cohort."""
    trace = current_trace("client_keys")
    node = _key(key, "client_keys", trace)
    if not trace.has_clients:
        raise TypeError(f"fl.core.client_keys in {trace.function!r}: no argument is placed at the clients.")
    return placed(Node("client_keys", "clients", node.like, (node,)), trace)


def _aggregate(verb: str, rule: Rule, values: Any, *others: Node) -> Any:
    trace = current_trace(verb)
    node = _at(values, "clients", verb, "values", trace)
    if not jax.tree.leaves(node.like):
        raise ValueError(f"fl.core.{verb} in {trace.function!r}: values must hold at least one array, got none.")
    likes = [one.like for one in (node, *others)]
    like = jax.eval_shape(lambda *own: rule.result(rule.part(0, *own)), *likes)
    return placed(Node(verb, "server", like, (node, *others), rule), trace)


def _together(values: tuple, verb: str, trace: Trace) -> tuple[Placed, ...]:
    """The values, which must have one place."""
    if not values:
        raise TypeError(f"fl.core.{verb} in {trace.function!r} needs at least one value, got none.")
    for number, value in enumerate(values, 1):
        if not isinstance(value, Placed):
            raise TypeError(
                f"fl.core.{verb} in {trace.function!r}: value {number} must be placed at the clients or at the server, got {_kind(value)}. "
                "Let the function close over what is the same everywhere."
            )
        value.check(verb, trace)
    if len({value.place for value in values}) > 1:
        given = ", ".join(f"{value.node.verb} at the {value.place}" for value in values)
        raise TypeError(
            f"fl.core.{verb} in {trace.function!r} needs values at one place, got {given}. Send the server's to the clients with "
            "fl.core.broadcast(value), or bring the clients' together, with fl.core.mean(values) say."
        )
    return values


def _at(value: Any, place: Place, verb: str, argument: str, trace: Trace) -> Node:
    if isinstance(value, Placed) and value.place == place:
        value.check(verb, trace)
        return value.node
    what = f"one at the {value.place}, {shapes_in_words(value.like)}" if isinstance(value, Placed) else _kind(value)
    if place == "clients":
        help_ = "Send it to the clients first: fl.core.broadcast(value)." if isinstance(value, Placed) else _ANNOTATE
    else:
        help_ = "Bring it together first: fl.core.sum(values), mean, min, max or collect."
    raise TypeError(f"fl.core.{verb} in {trace.function!r}: {argument} must be a value at the {place}, got {what}. {help_}")


_ANNOTATE = "Arguments annotated with fl.core.Clients are there, and what fl.core.map makes of them."


def _server(value: Any, verb: str, argument: str, trace: Trace) -> Node:
    """A value at the server; arrays are constants there."""
    if isinstance(value, Placed):
        return _at(value, "server", verb, argument, trace)
    return constant(value, f"fl.core.{verb} in {trace.function!r}: {argument}")


def constant(value: Any, what: str) -> Node:
    """Arrays that are at the server in every call."""
    try:
        arrays = jax.tree.map(jnp.asarray, value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} must be a value at the server, or a tree of arrays, got {_kind(value)}.") from error
    return Node("constant", "server", jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arrays), (), arrays)


def _key(key: Any, verb: str, trace: Trace) -> Node:
    node = _server(key, verb, "key", trace)
    like = node.like
    if not (isinstance(like, jax.ShapeDtypeStruct) and jnp.issubdtype(like.dtype, jax.dtypes.prng_key) and not like.shape):
        raise TypeError(
            f"fl.core.{verb} in {trace.function!r}: key must be one random key at the server, such as jax.random.key(0), "
            f"got {shapes_in_words(like)}."
        )
    return node


def _kind(value: Any) -> str:
    return f"{value!r:.60} of type {type(value).__name__}"
