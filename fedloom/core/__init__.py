"""The words that all parts share: weights, batches, algorithms, aggregators, a round as pure functions, and the federated language."""

from ._addends import Sample as Sample
from ._addends import add as add_contributions
from ._aggregator import Aggregator as Aggregator
from ._aggregator import AggregatorState as AggregatorState
from ._aggregator import Contribution as Contribution
from ._aggregator import Measurements as Measurements
from ._aggregator import Mechanism as Mechanism
from ._aggregator import chain as chain
from ._aggregator import same_bound as same_bound
from ._algorithm import Algorithm as Algorithm
from ._algorithm import ClientOutput as ClientOutput
from ._algorithm import ClientState as ClientState
from ._algorithm import ClientWork as ClientWork
from ._algorithm import Message as Message
from ._algorithm import Pass as Pass
from ._algorithm import Prelude as Prelude
from ._algorithm import ReadBatches as ReadBatches
from ._algorithm import ServerState as ServerState
from ._algorithm import every_batch as every_batch
from ._errors import CheckpointMismatch as CheckpointMismatch
from ._errors import ClientFailure as ClientFailure
from ._errors import LeftOut as LeftOut
from ._errors import PrivacyBudgetExceeded as PrivacyBudgetExceeded
from ._errors import RoundFailed as RoundFailed
from ._errors import RunInterrupted as RunInterrupted
from ._evaluation import Evaluated as Evaluated
from ._evaluation import begin_evaluation as begin_evaluation
from ._evaluation import evaluate_batch as evaluate_batch
from ._evaluation import evaluation as evaluation
from ._hparams import hyperparameters as hyperparameters
from ._hparams import with_hyperparameters as with_hyperparameters
from ._keys import client_key as client_key
from ._keys import root_key as root_key
from ._keys import round_key as round_key
from ._keys import step_key as step_key
from ._metrics import MetricSums as MetricSums
from ._metrics import Ratio as Ratio
from ._metrics import add as add_metrics
from ._model import Carry as Carry
from ._model import Generation as Generation
from ._model import Model as Model
from ._model import apply_non_trainable as apply_non_trainable
from ._model import non_trainable_update as non_trainable_update
from ._round import CLIENTS_PER_PARTIAL_SUM as CLIENTS_PER_PARTIAL_SUM
from ._round import NOTHING_KEPT as NOTHING_KEPT
from ._round import ClientReport as ClientReport
from ._round import Closed as Closed
from ._round import Kept as Kept
from ._round import RoundSums as RoundSums
from ._round import add_sums as add_sums
from ._round import close as close
from ._round import contribute as contribute
from ._round import empty_sums as empty_sums
from ._round import first_kept as first_kept
from ._round import places_of as places_of
from ._round import stack_contributions as stack_contributions
from ._types import Array as Array
from ._types import Batch as Batch
from ._types import Key as Key
from ._types import ModelWeights as ModelWeights
from ._types import Params as Params
from ._types import PyTree as PyTree
from .language import Clients as Clients
from .language import Server as Server
from .language import broadcast as broadcast
from .language import client_keys as client_keys
from .language import collect as collect
from .language import map as map
from .language import max as max
from .language import mean as mean
from .language import min as min
from .language import select as select
from .language import sum as sum
from .language import zip as zip

__all__ = [
    "Aggregator",
    "AggregatorState",
    "Algorithm",
    "Array",
    "Batch",
    "CLIENTS_PER_PARTIAL_SUM",
    "Carry",
    "CheckpointMismatch",
    "ClientFailure",
    "ClientOutput",
    "ClientReport",
    "ClientState",
    "ClientWork",
    "Clients",
    "Closed",
    "Contribution",
    "Evaluated",
    "Generation",
    "Kept",
    "Key",
    "LeftOut",
    "Measurements",
    "Mechanism",
    "Message",
    "MetricSums",
    "Model",
    "ModelWeights",
    "NOTHING_KEPT",
    "Params",
    "Pass",
    "Prelude",
    "PrivacyBudgetExceeded",
    "PyTree",
    "Ratio",
    "ReadBatches",
    "RoundFailed",
    "RoundSums",
    "RunInterrupted",
    "Sample",
    "Server",
    "ServerState",
    "add_contributions",
    "add_metrics",
    "add_sums",
    "apply_non_trainable",
    "begin_evaluation",
    "broadcast",
    "chain",
    "client_key",
    "client_keys",
    "close",
    "collect",
    "contribute",
    "empty_sums",
    "evaluate_batch",
    "evaluation",
    "every_batch",
    "first_kept",
    "hyperparameters",
    "map",
    "max",
    "mean",
    "min",
    "non_trainable_update",
    "places_of",
    "root_key",
    "round_key",
    "same_bound",
    "select",
    "stack_contributions",
    "step_key",
    "sum",
    "with_hyperparameters",
    "zip",
]
