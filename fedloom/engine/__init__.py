"""Running client work over cohorts."""

from ._attendance import Attendance as Attendance
from ._cohort import Client as Client
from ._cohort import pair as pair
from ._cohort import pool as pool
from ._cohort import prepare as prepare
from ._debug import DebugExecutor as DebugExecutor
from ._executor import Executor as Executor
from ._executor import MakeExecutor as MakeExecutor
from ._local import LocalExecutor as LocalExecutor

__all__ = ["Attendance", "Client", "DebugExecutor", "Executor", "LocalExecutor", "MakeExecutor", "pair", "pool", "prepare"]
