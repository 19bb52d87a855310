"""Executors by their names."""

from __future__ import annotations

from typing import Any, cast

from ._debug import DebugExecutor
from ._executor import MakeExecutor
from ._local import LocalExecutor

_EXECUTORS: dict[str, MakeExecutor] = {"local": LocalExecutor, "debug": DebugExecutor}


def executor_class(executor: Any) -> MakeExecutor:
    """The class of executors of this name, or the function itself.

    Raises:
        ValueError: The name is not known.
    """
    if not callable(executor) and executor not in _EXECUTORS:
        raise ValueError(f"executor must be one of {sorted(_EXECUTORS)} or a function that makes one, got {executor!r}.")
    return cast(MakeExecutor, executor) if callable(executor) else _EXECUTORS[executor]
