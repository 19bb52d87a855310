"""How clients' contributions become one."""

from fedloom.core import Aggregator as Aggregator
from fedloom.core import chain as chain

from ._mean import fixed_mean as fixed_mean
from ._mean import sum as sum
from ._mean import unweighted_mean as unweighted_mean
from ._mean import weighted_mean as weighted_mean
from ._registry import AGGREGATORS as AGGREGATORS

__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "chain",
    "fixed_mean",
    "sum",
    "unweighted_mean",
    "weighted_mean",
]
