"""Ctrl-C and SIGTERM: a run that is asked to stop finishes its round first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While this context is open, the first SIGINT or SIGTERM is noted in `wanted`, and a second one acts as it would without us.

    Outside the main thread, where Python handles no signals, it does nothing.

    Args:
        tell: Is called with what to say to whoever sent the signal.
    """

    def __init__(self, tell: Callable[[str], None]):
        self._tell, self._before = tell, {}
        self.wanted: str | None = None  # the name of the signal

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before: dict[int, Any] = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        self.wanted = signal.Signals(number).name
        self._tell(f"{self.wanted}: finishing this round, then saving and stopping. Once more to stop at once.")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
