"""Shapes and functions in words, for error messages."""

from __future__ import annotations

from typing import Any

import jax


def shapes_in_words(tree: Any) -> str:
    """The shapes of a tree of arrays.

    Example:
        >>> shapes_in_words({"x": jax.ShapeDtypeStruct((3, 2), "float32"), "n": jax.ShapeDtypeStruct((), "int32")})
        'n: int32[], x: float32[3,2]'
        >>> shapes_in_words(jax.ShapeDtypeStruct((), "float32"))
        'float32[]'
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        return "nothing"
    parts = [(jax.tree_util.keystr(path, simple=True, separator="."), jax.typeof(leaf).str_short()) for path, leaf in leaves]
    return ", ".join(f"{name}: {shape}" if name else shape for name, shape in parts)


def name_of(function: Any) -> str:
    """A function as an error message calls it."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or repr(function)
    return name.rpartition("<locals>.")[2]
