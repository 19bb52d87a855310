"""Running client work over cohorts, and functions in the federated language."""

from ._attendance import Attendance as Attendance
from ._by_name import executor_class as executor_class
from ._cohort import Client as Client
from ._cohort import pair as pair
from ._cohort import pool as pool
from ._cohort import prepare as prepare
from ._debug import DebugExecutor as DebugExecutor
from ._executor import Executor as Executor
from ._executor import MakeExecutor as MakeExecutor
from ._local import LocalExecutor as LocalExecutor
from .programs import FederatedFunction as FederatedFunction
from .programs import federated as federated

__all__ = [
    "Attendance",
    "Client",
    "DebugExecutor",
    "Executor",
    "FederatedFunction",
    "LocalExecutor",
    "MakeExecutor",
    "executor_class",
    "federated",
    "pair",
    "pool",
    "prepare",
]
