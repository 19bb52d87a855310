"""How per-element losses and metrics become sums: what carries no weight counts neither above nor below the line."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedloom.core import Batch, MetricSums, Ratio


def element_weights(batch: Batch, shape: tuple[int, ...]) -> jax.Array:
    """The weight of every element of a loss of this shape, (B,) or (B, T, ...): sample weight, 0 in rows of padding.

    Raises:
        ValueError: The sample weights have another shape than the first axes of the loss.
    """
    given, real = jnp.asarray(batch.sample_weight), jnp.asarray(batch.real)
    if given.shape != shape[: given.ndim]:
        raise ValueError(
            f"sample_weight must have the shape of the first axes of the loss per element, {shape}, got {given.shape}. "
            "Give one weight per example, or one per token for a model with an output per token."
        )
    weight = given * real.reshape((-1,) + (1,) * (given.ndim - 1))
    return jnp.broadcast_to(weight.reshape(given.shape + (1,) * (len(shape) - given.ndim)), shape)


def counts(batch: Batch, weight: jax.Array) -> MetricSums:
    """The counts that every model reports; `weight` is that of each element of the loss."""
    return {"num_examples": batch.real.sum(), "num_batches": jnp.float32(1), "num_tokens": weight.sum()}


def mean(total: jax.Array, weight: jax.Array) -> tuple[jax.Array, Ratio]:
    """total / weight, 0 without weight, and the two as a metric."""
    return total / jnp.where(weight > 0, weight, 1), Ratio(total, weight)
