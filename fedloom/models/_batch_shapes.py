"""What a batch of a Keras model looks like, as far as the model and its loss tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras

from fedloom.core import Batch

from ._clone import input_structure, is_rebuildable


def batch_shapes(model: keras.Model, loss: Any) -> Callable[[int], Batch] | None:
    """From a number of rows to a batch of shapes, with a weight per example; None if any other dimension is left open.

    Args:
        model: The model.
        loss: A Keras loss or a function of (y, prediction). y has the shape and type of the prediction, or, for sparse categorical
            cross-entropy, its shape without the classes, as int32.
    """
    if not is_rebuildable(model):  # of a subclassed model nothing is known
        return None
    inputs, output = input_structure(model), model.outputs[0]
    if any(size is None for tensor in [*jax.tree.leaves(inputs), output] for size in tensor.shape[1:]):
        return None
    sparse = loss is keras.losses.sparse_categorical_crossentropy or isinstance(loss, keras.losses.SparseCategoricalCrossentropy)

    def shapes(rows: int) -> Batch:
        def column(shape: tuple[int, ...], dtype: Any) -> Any:
            return jax.ShapeDtypeStruct((rows, *shape), jax.dtypes.canonicalize_dtype(dtype))

        y = column(output.shape[1:-1], jnp.int32) if sparse else column(output.shape[1:], output.dtype)
        x = jax.tree.map(lambda tensor: column(tensor.shape[1:], tensor.dtype), inputs)
        return Batch(x, y, column((), jnp.float32), column((), jnp.float32))

    return shapes
