"""`fl.federated`: a function in the federated language, called like any other."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from fedloom.core.language import (
    Clients,
    Place,
    Placed,
    Program,
    constant,
    current_trace,
    evaluate,
    is_tracing,
    placed,
    shapes_in_words,
    trace,
)
from fedloom.data import FederatedDataset

from .._by_name import executor_class
from .._executor import MakeExecutor
from ._inputs import ClientValues, mapped
from ._run import Runner


class FederatedFunction:
    """A function in the federated language; made by `fl.federated`.

    Attributes:
        function: As it was written.
        places: Name of each argument -> "clients" or "server".
    """

    def __init__(self, function: Callable, clients: Iterable[str] = (), executor: Any = "local"):
        if not callable(function):
            raise TypeError(f"fl.federated takes a function, got {type(function).__name__}.")
        functools.update_wrapper(self, function)
        self.function, self.name = function, getattr(function, "__name__", repr(function))
        self._make_executor: MakeExecutor = executor_class(executor)
        self._signature = inspect.signature(function)
        self.places = _places(self._signature, {clients} if isinstance(clients, str) else set(clients), self.name)
        self._runners: dict[Any, Runner] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the function.

        Args:
            *args: As the function takes them. One at the server is a tree of arrays; one at the clients a mapping from client id to a tree
                of arrays, a list of these, or a `FederatedDataset`, whose values are dicts of columns. A list of numbers is an array.
            **kwargs: Likewise.

        Returns:
            What the function returns, with NumPy arrays for values at the server, and for values at the clients a dict by client id, or a
            list if they were given as one. Under `jax.jit`, `jax.grad` and their like, arrays of JAX, with a first axis for the clients.

        Raises:
            TypeError: A value is not where it must be.
            ValueError: Shapes do not fit.
            ClientFailure: What a client has or computes does not fit that of the first, or is not finite.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if is_tracing():
            return self.function(**{name: self._placed_argument(name, value) for name, value in bound.arguments.items()})
        server, clients = self._by_place(bound.arguments)
        own = clients.arguments if clients is not None else {}
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((server, own))):
            return self._evaluated(server, clients)
        likes = _likes(server), clients.first_like() if clients is not None else {}
        key = str(jax.tree.structure(likes)), tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(likes))
        if key not in self._runners:
            self._runners[key] = Runner(self.traced(*likes), self._make_executor)
        return self._runners[key].run(server, clients)

    def likes(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The shapes of arguments, as `traced` takes them: at the server, and at the first client."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        server, clients = self._by_place(bound.arguments)
        return _likes(server), clients.first_like() if clients is not None else {}

    def traced(self, server: Mapping[str, Any], clients: Mapping[str, Any]) -> Program:
        """The program for arguments of these shapes, name -> tree of `jax.ShapeDtypeStruct`; for one at the clients, what each has."""
        likes = {**server, **clients}
        return trace(self.function, self.name, {name: (place, likes[name]) for name, place in self.places.items()})

    def _evaluated(self, server: dict[str, Any], clients: ClientValues | None) -> Any:
        own, number = clients.stacked() if clients is not None else ({}, 0)
        program = self.traced(_likes(server), jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), own))
        return evaluate(program, {**server, **own}, number)

    def _by_place(self, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], ClientValues | None]:
        server = {name: self._at_server(name, value) for name, value in arguments.items() if self.places[name] == "server"}
        own = {name: value for name, value in arguments.items() if self.places[name] == "clients"}
        return server, ClientValues(own, self.name) if own else None

    def _at_server(self, name: str, value: Any) -> Any:
        if isinstance(value, FederatedDataset | Placed):
            raise TypeError(
                f"{self.name!r}: argument {name!r} is at the server, and got a {type(value).__name__}. "
                f"Place it at the clients: `{name}: fl.core.Clients`, or fl.federated(function, clients=({name!r},))."
            )
        try:
            return mapped(jnp.asarray, value)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{self.name!r}: argument {name!r} must be a tree of arrays, got {value!r:.60} of type {type(value).__name__}. "
                "Let the function close over what is no array, and annotate what is at the clients with fl.core.Clients."
            ) from error

    def _placed_argument(self, name: str, value: Any) -> Placed:
        """Of a call within another federated function."""
        outer, place = current_trace(self.name), self.places[name]
        if not isinstance(value, Placed) and place == "server":
            return placed(constant(value, f"{self.name!r} in {outer.function!r}: argument {name!r}"), outer)
        if not isinstance(value, Placed) or value.place != place:
            got = f"one at the {value.place}, {shapes_in_words(value.like)}" if isinstance(value, Placed) else f"a {type(value).__name__}"
            raise TypeError(f"{self.name!r} in {outer.function!r}: argument {name!r} must be a value at the {place}, got {got}.")
        return value


def federated(function: Callable | None = None, *, clients: Iterable[str] = (), executor: Any = "local") -> Any:
    """Makes a function of values at a server and at clients, in the verbs of `fl.core`, one that can be called: a `FederatedFunction`.

    The function is traced for arguments of given shapes, and checked then; after that its parts are compiled, and the executor takes the
    clients through them. It must be pure: what it does besides happens while it is traced. Called with arguments that JAX is compiling or
    differentiating, it is one JAX function, clients side by side. What is differentiated must be an argument, not closed over.

    Args:
        function: Arguments annotated with `fl.core.Clients` are at the clients, the others at the server.
        clients: Names of arguments at the clients besides, for functions without annotations.
        executor: "local" (compiled), "debug" (one client after the other, without compiling), or a function that makes one.

    Example:
        >>> import fedloom as fl
        >>> fl.federated(lambda: "Hello, World!")()
        'Hello, World!'
        >>> @fl.federated
        ... def average_temperature(temperatures: fl.core.Clients):
        ...     return fl.core.mean(temperatures)
        >>> print(average_temperature([68.5, 70.3, 69.8]))
        69.53333
    """
    if function is None:
        return functools.partial(federated, clients=clients, executor=executor)
    return FederatedFunction(function, clients, executor)


def _places(signature: inspect.Signature, named: set[str], function: str) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{function!r} takes {parameter}, and a federated function needs a name for each argument.")
        annotation = parameter.annotation
        at_clients = annotation is Clients or (isinstance(annotation, str) and annotation.rpartition(".")[2] == "Clients")
        places[name] = "clients" if at_clients or name in named else "server"
    if unknown := sorted(named - places.keys()):
        raise ValueError(f"clients must name arguments of {function!r}, which has {', '.join(places) or 'none'}; got {', '.join(unknown)}.")
    return places


def _likes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(arguments))
