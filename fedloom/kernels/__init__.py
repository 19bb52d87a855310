"""The few operations that a step spends its time in: native on CPUs, plain JAX everywhere else, the same numbers.

Start in `_gru.py`: every kernel has its reference in JAX, and its gradient, in a file of its own. `native/` has their C++.
"""

from ._conv import conv2d as conv2d
from ._gru import gru_sequence as gru_sequence
from ._lstm import lstm_sequence as lstm_sequence
from ._native import Native as Native
from ._native import native as native
from ._native import set_threads as set_threads
from ._pool import max_pool2d as max_pool2d

__all__ = ["Native", "conv2d", "gru_sequence", "lstm_sequence", "max_pool2d", "native", "set_threads"]
