"""Metrics that add up: each is kept as sums, added over batches and clients, and divided once at the very end."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._types import PyTree

MetricSums = PyTree
"""A dict: name -> a `Ratio`, a count of shape (), or the summed variables of a Keras metric."""


class Ratio(NamedTuple):
    """A weighted mean before the division.

    Example:
        >>> add(Ratio(6.0, 3.0), Ratio(0.0, 1.0)).value()
        1.5
    """

    total: jax.Array
    weight: jax.Array

    def value(self) -> float:
        """total / weight; 0 if nothing was counted, as in TFF."""
        return float(self.total) / float(self.weight) if float(self.weight) != 0 else 0.0


def add(a: MetricSums, b: MetricSums) -> MetricSums:
    """The sums of two disjoint sets of batches, taken together."""
    return jax.tree.map(lambda x, y: x + y, a, b)


def zeros_like(sums: MetricSums) -> MetricSums:
    """The sums over nothing; leaves may be shapes (`jax.ShapeDtypeStruct`)."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
