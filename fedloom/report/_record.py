"""The run folder: what a run writes down, each file whole at any moment."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._files import write_text

Row = dict[str, Any]
"""A round: `round`, its training metrics by name, `eval_...` metrics if it was evaluated, `seconds`."""


class RunFolder:
    """A folder with `config.json`, `metrics.csv` and whatever else a run leaves.

    Args:
        path: Is made if missing.

    Raises:
        ValueError: It is a file, or holds a run already.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ValueError(
                f"run_dir must be a new or empty folder, got {str(path)!r}, which holds something. Choose another, or remove it."
            )
        self.path.mkdir(parents=True, exist_ok=True)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """The settings of the run, as JSON."""
        write_text(self.path / "config.json", json.dumps(config, indent=1, default=_plain) + "\n")

    def write_metrics(self, rows: Sequence[Row]) -> None:
        """All rounds so far; a metric that a round does not have stays empty."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        out = io.StringIO()
        writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / "metrics.csv", out.getvalue())

    def add_clients(self, rows: Sequence[Row]) -> None:
        """Further lines of `clients.csv`, one per client of a round, under the columns of the first."""
        path = self.path / "clients.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), restval="", extrasaction="ignore", lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def next_run_dir(parent: str | Path, name: str) -> Path:
    """The first of parent/name-001, name-002, ... that does not exist."""
    number = 1
    while (path := Path(parent) / f"{name}-{number:03d}").exists():
        number += 1
    return path
