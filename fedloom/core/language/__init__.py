"""The federated language: functions of values at a server and at clients, traced once and run anywhere.

`_verbs.py` is what users write with, `_placed.py` what they write about, `_program.py` what comes out.
"""

from ._placed import Clients as Clients
from ._placed import Node as Node
from ._placed import Place as Place
from ._placed import Placed as Placed
from ._placed import Server as Server
from ._placed import Trace as Trace
from ._placed import current_trace as current_trace
from ._placed import is_tracing as is_tracing
from ._placed import placed as placed
from ._program import Pass as Pass
from ._program import Program as Program
from ._program import Values as Values
from ._program import compute as compute
from ._program import evaluate as evaluate
from ._program import trace as trace
from ._verbs import broadcast as broadcast
from ._verbs import client_keys as client_keys
from ._verbs import collect as collect
from ._verbs import constant as constant
from ._verbs import map as map
from ._verbs import max as max
from ._verbs import mean as mean
from ._verbs import min as min
from ._verbs import select as select
from ._verbs import sum as sum
from ._verbs import zip as zip
from ._words import shapes_in_words as shapes_in_words

__all__ = [
    "Clients",
    "Node",
    "Pass",
    "Place",
    "Placed",
    "Program",
    "Server",
    "Trace",
    "Values",
    "broadcast",
    "client_keys",
    "collect",
    "compute",
    "constant",
    "current_trace",
    "evaluate",
    "is_tracing",
    "map",
    "max",
    "mean",
    "min",
    "placed",
    "select",
    "shapes_in_words",
    "sum",
    "trace",
    "zip",
]
