"""Names for what travels: weights, batches, keys."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

PyTree = Any
Array = jax.Array | np.ndarray | np.generic
Key = jax.Array
"""A typed JAX random key, shape ()."""
Params = PyTree
"""A tree of float arrays."""


class ModelWeights(NamedTuple):
    """All weights of a model, in the model's own order, so that they go back to it one to one."""

    trainable: Params  # of a Keras model: a list
    non_trainable: list[jax.Array]  # frozen weights and statistics; neither seeds nor metrics nor RNN state


class Batch(NamedTuple):
    """A batch of examples in a fixed shape; B is the number of rows."""

    x: PyTree  # (B, ...)
    y: PyTree  # (B, ...)
    sample_weight: Array  # (B,) or, per token, (B, T); >= 0
    real: Array  # (B,) float32: 1 for an example, 0 for a row of padding
