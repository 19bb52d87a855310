"""Trackers of experiments: callbacks that keep a run elsewhere.

fl.train(..., callbacks=[fl.trackers.TensorBoard()])
"""

from ._mlflow import MLflow as MLflow
from ._tensorboard import TensorBoard as TensorBoard
from ._tracker import Tracker as Tracker
from ._tracker import guarded as guarded
from ._wandb import WandB as WandB

__all__ = ["MLflow", "TensorBoard", "Tracker", "WandB", "guarded"]
