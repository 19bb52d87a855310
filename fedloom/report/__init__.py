"""What a run shows and leaves behind."""

from ._curve import plot_curve as plot_curve
from ._progress import TrainingProgress as TrainingProgress
from ._progress import batch_bar as batch_bar
from ._record import Row as Row
from ._record import RunFolder as RunFolder
from ._record import next_run_dir as next_run_dir

__all__ = ["Row", "RunFolder", "TrainingProgress", "batch_bar", "next_run_dir", "plot_curve"]
