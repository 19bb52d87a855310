"""How long clients took, and how long the device waited for data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

Item = TypeVar("Item")


class Waited(NamedTuple):
    """Seconds in which the device had nothing to do because the next block was not there, as far as can be seen without disturbing it."""

    at_least: float = 0.0  # waits that began with the device idle
    at_most: float = 0.0  # and those in which it became so


class Clock:
    """Seconds from the end of one client's work to the end of the next one's."""

    def __init__(self):
        self.seconds: list[float] = []
        self._last = time.perf_counter()

    def client_ends(self) -> None:
        """To be called when its last block is done."""
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


class Watch:
    """Measures `Waited`: looks at the device when a wait for a block begins and when it ends."""

    def __init__(self):
        self.waited = Waited()
        self.running: Sequence[Any] = ()  # ready when what was last handed to the devices is done

    def waits_for(self, blocks: Iterator[Item]) -> Iterator[Item]:
        """The blocks, with the time spent in waiting for each of them."""
        while True:
            begin, idle = time.perf_counter(), self._is_idle()
            if (block := next(blocks, None)) is None:
                return
            seconds = time.perf_counter() - begin
            at_least, at_most = self.waited
            self.waited = Waited(at_least + seconds * idle, at_most + seconds * (idle or self._is_idle()))
            yield block

    def _is_idle(self) -> bool:
        return all(token.is_ready() for token in self.running)
