"""The run folder: what a run writes down, each file whole at any moment.

    config.json             settings, and what the bits depend on besides
    metrics.csv             a line per round; the same bytes for the same run
    timing.csv              a line per round: the clocks, which no two runs share
    clients.csv             a line per client and round: all, if the process reports them; else those that were left out
    held_out_clients.csv    each held-out client with the model before and after
    warnings.csv            what the run complained of
    status.json             how far it is, how it ended, and its best round
    checkpoints/            from which it can be resumed
    model.keras, best/      the newest model, and the best one

With care: the names of files and columns; what people wrote to read runs depends on them.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .._files import write_text

Row = dict[str, Any]
"""A round: `round`, its training metrics by name, `eval_...` metrics if it was evaluated, and the clocks."""

CLOCKS = ("seconds", "data_seconds", "compute_seconds", "aggregate_seconds", "evaluate_seconds", "clients_per_second")
"""Columns of a row that tell of time, in seconds but for the last."""

_LOCK = ".lock"
_BEFORE_THE_START = {_LOCK, "config.toml", "wandb.json", "mlflow.json", "tensorboard"}  # what a kill at the very start may leave
_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{32}(\..*)?|\.unfinished\..*")  # what `_files.replacing` leaves when the process is killed


class RunFolder:
    """A folder with `config.json`, `metrics.csv` and whatever else a run leaves; use it as a context, in which it is this process' alone.

    Args:
        path: Is made if missing.
        resume: Whether a run that is there already is to go on; otherwise the folder must be new or empty.

    Attributes:
        holds_run: Whether there is a run in it to go on with.

    Raises:
        ValueError: It is a file, or holds a run already.
        OSError: It cannot be written to.
    """

    def __init__(self, path: str | Path, *, resume: bool = False):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"run_dir must be a folder, got the file {str(path)!r}. Choose another name.")
        names = [p.name for p in self.path.iterdir()] if self.path.exists() else []
        holds = sorted(name for name in names if name not in _BEFORE_THE_START and not _UNFINISHED.fullmatch(name))
        if holds and not resume:
            way_on = "go on with the run in it (resume=True; `fedloom resume`)" if "config.json" in holds else "remove what is in it"
            raise ValueError(
                f"run_dir must be a new or empty folder, got {str(path)!r}, which holds {', '.join(holds[:3])}"
                f"{', ...' if len(holds) > 3 else ''}. Choose another, or {way_on}."
            )
        if holds and "config.json" not in holds:
            raise ValueError(f"There is no run to resume in {str(path)!r}: it has no config.json. Name the folder that a run wrote.")
        self.holds_run = bool(holds)
        self._lock = FileLock(self.path / _LOCK, timeout=0)

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise ValueError(
                f"Another process is at work on the run in {str(self.path)!r}. Wait until it ends or stop it, or choose another run_dir."
            ) from None
        except OSError as error:
            raise OSError(
                error.errno, f"The run folder {str(self.path)!r} cannot be written to ({error.strerror}). Choose a run_dir that can be"
            ) from error
        for folder in (self.path, self.path / "checkpoints", self.path / "best"):
            for left in folder.iterdir() if folder.is_dir() else ():
                if _UNFINISHED.fullmatch(left.name):
                    left.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self._lock.release()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """The settings of the run, as JSON."""
        write_text(self.path / "config.json", json.dumps(config, indent=1) + "\n")

    def write_metrics(self, rows: Sequence[Row]) -> None:
        """All rounds so far, to `metrics.csv` and `timing.csv`; a metric that a round does not have stays empty."""
        self._write_csv("metrics.csv", [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows])
        self._write_csv("timing.csv", [{name: row[name] for name in ("round", *CLOCKS) if name in row} for row in rows], ("round", *CLOCKS))

    def write_held_out_clients(self, rows: Sequence[Row]) -> None:
        """A line per held-out client."""
        self._write_csv("held_out_clients.csv", rows)

    def write_warnings(self, rows: Sequence[Row]) -> None:
        """A line per warning, with its round."""
        self._write_csv("warnings.csv", rows, ("round", "text"))

    def write_status(self, status: Mapping[str, Any]) -> None:
        """How far the run is, or how it ended."""
        write_text(self.path / "status.json", json.dumps(status, indent=1) + "\n")

    def add_clients(self, rows: Sequence[Row]) -> None:
        """Further lines of `clients.csv`, one per client of a round; a column that is new is empty in those before."""
        path = self.path / "clients.csv"
        names = list(dict.fromkeys(name for row in rows for name in row))
        header = self._header(path)
        if header is None or set(names) - set(header):
            self._write_csv("clients.csv", [*self._read_csv("clients.csv"), *rows])
            return
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, header, restval="", lineterminator="\n").writerows(rows)

    def forget_after(self, round_number: int) -> None:
        """Takes out of `clients.csv` what belongs to later rounds, which a resumed run does again, and a line cut off by a kill."""
        if (self.path / "clients.csv").exists():
            rows = [row for row in self._read_csv("clients.csv") if None not in row.values() and int(row["round"]) <= round_number]
            self._write_csv("clients.csv", rows, tuple(self._header(self.path / "clients.csv") or ()))

    def read_held_out_clients(self) -> list[Row]:
        """The lines of `held_out_clients.csv`, with numbers as floats; none if there is no such file."""
        rows = self._read_csv("held_out_clients.csv")
        return [{name: value if name == "client" else float(value) for name, value in row.items()} for row in rows]

    def rounds_written(self) -> int:
        """The number of the last round in `metrics.csv`; 0 if there is none."""
        return max((int(row["round"]) for row in self._read_csv("metrics.csv")), default=0)

    def _header(self, path: Path) -> list[str] | None:
        if not path.exists():
            return None
        with path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), None)

    def _read_csv(self, name: str) -> list[Row]:
        if not (self.path / name).exists():
            return []
        with (self.path / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _write_csv(self, name: str, rows: Sequence[Row], names: Sequence[str] = ()) -> None:
        names = names or list(dict.fromkeys(name for row in rows for name in row))
        out = io.StringIO()
        writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / name, out.getvalue())


def plain(value: Any) -> Any:
    """Settings as JSON has them: dataclasses as objects, tuples as lists, paths and whatever else as text.

    Example:
        >>> plain({"size": (1, 2), "folder": Path("runs")})
        {'size': [1, 2], 'folder': 'runs'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def next_run_dir(parent: str | Path, name: str) -> Path:
    """The first of parent/name-001, name-002, ... that does not exist."""
    number = 1
    while (path := Path(parent) / f"{name}-{number:03d}").exists():
        number += 1
    return path
