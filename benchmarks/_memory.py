"""The memory of a process and all that it started, as Linux counts it."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
INTERVAL = 0.25  # seconds


class PeakMemory:
    """Looks at a process now and then while a `with` block runs, and at its end.

    Attributes:
        resident_mb: Peak of what was resident. Of a single process the system keeps it to the byte; of several it is the largest sum that
            was seen, in which what they share counts once.
        private_mb: Peak of what was seen of memory that is no file's: neither mapped data nor libraries.
        pids: Of all processes that were seen.
    """

    def __init__(self, pid: int):
        self._pid = pid
        self.resident_mb = self.private_mb = 0.0
        self.pids: set[int] = set()
        self._done = threading.Event()

    def __enter__(self) -> PeakMemory:
        self._done.clear()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            self._look()
        self._look()

    def _look(self) -> None:
        pids = tree(self._pid)
        self.pids.update(pids)
        status = [_fields(PROC / str(pid) / "status") for pid in pids]
        several = len(pids) > 1
        resident = sum(_fields(PROC / str(pid) / "smaps_rollup").get("Pss", 0) for pid in pids) if several else status[0].get("VmHWM", 0)
        self.resident_mb = max(self.resident_mb, resident / 1024)
        self.private_mb = max(self.private_mb, sum(fields.get("RssAnon", 0) for fields in status) / 1024)


def tree(pid: int) -> list[int]:
    """A process and all that it started, and so on."""
    found = [pid]
    for parent in found:
        with suppress(OSError):  # it may have ended
            for task in (PROC / str(parent) / "task").iterdir():
                with suppress(OSError):
                    found += map(int, (task / "children").read_text().split())
    return found


def _fields(path: Path) -> dict[str, int]:
    """Numbers, in KB, of a file with lines such as "VmHWM:  1234 kB"."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:  # it may have ended
        return {}
    return {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) == 3 and line[2] == "kB"}
