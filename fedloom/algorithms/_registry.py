"""Every algorithm by name, as a small working instance for any model: what the contract tests run over."""

from __future__ import annotations

from collections.abc import Callable

from fedloom import optimizers
from fedloom.core import Algorithm, Model

from ._fedavg import fedavg

ALGORITHMS: dict[str, Callable[[Model], Algorithm]] = {
    "fedavg": lambda model: fedavg(model, optimizers.sgd(0.1)),
}
