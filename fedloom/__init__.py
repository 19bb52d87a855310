"""Federated learning on Keras 3 and JAX."""

import importlib
import os
from typing import TYPE_CHECKING

from . import _compilation_cache
from ._version import __version__ as __version__

os.environ.setdefault("KERAS_BACKEND", "jax")  # before anything imports keras
_compilation_cache.turn_on()  # before anything compiles; Keras does when a model is built

if TYPE_CHECKING:
    from . import aggregators as aggregators
    from . import algorithms as algorithms
    from . import analytics as analytics
    from . import core as core
    from . import data as data
    from . import export as export
    from . import models as models
    from . import optimizers as optimizers
    from . import privacy as privacy
    from . import text as text
    from .core import CheckpointMismatch as CheckpointMismatch
    from .core import ClientFailure as ClientFailure
    from .core import PrivacyBudgetExceeded as PrivacyBudgetExceeded
    from .core import RoundFailed as RoundFailed
    from .core import RunInterrupted as RunInterrupted
    from .engine import FederatedFunction as FederatedFunction
    from .engine import federated as federated
    from .experiment import Checkpoints as Checkpoints
    from .experiment import EvaluationState as EvaluationState
    from .experiment import Failures as Failures
    from .experiment import FederatedEvaluation as FederatedEvaluation
    from .experiment import Guard as Guard
    from .experiment import LearningProcess as LearningProcess
    from .experiment import ProcessState as ProcessState
    from .experiment import TrainResult as TrainResult
    from .experiment import evaluate as evaluate
    from .experiment import evaluate_models as evaluate_models
    from .experiment import personalization_summary as personalization_summary
    from .experiment import personalize as personalize
    from .experiment import train as train
    from .report import Callback as Callback
    from .report import trackers as trackers

__all__ = [
    "Callback",
    "CheckpointMismatch",
    "Checkpoints",
    "ClientFailure",
    "EvaluationState",
    "Failures",
    "FederatedEvaluation",
    "FederatedFunction",
    "Guard",
    "LearningProcess",
    "PrivacyBudgetExceeded",
    "ProcessState",
    "RoundFailed",
    "RunInterrupted",
    "TrainResult",
    "aggregators",
    "algorithms",
    "analytics",
    "core",
    "data",
    "evaluate",
    "evaluate_models",
    "export",
    "federated",
    "models",
    "optimizers",
    "personalization_summary",
    "personalize",
    "privacy",
    "text",
    "trackers",
    "train",
]

_ERRORS = {"CheckpointMismatch", "ClientFailure", "PrivacyBudgetExceeded", "RoundFailed", "RunInterrupted"}
_ENGINE = {"FederatedFunction", "federated"}
_PACKAGES = {"aggregators", "algorithms", "analytics", "core", "data", "export", "models", "optimizers", "privacy", "text"}

if not TYPE_CHECKING:  # a type checker would take any name for one that exists

    def __getattr__(name):
        # On first use: keras alone takes seconds, and not every use of the package needs it.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in _PACKAGES:
            return importlib.import_module(f"{__name__}.{name}")
        if name == "trackers":
            return importlib.import_module(f"{__name__}.report.trackers")
        home = "report" if name == "Callback" else "core" if name in _ERRORS else "engine" if name in _ENGINE else "experiment"
        globals()[name] = value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        return value


def __dir__():
    return [*__all__, "__version__"]
