"""Values with a place: at the server, or one at each client. While a federated function is traced, they stand for what will be there."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax

from .._types import PyTree
from ._words import name_of, shapes_in_words

Place = Literal["clients", "server"]


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A value of a federated function, and how it comes about."""

    verb: str  # "argument", "constant", or the name of the function in `fl.core` that made it
    place: Place
    like: PyTree  # of `jax.ShapeDtypeStruct`: what is at the server, or at each client
    inputs: tuple[Node, ...] = ()
    function: Any = None  # of "map" what is computed; of an aggregation its `Rule`; of a constant its value
    name: str = ""  # of an argument


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """A federated function while it is traced."""

    function: str  # its name
    has_clients: bool  # whether any argument is at the clients


_trace: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("trace", default=None)


@contextlib.contextmanager
def tracing(trace: Trace) -> Iterator[None]:
    """Until the end of the block, verbs belong to this function."""
    token = _trace.set(trace)
    try:
        yield
    finally:
        _trace.reset(token)


def current_trace(verb: str) -> Trace:
    """The function that is being traced.

    Raises:
        TypeError: None is.
    """
    if (trace := _trace.get()) is None:
        raise TypeError(f"fl.core.{verb} was called outside of a federated function. Call it in a function decorated with fl.federated.")
    return trace


def is_tracing() -> bool:
    """Whether a federated function is being traced."""
    return _trace.get() is not None


class Placed:
    """A value with a place; + - * / ** -x and [] on it are `fl.core.map`, all else is done inside a function given to `fl.core.map`."""

    place: Place

    def __init__(self, node: Node, trace: Trace):
        self.node, self._trace = node, trace

    @property
    def like(self) -> PyTree:
        """The shapes of what is at the server, or at each client: a tree of `jax.ShapeDtypeStruct`."""
        return self.node.like

    def check(self, verb: str, trace: Trace) -> None:
        """Raises TypeError if the value belongs to another call."""
        if self._trace is not trace:
            raise TypeError(
                f"{trace.function!r} got a value in {verb} that belongs to another call, of {self._trace.function!r}. "
                "A placed value is good only within the function that made it: pass it as an argument, or return it."
            )

    def __repr__(self):
        return f"<{shapes_in_words(self.like)} at the {self.place}, by {self.node.verb} in {self._trace.function!r}>"

    def __add__(self, other):
        return _calculate(operator.add, self, other)

    def __radd__(self, other):
        return _calculate(operator.add, other, self)

    def __sub__(self, other):
        return _calculate(operator.sub, self, other)

    def __rsub__(self, other):
        return _calculate(operator.sub, other, self)

    def __mul__(self, other):
        return _calculate(operator.mul, self, other)

    def __rmul__(self, other):
        return _calculate(operator.mul, other, self)

    def __truediv__(self, other):
        return _calculate(operator.truediv, self, other)

    def __rtruediv__(self, other):
        return _calculate(operator.truediv, other, self)

    def __pow__(self, other):
        return _calculate(operator.pow, self, other)

    def __neg__(self):
        return apply("map", operator.neg, (self,))

    def __getitem__(self, index):
        def getitem(value):
            return value[index]

        return apply("map", getitem, (self,))

    def __iter__(self):
        if not isinstance(self.like, tuple | list):
            raise self._misused("gone through")
        return iter([self[i] for i in range(len(self.like))])

    def __getattr__(self, name: str):
        if not name.startswith("_") and name in getattr(self.like, "_fields", ()):

            def attribute(value):
                return getattr(value, name)

            return apply("map", attribute, (self,))
        raise AttributeError(f"A value at the {self.place} has no attribute {name!r}; it is {shapes_in_words(self.like)}.")

    def __array__(self, *args, **kwargs):
        raise self._misused("handed to a function of NumPy")

    def __bool__(self):
        raise self._misused("used as a condition")

    def __float__(self):
        raise self._misused("turned into a number")

    def __int__(self):
        raise self._misused("turned into a number")

    def __len__(self):
        raise self._misused("asked for its length")

    def _misused(self, how: str) -> TypeError:
        return TypeError(
            f"In {self._trace.function!r}, a value at the {self.place} ({shapes_in_words(self.like)}) was {how} while the function was "
            "traced, when it has no value yet. Compute with it in a function: fl.core.map(function, value)."
        )


class Clients(Placed):
    """A value at each client. As an annotation, it says that an argument is placed at the clients."""

    place = "clients"


class Server(Placed):
    """A value at the server, where arguments are unless they are annotated with `Clients`."""

    place = "server"


def placed(node: Node, trace: Trace) -> Any:
    """A node as what the user's code works with."""
    return (Clients if node.place == "clients" else Server)(node, trace)


def apply(verb: str, function: Callable, values: tuple[Placed, ...]) -> Any:
    """`function` of values at one place, there.

    Raises:
        TypeError, ValueError: The function cannot be traced with these shapes.
    """
    trace = current_trace(verb)
    likes = [value.like for value in values]
    try:
        like = jax.eval_shape(function, *likes)
    except Exception as error:
        kind = type(error) if type(error) in (TypeError, ValueError) else ValueError
        raise kind(
            f"fl.core.{verb} in {trace.function!r}: {name_of(function)} failed on values at the {values[0].place} with the shapes "
            f"{', '.join(map(shapes_in_words, likes))}: {error}"
        ) from error
    return placed(Node(verb, values[0].place, like, tuple(value.node for value in values), function), trace)


def _calculate(operation: Callable, left: Any, right: Any) -> Any:
    """An operator with at least one side placed, on trees of one array."""
    sides = [side for side in (left, right) if isinstance(side, Placed)]
    trace = current_trace(operation.__name__)
    for side in sides:
        side.check(operation.__name__, trace)
        if not isinstance(side.like, jax.ShapeDtypeStruct):
            raise TypeError(
                f"In {trace.function!r}, {operation.__name__} got a tree of arrays ({shapes_in_words(side.like)}), and takes one array. "
                "Say what to do with them: fl.core.map(function, value)."
            )
    if len({side.place for side in sides}) > 1:
        raise TypeError(
            f"In {trace.function!r}, {operation.__name__} got one value at the clients and one at the server: {left!r} and {right!r}. "
            "Send the server's to the clients first: fl.core.broadcast(value)."
        )

    def calculation(*values):
        values = iter(values)
        return operation(*(next(values) if isinstance(side, Placed) else side for side in (left, right)))

    calculation.__qualname__ = operation.__name__
    return apply("map", calculation, tuple(sides))
