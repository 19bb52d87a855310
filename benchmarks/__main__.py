"""Compares fedloom with its peers: the same clients, batches and initial weights, on this machine, in one run.

    python -m benchmarks peers FOLDER [--peers fedjax pfl flower tff]
    python -m benchmarks run [T1 T2 T3 T4 T5] [--peer-envs FOLDER] [--peers ...] [--rounds N] [--out results.json] [--quick]

T1 and T2 need TFF's Shakespeare: FEDLOOM_SHARED names the folder that holds data/shakespeare_tff, by default ../shared. Each system runs
in a process of its own, and rounds go in turn. Leave the machine alone meanwhile: systems with several threads in step suffer far more from
what else runs than others. What is printed is also said in the JSON, with every sample. The exit code is 1 if a loss of fedloom's is not
the debug executor's, or if fedloom fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._peers import PINS, make_environments
from ._systems import FEDLOOM, PEERS, ROOT, System, chosen
from ._tasks import TASKS, Case, quick


def main(words: Sequence[str] | None = None) -> int:
    """Runs a command, by default the one of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure")
    run.add_argument("tasks", nargs="*", choices=[*TASKS, []], metavar="TASK", help="T1 to T5; all by default")
    run.add_argument("--peers", nargs="*", choices=list(PEERS), help="default: those whose environments exist; none after a bare --peers")
    run.add_argument("--peer-envs", type=Path, default=ROOT / "build" / "peers", help="folder of the environments (build/peers)")
    run.add_argument("--variants", nargs="+", choices=list(FEDLOOM), default=["default", "bfloat16"], help="rows of fedloom itself")
    run.add_argument("--cohorts", nargs="+", type=int, help="only the cases of these cohorts")
    run.add_argument("--rounds", type=int, help="later rounds, after the first")
    run.add_argument("--out", type=Path, help="raw JSON")
    run.add_argument("--quick", action="store_true", help="two later rounds, no cold start: to see whether everything runs")
    run.set_defaults(command=_run)
    peers = commands.add_parser("peers", help="make the peers' environments")
    peers.add_argument("folder", type=Path)
    peers.add_argument("--peers", nargs="+", choices=list(PINS), default=list(PINS))
    peers.set_defaults(command=lambda arguments: int(bool(make_environments(arguments.folder.absolute(), arguments.peers))))
    arguments = parser.parse_args(words)
    return arguments.command(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from ._run import Result
    from ._table import best_peer, failures, scale_table, table

    systems = chosen(arguments.variants, arguments.peers, arguments.peer_envs.absolute())
    about, results, wrong = _about(), [], []
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    for task in arguments.tasks or TASKS:
        cases = [case for case in TASKS[task] if not arguments.cohorts or case.cohort in arguments.cohorts]
        done: list[Result] = []
        for i, case in enumerate(cases):
            best = best_peer(done[-1].rows) if done else None
            taking_part = [
                system
                for system in systems
                if not system.peer or case.systems == "all" or (case.systems == "best peer" and (not best or best.system == system.name))
            ]
            done.append(_measure(case, taking_part, arguments, cold=not i or case.model != cases[i - 1].model))
            wrong += failures(done[-1])
            if case.systems != "fedloom":
                print("\n".join(["", *table(done[-1]), ""]), flush=True)
            results.append(done[-1].to_json())
            if arguments.out:
                arguments.out.write_text(json.dumps({"about": about, "results": results}, indent=1))
        if alone := [result for result in done if result.case.systems == "fedloom"]:
            print("\n".join(["", *scale_table(alone), ""]), flush=True)
    for line in wrong:
        print(f"FAILED {line}", flush=True)
    return 1 if wrong else 0


def _measure(case: Case, systems: list[System], arguments: argparse.Namespace, *, cold: bool) -> Any:
    from ._data import write_workload  # imports JAX and Keras
    from ._run import run_case

    if arguments.quick:
        case = quick(case)
    if arguments.rounds:
        case = dataclasses.replace(case, later_rounds=arguments.rounds)
    with tempfile.TemporaryDirectory(prefix="fedloom_benchmark_") as folder:
        begin = time.perf_counter()
        workload = write_workload(case, Path(folder) / "workload", case.later_rounds + 1)
        print(f"{case.name}: data made in {time.perf_counter() - begin:.1f} s", flush=True)
        tell = lambda line: print(line, flush=True)  # noqa: E731
        return run_case(case, workload, systems, envs=arguments.peer_envs.absolute(), cold=cold and not arguments.quick, tell=tell)


def _about() -> dict[str, Any]:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "commit": git.stdout.strip(),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in ("jax", "jaxlib", "keras", "numpy")},
        "machine": f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores",
        "load before": round(os.getloadavg()[0], 1),
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    sys.exit(main())
