"""Optimizers with the rules, argument names and defaults of TFF 0.87, as optax transformations whose rates stand in the state."""

from ._adafactor import adafactor as adafactor
from ._adagrad import adagrad as adagrad
from ._adam import adam as adam
from ._adam import adamw as adamw
from ._adam import yogi as yogi
from ._rmsprop import rmsprop as rmsprop
from ._sgd import sgd as sgd

__all__ = ["adafactor", "adagrad", "adam", "adamw", "rmsprop", "sgd", "yogi"]
