"""A million clients on disk: what opening, sampling, reading and iterating take, in seconds and in memory.

    python benchmarks/federated_data.py [--clients 1000000 --folder DIR --shakespeare FOLDER --out results.json]

Makes a population once, in DIR: clients of 20 to 200 examples, each of x float32 (4,) and y int32. With FOLDER, which holds TFF's
shakespeare_train.h5 and shakespeare_test.h5, also prepares all 715 clients of both files in two ways.

Every number comes from a fresh process; where there are several, the table shows their median and range. Memory is Linux' own count: the
peak of all that is resident, and apart from each other what is private to the process and what are pages of mapped files, which the
system takes back when it needs them. "Cold" means that the system's cache held nothing of the population; how much then came from the disk
is in the table. Everything else is warm: all of it was in the cache, as far as the machine's memory goes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

START = time.perf_counter()  # before the imports that are measured

ROWS = (20, 200)  # examples of a client
COHORT, ITERATED, ROUNDS = 1_000, 100_000, 5
AT_ONCE = 10_000  # clients made at a time
GOALS = {  # what is measured: at most
    "open: seconds": 1.0,
    "open: peak MB": 300.0,
    "cohort of 1,000, warm: seconds of the first": 1.0,
    "cohort of 1,000, warm: seconds of a later one": 1.0,
    "cohort of 1,000, cold: seconds of the first": 1.0,
    "Shakespeare, CharWindows: seconds": 1.0,
    "Shakespeare, ShakespeareSequences: seconds": 1.0,
}


def main() -> None:
    """Makes the population if it is not there, measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fedloom_benchmark")
    parser.add_argument("--shakespeare", type=Path, help="the folder of TFF's HDF5 files")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", choices=list(MEASURES), help=argparse.SUPPRESS)  # what a fresh process is started with
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure](arguments.path)))
        return
    population = arguments.folder / f"{arguments.clients}_clients"
    made = None if population.exists() else make(population, arguments.clients)
    load = os.getloadavg()[0]
    results: dict[str, list[float]] = {}
    for name in MEASURES:
        path = arguments.shakespeare if name == "shakespeare" else population
        for _ in range(arguments.repeats if path else 0):
            (drop_from_cache if name == "cold cohort" else read_into_cache)(population)
            for key, value in fresh_process(name, path).items():
                results.setdefault(key, []).append(value)
    about = described(population, made, load)
    print("\n".join([*(f"{key}: {value}" for key, value in about.items()), "", *table(results)]))
    if arguments.out:
        arguments.out.write_text(json.dumps({"about": about, "goals": GOALS, "measured": results}, indent=1) + "\n")


def make(population: Path, clients: int) -> dict[str, float]:
    """Writes the population; its ids are distinct and in no order, its sizes uniform."""
    import numpy as np
    import pyarrow as pa

    import fedloom as fl

    rng = np.random.default_rng(0)
    population.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with fl.data.StoreWriter(population) as writer:
        for first in range(0, clients, AT_ONCE):
            numbers = np.arange(first, min(first + AT_ONCE, clients), dtype=np.uint64)
            # Times an odd number modulo a power of two: as if shuffled, and no number twice.
            ids = [f"{number:08x}" for number in (numbers * np.uint64(2_654_435_761) % np.uint64(1 << 32)).tolist()]
            sizes = rng.integers(ROWS[0], ROWS[1], len(ids), endpoint=True)
            x = pa.FixedSizeListArray.from_arrays(rng.standard_normal(4 * sizes.sum(), np.float32), 4)
            y = rng.integers(10, size=sizes.sum(), dtype=np.int32)
            writer.add_table(pa.table({"x": x, "y": y}), ids, sizes)
    return {"seconds": time.perf_counter() - start, "peak_mb": memory()["VmHWM"]}


# What is measured, each in a process of its own: from a path to numbers by name.


def only_import(path: Path) -> dict[str, float]:
    """What opening a data set costs before it begins."""
    import fedloom as fl

    _ = fl.data.uniform
    return {"import alone: seconds": time.perf_counter() - START, "import alone: peak MB": memory()["VmHWM"]}


def opening(path: Path) -> dict[str, float]:
    """Opens the population and says how large it is."""
    seconds, _ = opened(path)
    return {
        "open: seconds": seconds,
        "open: seconds with import": time.perf_counter() - START,
        "open: peak MB": memory()["VmHWM"],
    }


def cohorts(path: Path) -> dict[str, float]:
    """Draws cohorts and reads them, all of them different clients; pages of the files are in the system's cache or not yet."""
    _, population = opened(path)
    seconds = list(read_cohorts(population, ROUNDS))
    return {
        "cohort of 1,000, warm: seconds of the first": seconds[0],
        "cohort of 1,000, warm: seconds of a later one": statistics.median(seconds[1:]),
        "cohort of 1,000, warm: peak MB": memory()["VmHWM"],
    }


def cold_cohort(path: Path) -> dict[str, float]:
    """A cohort of a population that nobody has read of late."""
    before = bytes_from_disk()
    _, population = opened(path)
    (seconds,) = read_cohorts(population, 1)
    return {"cohort of 1,000, cold: seconds of the first": seconds, "cohort of 1,000, cold: MB from disk": bytes_from_disk() - before}


