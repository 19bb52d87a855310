"""Keras models as pure functions, and how they are loaded."""

from ._char_model import char_gru as char_gru
from ._clone import rebuild as rebuild
from ._clone import with_batch_size as with_batch_size
from ._functions import from_functions as from_functions
from ._keras import from_keras as from_keras
from ._load import load as load
from ._objective import objective as objective
from ._stateless import StatelessCall as StatelessCall

__all__ = ["StatelessCall", "char_gru", "from_functions", "from_keras", "load", "objective", "rebuild", "with_batch_size"]
