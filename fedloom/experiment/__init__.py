"""Whole runs: the process and the programs around it."""

from ._assemble import Assembled as Assembled
from ._checkpoint import Checkpoints as Checkpoints
from ._config import Privacy as Privacy
from ._config import RunConfig as RunConfig
from ._config import read_config as read_config
from ._config import write_config as write_config
from ._environment import environment as environment
from ._evaluation import EvaluationState as EvaluationState
from ._evaluation import FederatedEvaluation as FederatedEvaluation
from ._evaluation import evaluate_models as evaluate_models
from ._failures import Failures as Failures
from ._guard import Guard as Guard
from ._keras_task import KerasConfig as KerasConfig
from ._memory import available_bytes as available_bytes
from ._personalize import personalization_summary as personalization_summary
from ._personalize import personalize as personalize
from ._plan import Plan as Plan
from ._plan import plan as plan
from ._process import LearningProcess as LearningProcess
from ._process import ProcessState as ProcessState
from ._process import RoundOutcome as RoundOutcome
from ._process import evaluate as evaluate
from ._shakespeare import ShakespeareConfig as ShakespeareConfig
from ._task_evaluation import TaskEvaluation as TaskEvaluation
from ._task_evaluation import evaluate_task as evaluate_task
from ._tasks import TASKS as TASKS
from ._tasks import assemble as assemble
from ._tasks import config_of as config_of
from ._tasks import run_task as run_task
from ._tasks import summary as summary
from ._train import TrainResult as TrainResult
from ._train import train as train

__all__ = [
    "Assembled",
    "Checkpoints",
    "EvaluationState",
    "Failures",
    "FederatedEvaluation",
    "Guard",
    "KerasConfig",
    "LearningProcess",
    "Plan",
    "Privacy",
    "ProcessState",
    "RoundOutcome",
    "RunConfig",
    "ShakespeareConfig",
    "TASKS",
    "TaskEvaluation",
    "TrainResult",
    "assemble",
    "available_bytes",
    "config_of",
    "environment",
    "evaluate",
    "evaluate_models",
    "evaluate_task",
    "personalization_summary",
    "personalize",
    "plan",
    "read_config",
    "run_task",
    "summary",
    "train",
    "write_config",
]
