"""Seconds and memory to bring shuffled rows of CSV and of SQLite into fedloom's form by client, and the same for twice as many rows.

    python benchmarks/convert_data.py [--rows 5000000 --clients 100000 --memory 256]

Each conversion runs in a process of its own. Prints its seconds, rows per second, and the peak of its resident memory above that of a
process that has only imported what is needed, beside the bound that `convert` was given. What comes out is checked: all rows are there,
and every client's are in the order of the source. That the disk's cache is warm is no matter to the memory, but it is to the seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

import fedloom as fl

ROWS_AT_ONCE = 1 << 18
MIB = 1 << 20


def main() -> None:
    """Makes the files, measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--memory", type=int, default=256, help="the bound, in MiB")
    parser.add_argument("--folder", default=None, help="where the files go; needs about 300 bytes per row")
    parser.add_argument("--measure", nargs=2, metavar=("SOURCE", "TARGET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        _measure(*arguments.measure, memory=arguments.memory * MIB, rows=arguments.rows)
        return
    for rows in (arguments.rows, 2 * arguments.rows):
        for form, write in (("csv", _write_csv), ("sqlite", _write_sqlite)):
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                source, target = Path(folder, f"rows.{form}"), Path(folder, "by_client")
                write(source, rows, arguments.clients)
                found = _in_a_process(source, target, arguments.memory, rows)
                print(
                    f"{form}: {rows:,} rows of {arguments.clients:,} clients, {source.stat().st_size / MIB:,.0f} MiB: "
                    f"{found['seconds']:.1f} s, {rows / found['seconds']:,.0f} rows/s, peak {found['peak'] / MIB:.0f} MiB above "
                    f"{found['imported'] / MIB:.0f} MiB, bound {arguments.memory} MiB",
                    flush=True,
                )
    print(f"{os.cpu_count()} cores, {platform.machine()}, pyarrow {pa.__version__}, fedloom {fl.__version__}")


def _batches(rows: int, clients: int) -> Iterator[pa.RecordBatch]:
    """Rows of clients in random order; `x` counts them."""
    rng = np.random.default_rng(0)
    for start in range(0, rows, ROWS_AT_ONCE):
        x = np.arange(start, min(rows, start + ROWS_AT_ONCE))
        client = rng.integers(clients, size=len(x))
        columns = {
            "client": [f"client {i:07}" for i in client],
            "x": x,
            "y": rng.integers(10, size=len(x)),
            "weight": rng.random(len(x)),
            "text": [f"what client {i} says in its row {j}" for i, j in zip(client, x, strict=True)],
        }
        yield pa.record_batch(columns)


def _write_csv(path: Path, rows: int, clients: int) -> None:
    batches = _batches(rows, clients)
    first = next(batches)
    with pyarrow.csv.CSVWriter(path, first.schema) as writer:
        for batch in itertools.chain([first], batches):
            writer.write_batch(batch)


def _write_sqlite(path: Path, rows: int, clients: int) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE examples (client TEXT, x INTEGER, y INTEGER, weight REAL, text TEXT)")
        for batch in _batches(rows, clients):
            values = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            database.executemany("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", values)
        database.commit()


def _in_a_process(source: Path, target: Path, memory: int, rows: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--memory", str(memory), "--rows", str(rows), "--measure", str(source), str(target)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _measure(source: str, target: str, *, memory: int, rows: int) -> None:
    convert = fl.data.convert  # the package loads its parts when they are first used
    imported = _peak()
    start = time.perf_counter()
    table = "examples" if source.endswith("sqlite") else None
    dataset = convert(source, target, client="client", memory=memory, table=table)
    print(json.dumps({"seconds": time.perf_counter() - start, "imported": imported, "peak": _peak() - imported}))
    _check(dataset, rows)


def _peak() -> int:
    """The largest resident memory of this process so far, in bytes. Linux only."""
    # Not getrusage, whose maximum a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _check(dataset: fl.data.FederatedDataset, rows: int) -> None:
    total = count = 0
    for examples in dataset.values():
        assert (np.diff(examples["x"]) > 0).all()
        total, count = total + int(examples["x"].sum()), count + len(examples["x"])
    assert (count, total) == (rows, rows * (rows - 1) // 2)


if __name__ == "__main__":
    main()
