"""Every aggregator by name, as a small working instance: what the contract tests run over."""

from __future__ import annotations

from collections.abc import Callable

from fedloom.core import Aggregator

from ._mean import fixed_mean, sum, unweighted_mean, weighted_mean

AGGREGATORS: dict[str, Callable[[], Aggregator]] = {
    "fixed_mean": lambda: fixed_mean(4),
    "sum": sum,
    "unweighted_mean": unweighted_mean,
    "weighted_mean": weighted_mean,
}
