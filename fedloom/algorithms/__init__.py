"""Federated algorithms, one file each."""

from fedloom.core import Algorithm as Algorithm

from ._fedavg import fedavg as fedavg
from ._registry import ALGORITHMS as ALGORITHMS
from ._weights import ClientWeight as ClientWeight

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "ClientWeight",
    "fedavg",
]
