"""Live progress in a terminal or notebook, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ._record import Row

_TRAINING = ("loss", "accuracy", "epsilon")  # what a round shows of itself, if it has it


class TrainingProgress:
    """Shows a training run; use it as a context.

    Args:
        rounds: How many there will be.
        console: Where to; None takes standard error, so that standard output stays free for results.
    """

    def __init__(self, rounds: int, console: Console | None = None):
        self._console = console or Console(stderr=True)
        self._rounds = rounds
        self._bar = Progress(
            TextColumn("round"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[latest]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal and not self._console.is_jupyter,
        )
        self._task = self._bar.add_task("rounds", total=rounds, latest="starting")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def row(self, row: Row) -> None:
        """Shows a finished round; one that was evaluated gets a line of its own."""
        latest = " ".join(_metrics(row, "", _TRAINING)) + (f"  {row['seconds']:.1f} s/round" if row["round"] else "")
        self._bar.update(self._task, completed=row["round"], latest=latest.strip())
        held_out = _metrics(row, "eval_", ("loss", "accuracy"))
        if held_out:
            train = f"  training {' '.join(_metrics(row, '', _TRAINING))}" if row["round"] else ""
            time = f"  {row['seconds']:.1f} s" if row["round"] else ""
            self._bar.console.print(
                f"round {row['round']:>4}/{self._rounds}  held out {' '.join(held_out)}{train}{time}", highlight=False, soft_wrap=True
            )

    def warn(self, text: str) -> None:
        """A line that stands out."""
        self._bar.console.print(f"[bold yellow]{text}[/]", highlight=False, soft_wrap=True)


def _metrics(row: Row, prefix: str, names: tuple[str, ...]) -> list[str]:
    return [f"{name} {row[prefix + name]:.4f}" for name in names if prefix + name in row]


def batch_bar(description: str, console: Console | None = None) -> tuple[Progress, Callable[[int, int, float], None]]:
    """A bar over the batches of an epoch, and the function that moves it: (done, total, loss)."""
    bar = Progress(
        TextColumn(description), MofNCompleteColumn(), BarColumn(), TextColumn("loss {task.fields[loss]:.4f}"), TimeRemainingColumn(),
        console=console or Console(stderr=True),
    )  # fmt: skip
    task = bar.add_task(description, total=None, loss=float("nan"))
    return bar, lambda done, total, loss: bar.update(task, completed=done, total=total, loss=loss)
