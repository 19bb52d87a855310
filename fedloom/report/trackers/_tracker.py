"""What trackers of experiments have in common; each has a file of its own."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from .._callback import Callback, RunInfo
from .._record import CLOCKS, Row


class Tracker(Callback):
    """A callback that keeps a run elsewhere. What goes wrong there is no reason to end the run: see `guarded`."""

    def check(self, run: RunInfo) -> None:
        """Raises ValueError where this run cannot be kept as the tracker was told to; before `on_start`, and not guarded."""


def guarded(callback: Callback, tell: Callable[[str], None]) -> Callback:
    """A tracker that cannot end the run: after its first exception, which is told, it is not called any more.

    Args:
        callback: Any; one that is not a tracker comes back as it is, for its exceptions are meant.
        tell: Is called with what to say.
    """
    return _Guarded(callback, tell) if isinstance(callback, Tracker) else callback


class _Guarded(Callback):
    def __init__(self, tracker: Tracker, tell: Callable[[str], None]):
        self._tracker, self._tell = tracker, tell
        self._failed = False

    def on_start(self, run: RunInfo) -> None:
        self._tracker.check(run)
        self._try(self._tracker.on_start, run)

    def on_round_end(self, state: Any, row: Row) -> None:
        self._try(self._tracker.on_round_end, state, row)

    def on_warning(self, round_number: int, text: str) -> None:
        self._try(self._tracker.on_warning, round_number, text)

    def on_end(self, status: str) -> None:
        self._try(self._tracker.on_end, status)

    def _try(self, method: Callable[..., None], *args: Any) -> None:
        if self._failed:
            return
        try:
            method(*args)
        except Exception as error:
            self._failed = True  # first of all, for what is told comes back here as a warning
            name = type(self._tracker).__name__
            self._tell(f"{name} failed, and keeps nothing of this run from here on; training goes on. {type(error).__name__}: {error}")


def require(module: str, extra: str) -> None:
    """Says how to install what a tracker stands on, without loading it.

    Raises:
        ImportError: It is missing.
    """
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise ImportError(f'{module} is not installed. Install it with `pip install "fedloom[{extra}]"`.', name=module)


def metrics_of(row: Row) -> dict[str, float]:
    """The numbers of a round, in the groups that trackers' pages show together.

    Example:
        >>> metrics_of({"round": 5, "loss": 1.5, "eval_loss": 2.5, "eval_other.loss": 3.5, "seconds": 0.5, "norms": [1.0, 2.0]})
        {'training/loss': 1.5, 'held_out/loss': 2.5, 'held_out/other.loss': 3.5, 'clocks/seconds': 0.5}
    """
    found = {}
    for name, value in row.items():
        if name == "round" or not isinstance(value, int | float):
            continue
        group, name = ("held_out", name.removeprefix("eval_")) if name.startswith("eval_") else ("training", name)
        found[f"{'clocks' if name in CLOCKS else group}/{name}"] = float(value)
    return found


def settings_of(config: Mapping[str, Any], longest: int, prefix: str = "") -> dict[str, bool | int | float | str]:
    """A config as one level of names and plain values; lists and None become text.

    Args:
        config: As in `RunInfo`.
        longest: Characters of a text; what is more is cut, and ends in "...".
        prefix: Of the names.

    Example:
        >>> settings_of({"batching": {"batch_size": 20}, "sizes": [1, 2], "note": "too long a note"}, 8)
        {'batching.batch_size': 20, 'sizes': '[1, 2]', 'note': 'too l...'}
    """
    found: dict[str, bool | int | float | str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= settings_of(value, longest, f"{prefix}{name}.")
        elif isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            found[f"{prefix}{name}"] = value
        else:
            found[f"{prefix}{name}"] = cut(value if isinstance(value, str) else json.dumps(value, default=str), longest)
    return found


def cut(text: str, longest: int) -> str:
    """At most `longest` characters, with "..." for what is missing."""
    return text if len(text) <= longest else text[: longest - 3] + "..."
