"""Federated algorithms, one file each."""

from ._fedavg import fedavg as fedavg
from ._weights import ClientWeight as ClientWeight

__all__ = ["ClientWeight", "fedavg"]
