"""The swap of Keras' recurrent layers for fused ones: same weights, same numbers, a fraction of the training time.

Free to change: which configurations are fused. With care: a fused layer must keep the names and order of its Keras layer's weights.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import keras

from fedloom.kernels import gru_sequence, lstm_sequence, matmul

from ._products import Lookup, TimeFirst, note, origin_of

_HOLD = 1e30  # added to what the sigmoid of a gate is taken of, it makes the gate 1, exactly, and its gradient 0
_NO_CUDNN = {"use_cudnn": False}  # a call of it cannot be vectorized over clients


@keras.saving.register_keras_serializable("fedloom")  # so that wrappers such as Bidirectional can make it anew
class FusedGRU(keras.layers.GRU):
    """Keras' GRU with `gru_sequence` inside; what that does not cover (dropout, other activations) runs as in Keras."""

    def __init__(self, units, **config):
        super().__init__(units, **config | _NO_CUDNN)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Overrides the loop over time only, so that every other feature of the layer stays Keras' own."""
        if not _is_standard(self):
            return super().inner_loop(sequences, initial_state, mask, training=training)
        used = _used(self, mask)
        input_bias, recurrent_bias = _gru_biases(self)
        x, ids = _input_share(self, sequences, used, input_bias)
        if used is not None:
            # z h + (1 - z) candidate keeps h where the update gate is 1.
            x += jnp.where(used, 0, _HOLD)[..., None] * (jnp.arange(3 * self.units) < self.units)
        hidden = gru_sequence(x, initial_state[0], self.cell.recurrent_kernel.value, recurrent_bias, self.reset_after, ids)
        return _as_keras(self, hidden, used, [hidden[-1]])


@keras.saving.register_keras_serializable("fedloom")
class FusedLSTM(keras.layers.LSTM):
    """Keras' LSTM with `lstm_sequence` inside; what that does not cover (dropout, other activations) runs as in Keras."""

    def __init__(self, units, **config):
        super().__init__(units, **config | _NO_CUDNN)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Overrides the loop over time only, so that every other feature of the layer stays Keras' own."""
        if not _is_standard(self):
            return super().inner_loop(sequences, initial_state, mask, training=training)
        used = _used(self, mask)
        x, ids = _input_share(self, sequences, used, self.cell.bias.value if self.use_bias else None)
        h0, c0 = initial_state
        ones = None if used is None else used.astype(x.dtype)
        hidden, cell_state = lstm_sequence(x, h0, c0, self.cell.recurrent_kernel.value, ones, ids)
        return _as_keras(self, hidden, used, [hidden[-1], cell_state])


FUSED = {keras.layers.GRU: FusedGRU, keras.layers.LSTM: FusedLSTM}


def _is_standard(layer: FusedGRU | FusedLSTM) -> bool:
    return (
        layer.activation is keras.activations.tanh
        and layer.recurrent_activation is keras.activations.sigmoid
        and not (layer.dropout or layer.recurrent_dropout or layer.unroll)
        and layer.compute_dtype == "float32"
    )


def _in_order(layer: keras.layers.RNN, sequences: jax.Array) -> jax.Array:
    """(batch, time, ...) -> (time, batch, ...), in the order in which the layer goes."""
    sequences = jnp.swapaxes(sequences, 0, 1)
    return jnp.flip(sequences, 0) if layer.go_backwards else sequences


def _used(layer: keras.layers.RNN, mask: jax.Array | list | None) -> jax.Array | None:
    """Which steps are not masked, in the layer's order; (time, batch). None for all."""
    if isinstance(mask, list | tuple):
        mask = mask[0]
    if mask is None:
        return None
    used = _in_order(layer, jnp.asarray(mask).astype(bool))
    return used.reshape(*used.shape[:2], -1).any(-1)  # Keras' rule where a mask has a value for each feature


def _input_share(
    layer: FusedGRU | FusedLSTM, sequences: jax.Array, used: jax.Array | None, bias: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """W x + b for all gates and steps, (time, batch, gates), and None; or for all ids, (ids, gates), and which id stands where."""
    origin = origin_of(sequences)
    if used is None and isinstance(origin, Lookup) and origin.ids.ndim == 2 and _is_shorter(origin):
        shares = matmul(origin.table, layer.cell.kernel.value)
        return _by_id(shares if bias is None else shares + bias, _in_order(layer, origin.ids))
    inputs = _in_order(layer, sequences)
    if used is not None:
        inputs = jnp.where(used[..., None], inputs, 0)  # masked inputs may be anything, NaN too
    # Of two matrices: the gradient of a product of three-dimensional arrays costs a transposed copy.
    x = matmul(inputs.reshape(-1, inputs.shape[-1]), layer.cell.kernel.value)
    return (x if bias is None else x + bias).reshape(*inputs.shape[:2], -1), None


def _is_shorter(origin: Lookup) -> bool:
    """Whether the table has fewer rows than there are ids; it counts as shorter where their number is not known."""
    size = origin.ids.size
    return not isinstance(size, int) or len(origin.table) < size  # symbolic, in an export for any batch size


def _by_id(shares: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The input's share of every id, and ids within it. As in Keras, ids below 0 count from the end, and ids that are none give NaN."""
    count = shares.shape[0]
    ids = ids.astype(jnp.int32)
    ids = jnp.where(ids < 0, ids + count, ids)
    nothing = jnp.full((1, shares.shape[1]), jnp.nan, shares.dtype)
    return jnp.concatenate([shares, nothing]), jnp.where((ids < 0) | (ids > count), count, ids)


def _gru_biases(layer: FusedGRU) -> tuple[jax.Array | None, jax.Array]:
    """Of the input's share and of the recurrent product."""
    none = jnp.zeros(3 * layer.units, layer.compute_dtype)
    if not layer.use_bias:
        return None, none
    return tuple(layer.cell.bias.value) if layer.reset_after else (layer.cell.bias.value, none)


def _as_keras(layer: FusedGRU | FusedLSTM, hidden: jax.Array, used: jax.Array | None, states: list[jax.Array]):
    """Last output, all outputs, states: masked steps repeat the output before them, or give zeros if the layer says so."""
    if used is not None and layer.zero_output_for_mask:
        hidden = jnp.where(used[..., None], hidden, 0)
    outputs = jnp.swapaxes(hidden, 0, 1)
    note(outputs, TimeFirst(hidden))
    return hidden[-1], outputs, states