def iterating(path: Path) -> dict[str, float]:
    """Reads one client after the other, and looks at the memory before and after every quarter of them."""
    _, population = opened(path)
    count = min(ITERATED, len(population))
    memories, clients = [memory()], iter(population)
    start = time.perf_counter()
    for _ in range(4):
        for client_id in islice(clients, count // 4):
            touch(population[client_id])
        memories.append(memory())
    result = {f"iterating over {count:,}: seconds": time.perf_counter() - start}
    for key, kind in (("RssAnon", "private"), ("RssFile", "mapped")):
        for quarter, memory_then in enumerate(memories):
            result[f"iterating over {count:,}: {kind} MB after {quarter}/4"] = memory_then[key]
    return result


def describing(path: Path) -> dict[str, float]:
    """`fl.data.describe`, of all clients."""
    import fedloom as fl

    _, population = opened(path)
    start = time.perf_counter()
    str(fl.data.describe(population))
    return {"describe: seconds": time.perf_counter() - start, "describe: peak MB": memory()["VmHWM"]}


def shakespeare(path: Path) -> dict[str, float]:
    """TFF's files, train and test, read and prepared client by client."""
    import fedloom as fl

    preparations = {"CharWindows": fl.text.CharWindows(), "ShakespeareSequences": fl.text.ShakespeareSequences()}
    start = time.perf_counter()
    splits = fl.data.shakespeare("tff", path=path)
    result = {"Shakespeare: seconds to open": time.perf_counter() - start}
    for name, prepare in preparations.items():
        start = time.perf_counter()
        for split in splits:
            for columns in split.map(prepare).values():
                touch(columns)
        result[f"Shakespeare, {name}: seconds"] = time.perf_counter() - start
    return result


MEASURES: dict[str, Callable[[Path], dict[str, float]]] = {
    "import": only_import,
    "open": opening,
    "cold cohort": cold_cohort,
    "cohort": cohorts,
    "iterate": iterating,
    "describe": describing,
    "shakespeare": shakespeare,
}


def opened(path: Path) -> tuple[float, Any]:
    """Seconds, and the population, whose first client and size have been asked for."""
    import fedloom as fl

    load = fl.data.load  # imports it
    start = time.perf_counter()
    population = load(path)
    assert population.client_ids[0] in population and repr(population)
    return time.perf_counter() - start, population


def read_cohorts(population: Any, rounds: int) -> Iterator[float]:
    """Seconds of each round: to draw a cohort, look all of it up and read every value."""
    import fedloom as fl

    start = time.perf_counter()
    sample = fl.data.uniform(population.client_ids, min(COHORT, len(population)), seed=0)
    for round_number in range(rounds):
        for columns in population.subset(sample(round_number)).values():
            touch(columns)
        yield time.perf_counter() - start
        start = time.perf_counter()


def touch(columns: Any) -> None:
    """Reads every value: a mapped array is on the disk until then."""
    for column in columns.values():
        column.sum()


def memory() -> dict[str, float]:
    """Of this process, in MB: VmHWM, the peak of what was resident, and RssAnon and RssFile, what is private and what is mapped now."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {name.rstrip(":"): int(rest[0]) / 1024 for name, *rest in lines if name in ("VmHWM:", "RssAnon:", "RssFile:")}


def bytes_from_disk() -> float:
    """What this process has read that was in no cache, in MB."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"]) / 1e6


def drop_from_cache(folder: Path) -> None:
    """Asks the system to forget the pages of these files."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())  # pages that wait to be written stay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_into_cache(folder: Path) -> None:
    """Makes the system hold the pages of these files, as far as its memory goes."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            while file.read(1 << 22):
                pass


def fresh_process(name: str, path: Path) -> dict[str, float]:
    """What is measured under this name, by a Python that has done nothing else."""
    command = [sys.executable, __file__, "--measure", name, "--path", str(path)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def described(population: Path, made: dict[str, float] | None, load: float) -> dict[str, Any]:
    """What was measured, where and with what."""
    import fedloom as fl

    data = fl.data.load(population)
    size, rows = sum(file.stat().st_size for file in population.iterdir()), int(data.size_array().sum())
    about: dict[str, Any] = {"clients": len(data), "examples": rows, "bytes": size, "bytes per example": round(size / rows, 2)}
    if made:
        about |= {"seconds to make": round(made["seconds"], 1), "peak MB while making": round(made["peak_mb"], 1)}
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True)
    return about | {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in ("numpy", "pyarrow", "h5py")},
        "fedloom": fl.__version__,
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} before",  # above 0, others worked on it as well
    }


def table(results: dict[str, list[float]]) -> list[str]:
    """Lines of a Markdown table: median, range and goal of everything measured."""
    lines = ["| what | median | range | goal | |", "| --- | --- | --- | --- | --- |"]
    for name, values in results.items():
        median, goal = statistics.median(values), GOALS.get(name)
        verdict = "" if goal is None else "met" if median < goal else "MISSED"
        at_most = "" if goal is None else f"< {goal:g}"
        lines.append(f"| {name} | {median:.3g} | {min(values):.3g} to {max(values):.3g} | {at_most} | {verdict} |")
    return lines


if __name__ == "__main__":
    main()
