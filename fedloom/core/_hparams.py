"""Hyperparameters: numbers in a state that may be changed between rounds without compiling anything anew.

They are the arrays of shape () that lie in a dict under the name `hyperparams`, anywhere in a state; `optax.inject_hyperparams` follows
the same convention. Their name is the path to them without that word: `server_optimizer.learning_rate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ._types import PyTree

_MARK = "hyperparams"


def hyperparameters(state: PyTree) -> dict[str, Any]:
    """Those of a state, by name.

    Example:
        >>> hyperparameters({"clipping": {"hyperparams": {"norm": 1.0}, "count": 3}})
        {'clipping.norm': 1.0}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {name: leaf for path, leaf in leaves if (name := _name(path))}


def with_hyperparameters(state: PyTree, values: Mapping[str, Any]) -> PyTree:
    """The state with some of its hyperparameters replaced; types stay, so nothing is traced anew.

    Raises:
        ValueError: A name is not among `hyperparameters(state)`, or a value is no single number.

    Example:
        >>> with_hyperparameters({"hyperparams": {"mu": jnp.float32(1)}}, {"mu": 0.5})["hyperparams"]["mu"].item()
        0.5
    """
    known = hyperparameters(state)
    if unknown := sorted(values.keys() - known.keys()):
        raise ValueError(f"There is no hyperparameter {', '.join(unknown)}; there are: {', '.join(sorted(known)) or 'none'}.")
    for name, value in values.items():
        if jnp.ndim(value) != 0:
            raise ValueError(f"Hyperparameter {name} must be a single number, got the shape {jnp.shape(value)}.")
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(values[name], jnp.asarray(leaf).dtype) if (name := _name(path)) in values else leaf, state
    )


def _name(path: tuple) -> str:
    """The name of the hyperparameter at this path; "" if it is none."""
    parts = [str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", "")))) for key in path]
    return ".".join(part for part in parts if part != _MARK) if _MARK in parts else ""
