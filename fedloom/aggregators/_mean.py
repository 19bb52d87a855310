"""The mean of what clients contribute, weighted or not, and the sum."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from fedloom.core import Aggregator, Contribution, same_bound


def weighted_mean(when_empty: Literal["reject", "zero"] = "reject") -> Aggregator:
    """sum_i w_i v_i / sum_i w_i.

    Args:
        when_empty: What a round without any weight comes to: it does not count, and nothing changes ("reject"), as with the NaN of TFF's
            MeanFactory; or its mean is 0 ("zero"), as with `no_nan_division=True`, and a server optimizer with momentum moves on.

    Raises:
        ValueError: `when_empty` is neither.
    """
    if when_empty not in ("reject", "zero"):
        raise ValueError(f'when_empty must be "reject" or "zero", got {when_empty!r}.')

    def encode(state, contribution, key):
        weight = contribution.weight
        return contribution._replace(value=jax.tree.map(lambda v: weight.astype(v.dtype) * v, contribution.value))

    def decode(state, total, key):
        mean, state, measurements = _divide(state, total, key)
        if when_empty == "zero":
            mean = mean._replace(weight=jnp.where(mean.weight > 0, mean.weight, 1))
        return mean, state, measurements

    return Aggregator(lambda value: (), encode, decode, name="mean")


def unweighted_mean() -> Aggregator:
    """sum_i v_i / n over all n clients of the round, as TFF's: empty clients and those zeroed for NaN count in n, with the value 0.

    To leave empty and zeroed clients out, use `weighted_mean` with `client_weight="uniform"`, which is the better estimate.
    """
    return Aggregator(lambda value: (), _count_one, _divide, name="mean")


def fixed_mean(cohort_size: float) -> Aggregator:
    """sum_i v_i / `cohort_size`, whoever took part: what a client can change does not depend on the others, as privacy needs it.

    Raises:
        ValueError: `cohort_size` is not above 0.
    """
    if not cohort_size > 0:
        raise ValueError(f"cohort_size must be above 0, got {cohort_size}. Give the number of clients that a round is meant to have.")

    def decode(state, total, key):
        return total._replace(value=jax.tree.map(lambda v: v / jnp.asarray(cohort_size, v.dtype), total.value)), state, {}

    return Aggregator(lambda value: (), _count_one, decode, name="mean", bound=same_bound)


def sum() -> Aggregator:
    """sum_i v_i, without weights."""
    return Aggregator(lambda value: (), _count_one, lambda state, total, key: (total, state, {}), name="sum", bound=same_bound)


def _count_one(state, contribution, key):
    return contribution._replace(weight=jnp.ones_like(contribution.weight))


def _divide(state, total: Contribution, key):
    divisor = jnp.where(total.weight > 0, total.weight, 1)
    return total._replace(value=jax.tree.map(lambda v: v / divisor.astype(v.dtype), total.value)), state, {}
