"""The few operations that a step spends its time in: native on CPUs, plain JAX everywhere else, the same numbers.

Start in `_gru.py`: every kernel has its reference in JAX, and its gradient, in a file of its own. `native/` has their C++.
"""

from ._conv import conv2d as conv2d
from ._gru import gru_sequence as gru_sequence
from ._lstm import lstm_sequence as lstm_sequence
from ._matmul import matmul as matmul
from ._native import TARGETS as TARGETS
from ._native import Native as Native
from ._native import native as native
from ._native import references as references
from ._native import set_threads as set_threads
from ._operands import Operands as Operands
from ._operands import current_operands as current_operands
from ._operands import operands as operands
from ._pool import max_pool2d as max_pool2d

__all__ = [
    "Native",
    "Operands",
    "TARGETS",
    "conv2d",
    "current_operands",
    "gru_sequence",
    "lstm_sequence",
    "matmul",
    "max_pool2d",
    "native",
    "operands",
    "references",
    "set_threads",
]
