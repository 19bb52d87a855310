"""The swap of Keras' convolutions and max-pooling of images for fused ones: same weights, same numbers, a fraction of the training time.

Free to change: which configurations are fused. With care: `FusedConv2D` must keep the names and order of Conv2D's weights.
"""

from __future__ import annotations

import jax.numpy as jnp
import keras

from fedloom.kernels import conv2d, max_pool2d


class FusedConv2D(keras.layers.Conv2D):
    """Keras' Conv2D with `conv2d` inside; what that does not cover (dilation, groups, channels first) runs as in Keras."""

    def call(self, inputs):
        """Overrides the whole layer; relu, the usual activation, is part of the kernel."""
        if not _is_standard(self, inputs) or self.groups != 1 or max(self.dilation_rate) > 1 or self.lora_enabled:
            return super().call(inputs)
        relu = self.activation is keras.activations.relu
        bias = jnp.asarray(self.bias) if self.use_bias else jnp.zeros(self.filters)
        y = conv2d(inputs, jnp.asarray(self.kernel), bias, self.strides, self.padding, relu)
        return y if relu or self.activation is None else self.activation(y)


class FusedMaxPooling2D(keras.layers.MaxPooling2D):
    """Keras' MaxPooling2D with `max_pool2d` inside; windows that overlap or are padded, or channels first, run as in Keras."""

    def call(self, inputs):
        """Overrides the whole layer."""
        if not _is_standard(self, inputs) or self.pool_size != self.strides or self.padding != "valid":
            return super().call(inputs)
        return max_pool2d(inputs, self.pool_size)


FUSED = {keras.layers.Conv2D: FusedConv2D, keras.layers.MaxPooling2D: FusedMaxPooling2D}


def _is_standard(layer: keras.Layer, inputs) -> bool:
    return layer.data_format == "channels_last" and layer.compute_dtype == "float32" and inputs.ndim == 4 and 0 not in inputs.shape
