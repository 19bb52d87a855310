"""How far a download is, for whoever looks at a terminal, and for nobody else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Progress = Callable[[int, int | None], None]
"""Is told the bytes that are there and the bytes that there will be, if known; first of all what an earlier call had left."""


@contextmanager
def terminal_bar(name: str, stream: TextIO | None = None) -> Iterator[Progress]:
    """A bar with bytes, bytes per second and time left on `stream`, by default stderr; nothing at all if that is no terminal."""
    stream = stream or sys.stderr
    if stream is None or not stream.isatty():  # None under pythonw
        yield lambda received, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream)) as bar:

        def show(received: int, total: int | None) -> None:
            if bar.task_ids:
                bar.update(bar.task_ids[0], completed=received, total=total)
            else:  # made with what is there already, which must not count into the speed
                bar.add_task(name, completed=received, total=total)

        yield show
