"""A system's process, as the process that measures sees it: started, given turns, and ended with all that it started."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ._memory import PeakMemory
from ._systems import ROOT, System

TURN_SECONDS = 600  # after which a system has failed
LAST_SECONDS = 15  # for ending by itself


class WorkerFailed(Exception):
    """A system's process ended, or took too long."""


class Worker:
    """A process that does a round at each turn."""

    def __init__(self, system: System, command: list[str], environment: dict[str, str], log: Path):
        self._log = log
        self.started = time.perf_counter()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        self.memory = PeakMemory(self._process.pid)
        self.name = system.name

    def turn(self) -> dict[str, Any]:
        """What the worker answers."""
        assert self._process.stdin and self._process.stdout
        with self.memory:
            try:
                self._process.stdin.write(b"round\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                raise WorkerFailed(self._last_words()) from None
            ready, _, _ = select.select([self._process.stdout], [], [], TURN_SECONDS)
            line = self._process.stdout.readline() if ready else b""
        if not line:
            last_words = self._last_words()
            raise WorkerFailed(last_words if ready else f"no answer within {TURN_SECONDS} s, after: {last_words}")
        return json.loads(line)

    def stop(self) -> None:
        """Ends the process and what it started."""
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=LAST_SECONDS)
        for pid in [self._process.pid, *self.memory.pids]:
            if _is_ours(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _last_words(self) -> str:
        self.stop()
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"ended with code {self._process.returncode}"


class Starter:
    """Starts workers on a workload; those of one system share caches of compiled programs, which are empty at first."""

    def __init__(self, folder: Path, envs: Path):
        self._folder, self._envs = folder, envs

    def __call__(self, system: System) -> Worker:
        place = self._folder.parent / "caches" / "".join(letter if letter.isalnum() else "_" for letter in system.name)
        place.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(place),
            "KERAS_BACKEND": "jax",
            "BENCHMARK_WORKER": str(self._folder),
        }
        if system.worker == "fedjax":  # fedloom turns on the same by itself
            environment |= {"JAX_COMPILATION_CACHE_DIR": str(place / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            environment |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        environment |= system.environment
        return Worker(system, system.command(self._envs, self._folder), environment, place / "log.txt")


def _is_ours(pid: int) -> bool:
    """Whether this is still a process of this run: numbers of processes are used again."""
    try:
        return b"BENCHMARK_WORKER=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
