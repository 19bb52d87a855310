"""Who takes part: fedloom, in several forms, and its peers, each with a worker of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class System:
    """A row of a table."""

    name: str
    worker: str  # module of `benchmarks.workers`
    peer: str = ""  # folder of its environment; "": fedloom's own
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    models: frozenset[str] = frozenset()  # of the cases that it makes sense for; empty: all
    exact: bool = True  # whether its losses must be those of the debug executor, up to rounding

    def command(self, envs: Path | None, folder: Path) -> list[str]:
        """What starts its worker."""
        python = interpreter(envs, self.peer) if self.peer and envs else sys.executable
        return [str(python), "-m", f"benchmarks.workers.{self.worker}", str(folder), *self.arguments]


_RECURRENT = frozenset({"gru", "lstm"})
FEDLOOM = {
    "default": System(name="fedloom", worker="fedloom"),
    "bfloat16": System(
        name="fedloom, bfloat16", worker="fedloom", arguments=("--compute", "bfloat16"), models=_RECURRENT | {"cnn"}, exact=False
    ),
    "from-files": System(name="fedloom, from files", worker="fedloom", arguments=("--from-files",)),
    "no-native": System(name="fedloom, no native kernels", worker="fedloom", environment={"FEDLOOM_NATIVE": "skip"}),
    "plain-layers": System(name="fedloom, Keras' own layers", worker="fedloom", arguments=("--plain-layers",), models=_RECURRENT),
}
"""fedloom's rows by name. A new one is a line here, and an option of its worker."""

DEBUG = System(name="fedloom, debug executor", worker="fedloom", arguments=("--executor", "debug"))
MACHINE = System(name="machine", worker="machine")

PEERS = {
    "fedjax": [
        System(name="FedJAX 0.0.17, JAX 0.4.30", worker="fedjax", peer="fedjax", models=frozenset({"gru", "logistic"})),
        System(name="FedJAX 0.0.17, JAX 0.5.3", worker="fedjax", peer="fedjax-newer-jax", models=frozenset({"lstm", "cnn"})),
    ],
    "pfl": [
        System(name=f"pfl 0.6, {CORES} processes", worker="pfl", peer="pfl", arguments=("--processes", str(CORES))),
        System(name="pfl 0.6, 1 process", worker="pfl", peer="pfl"),
    ],
    "flower": [System(name="Flower 1.41 simulation", worker="flower", peer="flower")],
    "tff": [System(name="TFF 0.87", worker="tff", peer="tff")],
}


def interpreter(envs: Path, peer: str) -> Path:
    """Where a peer's Python is."""
    return envs / peer / "bin" / "python"


def chosen(variants: Iterable[str], peers: Iterable[str] | None, envs: Path) -> list[System]:
    """The systems of a run.

    Args:
        variants: Of `FEDLOOM`.
        peers: Of `PEERS`; None takes those whose environments exist.
        envs: The folder of the environments.

    Raises:
        FileNotFoundError: A peer was asked for by name, and its environment is not there.
    """
    result = [FEDLOOM[name] for name in variants]
    for name in PEERS if peers is None else peers:
        missing = [system.peer for system in PEERS[name] if not interpreter(envs, system.peer).exists()]
        if not missing:
            result += PEERS[name]
        elif peers is not None:
            raise FileNotFoundError(
                f"The environment of {name} must be at {envs / missing[0]}, which has no Python. Make it with "
                f"`python -m benchmarks peers {envs}`, or leave it out of --peers."
            )
    return result
