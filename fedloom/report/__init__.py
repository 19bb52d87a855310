"""What a run shows and leaves behind."""

from ._callback import Callback as Callback
from ._callback import RunInfo as RunInfo
from ._curve import plot_curve as plot_curve
from ._metric_names import lower_is_better as lower_is_better
from ._progress import batch_bar as batch_bar
from ._progress import progress as progress
from ._record import Row as Row
from ._record import RunFolder as RunFolder
from ._record import next_run_dir as next_run_dir
from ._record import plain as plain
from .page import bytes_text as bytes_text
from .page import seconds_text as seconds_text
from .page import write_report as write_report

__all__ = [
    "Callback",
    "Row",
    "RunFolder",
    "RunInfo",
    "batch_bar",
    "bytes_text",
    "lower_is_better",
    "next_run_dir",
    "plain",
    "plot_curve",
    "progress",
    "seconds_text",
    "write_report",
]
