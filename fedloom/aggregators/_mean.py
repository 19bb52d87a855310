"""The mean of what clients contribute, weighted or not."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedloom.core import Aggregator, Contribution


def weighted_mean() -> Aggregator:
    """sum_i w_i v_i / sum_i w_i; with no weight at all, zeros of weight 0, and the round does not count."""

    def encode(state, contribution, key):
        value, weight = contribution
        return Contribution(jax.tree.map(lambda v: weight.astype(v.dtype) * v, value), weight)

    return Aggregator(lambda value: (), encode, _divide)


def unweighted_mean() -> Aggregator:
    """sum_i v_i / n over all n clients of the round, as TFF's: empty clients and those zeroed for NaN count in n, with the value 0.

    To leave empty and zeroed clients out, use `weighted_mean` with `client_weight="uniform"`, which is the better estimate.
    """

    def encode(state, contribution, key):
        return contribution._replace(weight=jnp.ones_like(contribution.weight))

    return Aggregator(lambda value: (), encode, _divide)


def _divide(state, total, key):
    divisor = jnp.where(total.weight > 0, total.weight, 1)
    return total._replace(value=jax.tree.map(lambda v: v / divisor.astype(v.dtype), total.value)), state
