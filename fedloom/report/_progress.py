"""What a run shows of itself while it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ._callback import Callback
from ._lines import JsonLines, PlainLines, QuietLines
from ._live import LiveView

ProgressMode = Literal["auto", "live", "plain", "json", "quiet"]


def progress(mode: ProgressMode = "auto", console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> Callback:
    """Shows a training run.

    Args:
        mode: "live" draws curves, times and warnings in place, in a terminal or notebook, and is "plain" where neither is; "plain" prints
            a line for each evaluated round, and at least every minute; "json" prints a JSON object per line and event; "quiet" prints
            warnings alone. "auto" is live if somebody watches, and plain if not.
        console: Where to; None takes standard error, so that standard output stays free for results.
        clock: Seconds that only grow.

    Raises:
        ValueError: There is no such mode.
    """
    if mode not in get_args(ProgressMode):
        raise ValueError(f"progress must be one of {', '.join(map(repr, get_args(ProgressMode)))}, got {mode!r}.")
    console = console or Console(stderr=True)
    if mode == "quiet":
        return QuietLines(console)
    if mode == "json":
        return JsonLines(console)
    # isatty besides: services for CI force colours upon logs, which rich takes for a terminal.
    is_watched = console.is_jupyter or (console.is_interactive and (mode == "live" or console.file.isatty()))
    return LiveView(console, clock=clock) if mode != "plain" and is_watched else PlainLines(console, clock=clock)


def batch_bar(description: str, console: Console | None = None) -> tuple[Progress, Callable[[int, int, float], None]]:
    """A bar over the batches of an epoch, and the function that moves it: (done, total, loss)."""
    bar = Progress(
        TextColumn(description), MofNCompleteColumn(), BarColumn(), TextColumn("loss {task.fields[loss]:.4f}"), TimeRemainingColumn(),
        console=console or Console(stderr=True),
    )  # fmt: skip
    task = bar.add_task(description, total=None, loss=float("nan"))
    return bar, lambda done, total, loss: bar.update(task, completed=done, total=total, loss=loss)
