"""The models of the tasks, as sizes: from them come the FLOPs of a training step, by the usual count.

A product of (m, k) and (k, n) is 2mkn FLOPs. A layer's backward pass has two products of the size of its forward one: one for its weights
and one for its input. The first layer of a network needs none for its input, unless an embedding stands before it. Everything else,
activations, losses, look-ups and updates, is left out, as is customary: it is less than a hundredth here, but for the updates.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Product(NamedTuple):
    """A matrix product of a layer's forward pass, for one unit of data."""

    flops: int
    first: bool = False  # whether no gradient of its input is needed

    @property
    def training(self) -> int:
        """FLOPs of the forward and the backward pass."""
        return self.flops * (2 if self.first else 3)


def dense(inputs: int, outputs: int, *, first: bool = False) -> Product:
    """A dense layer, per row."""
    return Product(2 * inputs * outputs, first)


def recurrent(gates: int, inputs: int, units: int) -> list[Product]:
    """A recurrent layer, per row and time step: GRU has 3 gates, LSTM 4."""
    return [dense(inputs, gates * units), dense(units, gates * units)]


def convolution(height: int, width: int, inputs: int, outputs: int, kernel: int, *, first: bool = False) -> Product:
    """A convolution without padding, per image of this size."""
    positions = (height - kernel + 1) * (width - kernel + 1)
    return Product(2 * positions * kernel * kernel * inputs * outputs, first)


class Model(NamedTuple):
    """What a benchmark trains."""

    layers: list[Product]
    shape: tuple[int, ...] = ()  # axes of `y` beyond that of rows: (100,) for a character model of that length

    @property
    def training_flops(self) -> int:
        """FLOPs of the forward and backward passes of one row: a sequence, an image."""
        return sum(layer.training for layer in self.layers) * math.prod(self.shape)


MODELS: dict[str, Model] = {
    "gru": Model([*recurrent(3, 256, 1024), dense(1024, 86)], shape=(100,)),
    "lstm": Model([*recurrent(4, 8, 256), *recurrent(4, 256, 256), dense(256, 90)], shape=(80,)),
    "cnn": Model([convolution(28, 28, 1, 32, 3, first=True), convolution(26, 26, 32, 64, 3), dense(12 * 12 * 64, 128), dense(128, 62)]),
    "logistic": Model([dense(784, 10, first=True)]),
}
