"""Clients kept in memory after they were read and prepared."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from ._federated import Examples

_BYTES_PER_OBJECT = 64  # of a string or a small array, besides its content


class ClientCache:
    """A reader in front of another: the clients used last stay in memory, up to a bound. Safe to call from several threads.

    It pickles without what it holds.

    Args:
        read: Returns the columns of one client.
        max_bytes: Of all columns kept. A client larger than that is never kept.

    Raises:
        ValueError: `max_bytes` is negative.
    """

    def __init__(self, read: Callable[[str], Examples], max_bytes: int):
        if max_bytes < 0:
            raise ValueError(f"max_bytes must be at least 0, got {max_bytes}.")
        self.__setstate__((read, max_bytes))

    def __getstate__(self):
        return self._read, self._max_bytes

    def __setstate__(self, state):
        self._read, self._max_bytes = state
        self._kept: OrderedDict[str, tuple[Examples, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, client_id: str) -> Examples:
        with self._lock:
            if client_id in self._kept:
                self._kept.move_to_end(client_id)
                return self._kept[client_id][0]
        # Read outside the lock: two threads may read one client twice, but none waits for another's disk.
        columns = {name: _read_only(column) for name, column in self._read(client_id).items()}
        size = sum(map(_num_bytes, columns.values()))
        with self._lock:
            if size <= self._max_bytes and client_id not in self._kept:
                self._kept[client_id] = columns, size
                self._bytes += size
                while self._bytes > self._max_bytes:
                    _, (_, dropped) = self._kept.popitem(last=False)
                    self._bytes -= dropped
        return columns


def _read_only(column: np.ndarray) -> np.ndarray:
    view = np.asarray(column).view()  # the caller's own array stays as it is
    view.flags.writeable = False
    return view


def _num_bytes(column: np.ndarray) -> int:
    if column.dtype != object:
        return column.nbytes
    return column.nbytes + sum(_BYTES_PER_OBJECT + (value.nbytes if isinstance(value, np.ndarray) else len(value)) for value in column)
