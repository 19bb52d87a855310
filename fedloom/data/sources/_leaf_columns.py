"""Columns from json lists: one dtype and one shape of an example over all clients.

Free to change: how fast. With care: that whether a client's numbers are integers does not depend on that client alone.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from .._columns import ragged_column

_NAMES = {bool: "true or false", int: "whole numbers", float: "numbers", str: "text", list: "lists", dict: "objects", type(None): "null"}
_DTYPES = {"": np.float64, "bool": np.bool_, "int": np.int64, "float": np.float64, "str": object}
_MAX_DIMENSIONS = 32


class Content(NamedTuple):
    """What the lists of one or of all clients hold."""

    kind: str = ""  # "bool", "int", "float" or "str"; "": no value was seen
    shape: tuple[int | None, ...] | None = None  # of an example; (None,): lists of different lengths; None: no example was seen


class _Lists(NamedTuple):
    leaves: list[Any]
    shape: tuple[int | None, ...] | None
    lengths: list[int]  # of the examples, where these are lists


def content(values: list[Any]) -> Content:
    """What a column of one client holds.

    Raises:
        ValueError: Values are not of one kind, beyond 64 bits, or nested irregularly.
    """
    lists = _flattened(values)
    types = set(map(type, lists.leaves))
    if types <= {int, float}:
        whole = [value for value in lists.leaves if type(value) is int] if float in types else lists.leaves
        if whole and not -(2**63) <= min(whole) <= max(whole) < 2**63:
            raise ValueError("a whole number of more than 64 bits")
        if float in types and not np.isfinite(np.array(lists.leaves, np.float64)).all():
            raise ValueError("a number beyond the range of floating point")
        return Content("float" if float in types else "int" if types else "", lists.shape)
    if types in ({bool}, {str}):
        return Content(types.pop().__name__, lists.shape)
    raise ValueError(f"{' and '.join(sorted(_NAMES[kind] for kind in types))} in one column of text or of numbers")


def merged(one: Content, other: Content) -> Content:
    """What holds for both.

    Raises:
        ValueError: Nothing does.
    """
    kinds = {one.kind, other.kind} - {""}
    if len(kinds) > 1 and kinds != {"int", "float"}:
        raise ValueError(f"{other.kind} where clients before it have {one.kind}")
    shapes = {one.shape, other.shape} - {None}
    if len(shapes) > 1 and {len(shape) for shape in shapes if shape is not None} != {1}:
        raise ValueError(f"examples of shape {other.shape} where clients before it have {one.shape}")
    kind = "float" if len(kinds) > 1 else kinds.pop() if kinds else ""
    return Content(kind, (None,) if len(shapes) > 1 else shapes.pop() if shapes else None)


def column(values: list[Any], wanted: Content) -> np.ndarray:
    """A client's column in the form that all clients' have.

    Returns:
        Shape (n, ...), where lists of text, and of different lengths, are arrays of objects.
    """
    lists = _flattened(values)
    flat = np.empty(len(lists.leaves), _DTYPES[wanted.kind])
    flat[:] = lists.leaves
    shape = wanted.shape or ()
    if shape == (None,):
        return ragged_column(flat, np.array(lists.lengths, np.int64))
    return flat.reshape(len(values), *(size or 0 for size in shape))


def _flattened(values: list[Any]) -> _Lists:
    """All that is in the lists, with the shape of an example."""
    leaves, shape, lengths = values, [], []
    while leaves and list in (types := set(map(type, leaves))):
        if len(types) > 1:
            raise ValueError("lists and single values side by side")
        found = list(map(len, leaves))
        uniform = len(set(found)) == 1
        lengths = lengths or found
        leaves = list(chain.from_iterable(leaves))
        shape.append(found[0] if uniform else None)
        if len(shape) > _MAX_DIMENSIONS or (None in shape and (len(shape) > 1 or list in set(map(type, leaves)))):
            raise ValueError("lists in lists of different lengths, or nested too deeply")
    return _Lists(leaves, tuple(shape) if values else None, lengths)
