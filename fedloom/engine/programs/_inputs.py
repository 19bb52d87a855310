"""What clients bring into a federated function, read when it is their turn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedloom.core import Array, ClientFailure, PyTree
from fedloom.core.language import shapes_in_words

from .._cohort import Client


class ClientValues:
    """The arguments at the clients of one call.

    Args:
        arguments: Name -> a mapping from client id to a tree of arrays, or a sequence of these.
        function: Its name, for error messages.

    Raises:
        TypeError, ValueError: One is neither, there is no client, or two have different clients.
    """

    def __init__(self, arguments: Mapping[str, Any], function: str):
        self.arguments, self._function = dict(arguments), function
        first, *others = self.arguments
        for name, value in self.arguments.items():
            if not isinstance(value, Mapping | Sequence) or isinstance(value, str | bytes):
                raise TypeError(
                    f"{function!r}: argument {name!r} is at the clients, so it must be a mapping from client id to a value, or a list of "
                    f"values, got {type(value).__name__}."
                )
        leader = self.arguments[first]
        self.has_ids = isinstance(leader, Mapping)
        self.ids: list[Any] = list(leader) if self.has_ids else list(range(len(leader)))
        if not self.ids:
            raise ValueError(f"{function!r} was called without clients: {first} must hold at least one.")
        for name in others:
            value = self.arguments[name]
            if isinstance(value, Mapping) != self.has_ids or (set(value) != set(leader) if self.has_ids else len(value) != len(leader)):
                raise ValueError(
                    f"{function!r}: arguments {first!r} and {name!r} are both at the clients, so they must have the same clients, got "
                    f"{_described(leader)} and {_described(value)}."
                )

    def __len__(self) -> int:
        return len(self.ids)

    def first_like(self) -> dict[str, PyTree]:
        """The shapes of what the first client has, by argument."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self._first)

    @functools.cached_property
    def _first(self) -> dict[str, PyTree]:
        try:
            return {name: _as_arrays(value[self.ids[0]]) for name, value in self.arguments.items()}
        except Exception as error:
            raise self.failure(str(self.ids[0]), "data", error) from error

    def read(self, number: int) -> dict[str, PyTree]:
        """What a client has, as NumPy arrays, with the dtypes of the first client's.

        Raises:
            ClientFailure: It cannot be read, or is another tree than the first client's.
        """
        if number == 0:
            return self._first
        client = self.ids[number]
        try:
            own = {name: _as_arrays(value[client]) for name, value in self.arguments.items()}
            return {name: _like_first(name, own[name], self._first[name]) for name in own}
        except Exception as error:
            raise self.failure(str(client), "data", error) from error

    def cohort(self) -> list[Client]:
        """The clients as executors take them: each has one batch, its place and what it has."""
        return [Client(str(client), functools.partial(self._batch, number)) for number, client in enumerate(self.ids)]

    def stacked(self) -> tuple[dict[str, PyTree], int]:
        """All values along a new first axis, which may be what JAX differentiates, and the number of clients.

        Raises:
            ValueError: Clients have different shapes.
        """
        trees = [{name: mapped(jnp.asarray, value[client]) for name, value in self.arguments.items()} for client in self.ids]
        for client, tree in zip(self.ids, trees, strict=True):
            got, expected = ([leaf.shape for leaf in jax.tree.leaves(one)] for one in (tree, trees[0]))
            if got != expected:
                raise ValueError(
                    f"{self._function!r} is being compiled or differentiated as one function, which needs the same shapes at every client: "
                    f"{client!r} has {shapes_in_words(tree)}, {self.ids[0]!r} has {shapes_in_words(trees[0])}. Pad the values to one shape."
                )
        trees = [{name: _like_first(name, tree[name], trees[0][name]) for name in tree} for tree in trees]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), len(trees)

    def failure(self, client: str, stage: str, cause: BaseException) -> ClientFailure:
        """The error that names the client and the function."""
        return ClientFailure(client, 0, stage, cause, during=repr(self._function))

    def _batch(self, number: int, part: str = "train") -> Iterator[Any]:
        yield np.asarray(number, np.int32), self.read(number)


def _as_arrays(value: Any) -> PyTree:
    def as_array(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        if array.dtype.kind in "OSUMm":
            raise TypeError(f"values must be numbers, got {leaf!r:.60} of dtype {array.dtype}. Turn text into ids first.")
        return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)

    return mapped(as_array, value)


def mapped(function: Callable[[Any], Any], value: PyTree) -> PyTree:
    """A function of every array of a tree; a list of Python's numbers, or of such lists, is one array, and any mapping is a dict."""

    def is_array(node: Any) -> bool:
        return isinstance(node, list) and all(isinstance(leaf, int | float) for leaf in jax.tree.leaves(node))

    return jax.tree.map(function, dict(value) if isinstance(value, Mapping) else value, is_leaf=is_array)


def _like_first(name: str, value: PyTree, first: PyTree) -> PyTree:
    if (got := jax.tree.structure(value)) != (expected := jax.tree.structure(first)):
        raise ValueError(f"argument {name!r} is built as {got}, where the first client's is built as {expected}.")

    def cast(leaf: Array, like: Array) -> Array:
        if leaf.dtype == like.dtype:
            return leaf
        if not np.can_cast(leaf.dtype, like.dtype, "same_kind"):
            raise TypeError(
                f"argument {name!r} has {leaf.dtype} where the first client has {like.dtype}. Give all the same, such as np.float32."
            )
        return leaf.astype(like.dtype)

    return jax.tree.map(cast, value, first)


def _described(value: Any) -> str:
    names = [repr(name) for name in value][:3] if isinstance(value, Mapping) else []
    return f"{len(value)} clients" + (f" ({', '.join(names)}{', ...' if len(value) > 3 else ''})" if names else " by place")
