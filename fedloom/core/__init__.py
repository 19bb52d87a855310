"""The words that all parts share: weights, batches, algorithms, aggregators, and a round as pure functions."""

from ._aggregator import Aggregator as Aggregator
from ._aggregator import AggregatorState as AggregatorState
from ._aggregator import Contribution as Contribution
from ._algorithm import Algorithm as Algorithm
from ._algorithm import ClientOutput as ClientOutput
from ._algorithm import ClientWork as ClientWork
from ._algorithm import ServerState as ServerState
from ._errors import ClientFailure as ClientFailure
from ._evaluation import evaluation as evaluation
from ._keys import client_key as client_key
from ._keys import root_key as root_key
from ._keys import round_key as round_key
from ._keys import step_key as step_key
from ._metrics import MetricSums as MetricSums
from ._metrics import Ratio as Ratio
from ._metrics import add as add_metrics
from ._model import Carry as Carry
from ._model import Model as Model
from ._model import apply_non_trainable as apply_non_trainable
from ._model import non_trainable_update as non_trainable_update
from ._round import CLIENTS_PER_PARTIAL_SUM as CLIENTS_PER_PARTIAL_SUM
from ._round import RoundSums as RoundSums
from ._round import add_sums as add_sums
from ._round import close as close
from ._round import contribute as contribute
from ._round import empty_sums as empty_sums
from ._types import Array as Array
from ._types import Batch as Batch
from ._types import Key as Key
from ._types import ModelWeights as ModelWeights
from ._types import Params as Params
from ._types import PyTree as PyTree

__all__ = [
    "Aggregator",
    "AggregatorState",
    "Algorithm",
    "Array",
    "Batch",
    "CLIENTS_PER_PARTIAL_SUM",
    "Carry",
    "ClientFailure",
    "ClientOutput",
    "ClientWork",
    "Contribution",
    "Key",
    "MetricSums",
    "Model",
    "ModelWeights",
    "Params",
    "PyTree",
    "Ratio",
    "RoundSums",
    "ServerState",
    "add_metrics",
    "add_sums",
    "apply_non_trainable",
    "client_key",
    "close",
    "contribute",
    "empty_sums",
    "evaluation",
    "non_trainable_update",
    "root_key",
    "round_key",
    "step_key",
]
