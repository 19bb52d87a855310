"""Whole runs: the process and the programs around it."""

from ._process import LearningProcess as LearningProcess
from ._process import ProcessState as ProcessState
from ._process import evaluate as evaluate
from ._shakespeare import ShakespeareConfig as ShakespeareConfig
from ._shakespeare import run_shakespeare as run_shakespeare
from ._shakespeare import summary as summary
from ._train import TrainResult as TrainResult
from ._train import train as train

__all__ = [
    "LearningProcess",
    "ProcessState",
    "ShakespeareConfig",
    "TrainResult",
    "evaluate",
    "run_shakespeare",
    "summary",
    "train",
]
