"""What a run shows and leaves behind."""

from ._callback import Callback as Callback
from ._callback import RunInfo as RunInfo
from ._curve import plot_curve as plot_curve
from ._progress import batch_bar as batch_bar
from ._progress import progress as progress
from ._record import Row as Row
from ._record import RunFolder as RunFolder
from ._record import next_run_dir as next_run_dir
from ._record import plain as plain
from .page import write_report as write_report

__all__ = [
    "Callback",
    "Row",
    "RunFolder",
    "RunInfo",
    "batch_bar",
    "next_run_dir",
    "plain",
    "plot_curve",
    "progress",
    "write_report",
]
