"""Names for the arrays of a tree, so that programs outside Python need to know no tree: `message/weights/trainable/0`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedloom.core import PyTree


def named_leaves(group: str, tree: PyTree) -> dict[str, Any]:
    """The leaves of a tree by name, in the order of `jax.tree.leaves`; of a tree that is one leaf, under the name of the group.

    Raises:
        ValueError: Two leaves get the same name.

    Example:
        >>> named_leaves("batch", {"x": 1, "y": {"a": 2}})
        {'batch/x': 1, 'batch/y/a': 2}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = {"/".join(filter(None, [group, jax.tree_util.keystr(path, simple=True, separator="/")])): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError(f"Arrays of {group!r} would share a name, of {sorted(named)}. Leave '/' out of the names of metrics and columns.")
    return named


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed random key, or the shape of one."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) if hasattr(leaf, "dtype") else False


def plain(leaf: Any) -> Any:
    """A leaf as what leaves Python: random keys as their uint32 data."""
    return jax.random.key_data(leaf) if is_key(leaf) else jnp.asarray(leaf)


def shapes_of(tree: PyTree) -> PyTree:
    """The tree with `jax.ShapeDtypeStruct`s, in the types that JAX computes with."""
    return jax.eval_shape(lambda given: jax.tree.map(lambda leaf: leaf if is_key(leaf) else jnp.asarray(leaf), given), tree)


def plain_shape(leaf: Any) -> jax.ShapeDtypeStruct:
    """The shape of `plain(leaf)`, of a leaf or its shape."""
    if not is_key(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return jax.eval_shape(jax.random.key_data, leaf)
