"""The swap of Keras' recurrent layers for fused ones: same weights, same numbers, a fraction of the training time.

Free to change: which configurations are fused. With care: `FusedGRU` must keep the names and order of GRU's weights.
"""

from __future__ import annotations

import jax.numpy as jnp
import keras

from fedloom.kernels import gru_sequence


class FusedGRU(keras.layers.GRU):
    """Keras' GRU with `gru_sequence` inside; what that does not cover (masks, dropout, other activations) runs as in Keras."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Overrides the loop over time only, so that every other feature of the layer stays Keras' own."""
        if mask is not None or not _is_standard(self):
            return super().inner_loop(sequences, initial_state, mask, training=training)
        cell = self.cell
        input_bias, recurrent_bias = cell.bias.value if self.reset_after else (cell.bias.value, jnp.zeros_like(cell.bias.value))
        x = jnp.swapaxes(sequences, 0, 1) @ cell.kernel.value + input_bias
        hidden = gru_sequence(x, initial_state[0], cell.recurrent_kernel.value, recurrent_bias, self.reset_after)
        return hidden[-1], jnp.swapaxes(hidden, 0, 1), [hidden[-1]]


def _is_standard(layer: keras.layers.GRU) -> bool:
    return (
        layer.activation is keras.activations.tanh
        and layer.recurrent_activation is keras.activations.sigmoid
        and layer.use_bias
        and not (layer.dropout or layer.recurrent_dropout or layer.go_backwards or layer.unroll)
        and layer.compute_dtype == "float32"
    )
