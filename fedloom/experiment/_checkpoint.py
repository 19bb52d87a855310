"""Checkpoints of a run: when they are written, which are kept, and how the newest whole one is found.

The name of a file holds a digest of its content, so that one rename makes both valid, and a damaged file is told from one of another run.
With care: the names of files and of the notes in them; runs that people resume depend on them.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fedloom.core import CheckpointMismatch

from .._files import sync
from ._process import LearningProcess, ProcessState
from ._saved_state import SavedState

_NAME = re.compile(r"round-(\d+)\.([0-9a-f]{16})\.ckpt")
_SHARE = 0.05  # of the time that may go into checkpoints


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """When a run saves itself, and what it keeps.

    Whatever these say, it also saves itself before the first round, after the last one, and when it is stopped or fails.

    Args:
        every: Rounds from one checkpoint to the next, at least 1; None saves as often as takes no more than a twentieth of the time, which
            for most models is after every round.
        keep_last: How many of the newest are kept, at least 1; from 2 on there is one to fall back to if the newest is damaged.
        keep_best: Whether that of the round with the best held-out metric is kept too.

    Raises:
        ValueError: A number is out of range.
    """

    every: int | None = None
    keep_last: int = 2
    keep_best: bool = True

    def __post_init__(self):
        for name in ("every", "keep_last"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"checkpoints.{name} must be at least 1, got {value}.")


class Loaded(NamedTuple):
    """A checkpoint that was read."""

    state: ProcessState
    notes: dict[str, Any]
    path: Path


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        path: Of the folder; is made with the first checkpoint.
        process: Whose states they are.
        policy: What is kept.
        clock: Seconds, of any beginning.
    """

    def __init__(self, path: Path, process: LearningProcess, policy: Checkpoints, clock: Callable[[], float] = time.monotonic):
        self._path, self._process, self._policy, self._clock = path, process, policy, clock
        self._took, self._ended = 0.0, clock()
        self.newest_round = -1  # of those written or read by this object

    def is_due(self, round_number: int) -> bool:
        """Whether the policy asks for one after this round."""
        if self._policy.every is not None:
            return round_number % self._policy.every == 0
        return (self._clock() - self._ended) * _SHARE >= self._took

    def save(self, state: ProcessState, notes: dict[str, Any], best_round: int | None = None) -> Path:
        """Writes a checkpoint, then removes those that need not be kept.

        Args:
            state: Of the process.
            notes: What else decides the future, as JSON.
            best_round: Whose checkpoint is kept too; None keeps the newest only.

        Raises:
            OSError: It could not be written; those before are as they were.
        """
        began = self._clock()
        self._path.mkdir(parents=True, exist_ok=True)
        self._prune(best_round)  # first: the disk may be full of what need not be kept
        unfinished = self._path / ".unfinished.ckpt"
        try:
            self._process.save(state, unfinished, notes=notes)
            path = self._path / f"round-{state.round_number:06d}.{_digest(unfinished)}.ckpt"
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        sync(self._path)
        self.newest_round = state.round_number
        self._prune(best_round, path)
        self._took, self._ended = self._clock() - began, self._clock()
        return path

    def _prune(self, best_round: int | None, newest: Path | None = None) -> None:
        files = self.files()
        rounds = sorted({round_number for round_number, _ in files}, reverse=True)
        kept = {*rounds[: self._policy.keep_last], best_round}
        for round_number, path in files:
            replaced = newest is not None and round_number == _round_of(newest) and path != newest  # of before the run was resumed
            if round_number not in kept or replaced:
                path.unlink(missing_ok=True)

    def files(self) -> list[tuple[int, Path]]:
        """Rounds with their files, the newest first."""
        if not self._path.is_dir():
            return []
        return sorted(((_round_of(path), path) for path in self._path.iterdir() if _NAME.fullmatch(path.name)), reverse=True)

    def newest(self, warn: Callable[[str], None], check: Callable[[dict[str, Any]], None]) -> Loaded | None:
        """The newest checkpoint that is whole; None if there never was one.

        Args:
            warn: Is told of damaged ones.
            check: Raises CheckpointMismatch on notes of another run.

        Raises:
            CheckpointMismatch: All are damaged, or the newest whole one is of another process.
        """
        files, damaged = self.files(), []
        for _, path in files:
            if not _is_whole(path):
                damaged.append(path)
                continue
            loaded = self._read(path, check)
            for other in damaged:
                aside = other.rename(other.with_name(f"{other.name}.damaged"))  # so that it does not count among those that are kept
                warn(
                    f"The checkpoint {other} is damaged: its content does not have the checksum in its name. Going back to the one before; "
                    f"it is kept as {aside.name}."
                )
            return loaded
        if files:
            raise CheckpointMismatch(
                f"All {len(files)} checkpoints in {self._path} are damaged. Restore one from a copy, or start a new run."
            )
        return None

    def of_round(self, round_number: int) -> Loaded | None:
        """The whole checkpoint of a round, if there is one."""
        for number, path in self.files():
            if number == round_number and _is_whole(path):
                return self._read(path, lambda notes: None)
        return None

    def _read(self, path: Path, check: Callable[[dict[str, Any]], None]) -> Loaded:
        try:
            notes = SavedState(path).about["notes"]
            check(notes)
            loaded = Loaded(self._process.load(path), notes, path)
        except (ValueError, KeyError) as error:
            raise CheckpointMismatch(f"The run cannot go on from its checkpoint: {error}") from error
        self.newest_round = max(self.newest_round, loaded.state.round_number)
        return loaded


def _round_of(path: Path) -> int:
    return int(_parts(path)[0])


def _is_whole(path: Path) -> bool:
    return _parts(path)[1] == _digest(path)


def _parts(path: Path) -> tuple[str, str]:
    """The round and the digest in the name of a checkpoint."""
    match = _NAME.fullmatch(path.name)
    assert match, "only such names come from `files`"
    return match[1], match[2]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
