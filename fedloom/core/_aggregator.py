"""What clients add up, and how a total becomes an aggregate."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from ._types import Key, Params, PyTree

AggregatorState = PyTree


class Contribution(NamedTuple):
    """A client's part of a sum, or the sum itself."""

    value: Params
    weight: jax.Array  # shape (), >= 0


class Aggregator(NamedTuple):
    """A reduction in two halves around a sum."""

    init: Callable[[Params], AggregatorState]  # from the shapes of a contribution's value
    encode: Callable[[AggregatorState, Contribution, Key], Contribution]  # on each client
    decode: Callable[[AggregatorState, Contribution, Key], tuple[Contribution, AggregatorState]]  # on the total
