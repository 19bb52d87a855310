"""How values of clients become one at the server: a client's part, which adds up, and what the total says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._addends import Extreme, Lots, Sample
from .._types import PyTree


class Rule(NamedTuple):
    """An aggregation. `add` and `fold` of `_addends` are what happens between its halves."""

    part: Callable[..., PyTree]  # (place in the cohort, the values of one client) -> what adds up
    result: Callable[[PyTree], PyTree]  # of the total


def _sum_part(place: Any, value: PyTree) -> PyTree:
    # As NumPy sums: booleans and narrow integers become int32 or uint32.
    return jax.tree.map(lambda x: jnp.asarray(x).astype(jax.eval_shape(lambda: jnp.zeros(1, x.dtype).sum()).dtype), value)


SUM = Rule(_sum_part, lambda total: total)


def _mean_part(place: Any, value: PyTree, weight: Any = 1.0) -> PyTree:
    weight = jnp.asarray(weight, jnp.float32)
    return jax.tree.map(lambda x: weight * jnp.asarray(x).astype(jnp.float32), value), weight


def _mean_result(total: PyTree) -> PyTree:
    weighted, weight = total
    return jax.tree.map(lambda x: x / weight, weighted)


MEAN = Rule(_mean_part, _mean_result)


def _extreme(largest: bool) -> Rule:
    def part(place: Any, value: PyTree) -> PyTree:
        return jax.tree.map(lambda x: Extreme(jnp.asarray(x), jnp.ones(jnp.shape(x), jnp.bool_), largest=largest), value)

    def result(total: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.value, total, is_leaf=lambda x: isinstance(x, Extreme))

    return Rule(part, result)


MIN, MAX = _extreme(False), _extreme(True)


def collecting(at_most: int) -> Rule:
    """Of the values of `at_most` clients drawn without replacement. Its parts take a key, which is that of the draw."""

    def part(place: Any, value: PyTree, key: Any) -> Lots:
        lot = jax.random.bits(jax.random.fold_in(key, place), (), jnp.uint32)
        return Lots.of_one(lot, jnp.asarray(place, jnp.int32), value, at_most)

    def result(total: Lots) -> Sample:
        return total.sample()

    return Rule(part, result)
