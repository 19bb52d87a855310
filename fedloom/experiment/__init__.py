"""Whole runs: the process and the programs around it."""

from ._evaluation import EvaluationState as EvaluationState
from ._evaluation import FederatedEvaluation as FederatedEvaluation
from ._evaluation import evaluate_models as evaluate_models
from ._personalize import personalization_summary as personalization_summary
from ._personalize import personalize as personalize
from ._process import LearningProcess as LearningProcess
from ._process import ProcessState as ProcessState
from ._process import evaluate as evaluate
from ._shakespeare import ShakespeareConfig as ShakespeareConfig
from ._shakespeare import run_shakespeare as run_shakespeare
from ._shakespeare import summary as summary
from ._train import TrainResult as TrainResult
from ._train import train as train

__all__ = [
    "EvaluationState",
    "FederatedEvaluation",
    "LearningProcess",
    "ProcessState",
    "ShakespeareConfig",
    "TrainResult",
    "evaluate",
    "evaluate_models",
    "personalization_summary",
    "personalize",
    "run_shakespeare",
    "summary",
    "train",
]
