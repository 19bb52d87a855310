"""The swap of Keras' Dense and Embedding layers for ones that use fedloom's products: same weights, same numbers.

Layers tell those after them where their results come from, which saves work in two places. A recurrent layer right after an embedding
multiplies the few rows of the embedding's table rather than those of every token: W x + b of an id is the same wherever it stands in the
text. And a Dense layer right after a recurrent one multiplies its states as they lie, time first, and turns the smaller product.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import keras

from fedloom.kernels import Operands, current_operands, matmul, operands

_LARGE = 32_768  # weights, from which on a call of a kernel costs less than it gains


@keras.saving.register_keras_serializable("fedloom")
class FusedDense(keras.layers.Dense):
    """Keras' Dense with `matmul` inside; what that does not cover (other types, quantized weights) runs as in Keras."""

    def call(self, inputs, training=None):
        """Overrides the product only."""
        covered = self.compute_dtype == "float32" and inputs.dtype == jnp.float32 and self.quantization_mode is None
        origin = origin_of(inputs)
        if not covered or not (is_large(self) or isinstance(origin, TimeFirst) or current_operands() == "bfloat16"):
            return super().call(inputs, training=training)
        kernel = keras.ops.convert_to_tensor(self.kernel)
        if isinstance(origin, TimeFirst) and self.units < inputs.shape[-1]:
            outputs = jnp.swapaxes(matmul(origin.sequences, kernel), 0, 1)
        else:
            outputs = matmul(inputs, kernel)
        outputs = outputs if self.bias is None else outputs + keras.ops.convert_to_tensor(self.bias)
        return outputs if self.activation is None else self.activation(outputs)


@keras.saving.register_keras_serializable("fedloom")
class FusedEmbedding(keras.layers.Embedding):
    """Keras' Embedding, whose result says where it comes from."""

    def call(self, inputs):
        """Adds the note only."""
        outputs = super().call(inputs)
        if self.compute_dtype == "float32" and self.quantization_mode is None:
            note(outputs, Lookup(keras.ops.convert_to_tensor(self.embeddings), inputs))
        return outputs


FUSED = {keras.layers.Dense: FusedDense, keras.layers.Embedding: FusedEmbedding}


def is_large(layer: keras.Layer) -> bool:
    """Whether a layer is a Dense one that gains from our products. Small ones are better vectorized over clients."""
    return isinstance(layer, keras.layers.Dense) and layer.built and layer.kernel.shape[0] * layer.kernel.shape[1] >= _LARGE


class Lookup(NamedTuple):
    """Rows of a table, by their ids."""

    table: jax.Array  # (ids, width)
    ids: jax.Array  # (batch, time)


class TimeFirst(NamedTuple):
    """The same array with its first two axes exchanged."""

    sequences: jax.Array  # (time, batch, width)


_origins: contextvars.ContextVar[list[tuple[jax.Array, Lookup | TimeFirst]]] = contextvars.ContextVar("origins")


@contextlib.contextmanager
def fused_call(kind: Operands) -> Iterator[None]:
    """Around one call of a model: what its products multiply, and a memory of where results come from."""
    before = _origins.set([])
    try:
        with operands(kind):
            yield
    finally:
        _origins.reset(before)


def note(result: jax.Array, origin: Lookup | TimeFirst) -> None:
    """Remembers where a result comes from, for the layers after this one in the same `fused_call`."""
    _origins.get([]).append((result, origin))


def origin_of(inputs: jax.Array) -> Lookup | TimeFirst | None:
    """What was noted of this very array."""
    return next((origin for result, origin in _origins.get([]) if result is inputs), None)
