"""What the page is made of: a run folder as `_record` writes it, read back and checked."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

Numbers = dict[str, float]

_MOST = 1e50


class LeftOut(NamedTuple):
    """A client that was left out of a round."""

    round: int
    client: str
    reason: str


class Told(NamedTuple):
    """A warning."""

    round: int
    text: str


class Sample(NamedTuple):
    """Text that the model wrote after a round."""

    round: int
    prompt: str
    text: str


def amount(row: Numbers, key: str) -> float:
    """Seconds, bytes or a count of a row; 0 where it has none, or one that cannot be."""
    value = row.get(key, 0.0)
    return value if 0 <= value < _MOST else 0.0


@dataclass(frozen=True)
class RunRecord:
    """A run; what its folder does not have is empty."""

    name: str  # of the folder
    config: dict[str, Any]
    rounds: list[Numbers]  # metrics by name, with `round`; those that a round does not have are missing
    timing: list[Numbers]
    held_out: list[tuple[str, Numbers]]  # client and its numbers
    left_out: list[LeftOut]
    warnings: list[Told]
    samples: list[Sample]
    status: dict[str, Any]
    changed: datetime | None  # when the metrics were last written

    @property
    def done(self) -> int:
        """The last round that there is."""
        return int(max([row["round"] for row in self.rounds], default=self.status.get("round") or 0))

    @property
    def planned(self) -> int:
        """How many rounds there were to be."""
        return int(self.status.get("rounds") or self.config.get("rounds") or self.done)

    @property
    def private(self) -> bool:
        """Whether it had a budget of privacy."""
        return bool(self.config.get("privacy"))

    @property
    def budget(self) -> dict[str, Any]:
        """That budget; empty if there was none."""
        return self.config.get("privacy") or {}


def read_run(run_dir: Path) -> RunRecord:
    """The run in a folder.

    Raises:
        FileNotFoundError: There is no `config.json`.
        ValueError: A file is damaged.
    """
    if not (run_dir / "config.json").is_file():
        raise FileNotFoundError(f"There is no run in {str(run_dir)!r}: it has no config.json. Name the folder that a run wrote.")
    metrics = run_dir / "metrics.csv"
    config, status = _json(run_dir / "config.json", dict), _json(run_dir / "status.json", dict)
    for file, values, name, kind in (
        ("config.json", config, "rounds", int),
        ("config.json", config, "privacy", dict),
        ("status.json", status, "round", int),
        ("status.json", status, "rounds", int),
        ("status.json", status, "best", dict),
    ):
        if not isinstance(values.get(name), kind | None):
            raise _damaged(run_dir / file, f"{name} should be {'a number' if kind is int else 'an object'}, and is {values[name]!r}")
    return RunRecord(
        name=run_dir.resolve().name,
        config=config,
        rounds=[_numbers(metrics, line, row) for line, row in _rows(metrics, "round")],
        timing=[_numbers(run_dir / "timing.csv", line, row) for line, row in _rows(run_dir / "timing.csv", "round")],
        held_out=[_client(run_dir / "held_out_clients.csv", *found) for found in _rows(run_dir / "held_out_clients.csv", "client")],
        left_out=_left_out(run_dir / "clients.csv"),
        warnings=[
            Told(_round(run_dir / "warnings.csv", *found), found[1]["text"]) for found in _rows(run_dir / "warnings.csv", "round", "text")
        ],
        samples=_samples(run_dir / "samples.json"),
        status=status,
        changed=datetime.fromtimestamp(metrics.stat().st_mtime, UTC) if metrics.exists() else None,
    )


def _damaged(path: Path, what: str) -> ValueError:
    way_on = "Restore it from a copy" if path.name == "config.json" else "Restore it from a copy, or remove it and the report does without"
    return ValueError(f"{path} is damaged: {what}. {way_on}.")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(path, f"it is not UTF-8 ({error.reason} at byte {error.start})") from error


def _json(path: Path, kind: type) -> Any:
    """What a file has; an empty one of the kind if there is no file."""
    if not path.exists():
        return kind()
    try:
        found = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise _damaged(path, f"it is not JSON ({error})") from error
    if not isinstance(found, kind):
        raise _damaged(path, f"it should have {'an object' if kind is dict else 'a list'}, and has {type(found).__name__}")
    return found


def _rows(path: Path, *needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a CSV file by column, with their numbers; none if there is no file, or nothing in it."""
    if not path.exists():
        return
    text = _text(path)
    if path.name == "clients.csv" and not text.endswith("\n"):  # lines are added to it: a kill may cut off the last one
        text = text[: text.rfind("\n") + 1]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, None)
        if not header:
            return
        if missing := [name for name in needed if name not in header]:
            raise _damaged(path, f"it has no column {missing[0]!r}")
        for row in reader:
            if len(row) != len(header):
                raise _damaged(path, f"line {reader.line_num} has {len(row)} fields, and the header {len(header)}")
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise _damaged(path, f"line {reader.line_num}: {error}") from error


def _numbers(path: Path, line: int, row: dict[str, str]) -> Numbers:
    """The numbers of a line; a vector is none."""
    found = {"round": float(_round(path, line, row))}
    for name, cell in row.items():
        if name != "round" and cell and not cell.startswith("["):
            found[name] = _number(path, line, name, cell)
    return found


def _client(path: Path, line: int, row: dict[str, str]) -> tuple[str, Numbers]:
    return row["client"], {name: _number(path, line, name, cell) for name, cell in row.items() if name != "client" and cell}


def _number(path: Path, line: int, name: str, cell: str) -> float:
    if cell in ("True", "False"):
        return float(cell == "True")
    try:
        return float(cell)
    except ValueError:
        raise _damaged(path, f"line {line} has {cell[:40]!r} for {name}, which is not a number") from None


def _round(path: Path, line: int, row: dict[str, str]) -> int:
    value = _number(path, line, "round", row["round"])
    if not math.isfinite(value) or value < 0 or value != int(value):
        raise _damaged(path, f"line {line} has {row['round']!r} for round, which is not a whole number")
    return int(value)


def _left_out(path: Path) -> list[LeftOut]:
    rows = _rows(path, "round", "client")
    return [LeftOut(_round(path, line, row), row["client"], row["reason"]) for line, row in rows if row.get("reason")]


def _samples(path: Path) -> list[Sample]:
    try:
        return [Sample(int(one["round"]), str(one["prompt"]), str(one["text"])) for one in _json(path, list)]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise _damaged(path, "each entry should have round, prompt and text") from error
