"""Every algorithm by name, as a small working instance for any model: what the contract tests run over."""

from __future__ import annotations

from collections.abc import Callable

from fedloom import optimizers
from fedloom.core import Algorithm, Model

from ._agnostic import agnostic
from ._apfl import apfl
from ._ditto import ditto
from ._fedavg import fedavg
from ._feddyn import feddyn
from ._fednova import fednova
from ._fedopt import fedadagrad, fedadam, fedavgm, fedyogi
from ._fedprox import fedprox
from ._fedrecon import fedrecon
from ._fedsgd import fedsgd
from ._hypcluster import hypcluster
from ._kmeans import kmeans
from ._mime import mime, mimelite
from ._qffl import qffl
from ._scaffold import scaffold

ALGORITHMS: dict[str, Callable[[Model], Algorithm]] = {
    "agnostic": lambda model: agnostic(
        model, optimizers.sgd(0.1), num_domains=2, domain=lambda batch: (batch.x[:, 0] > 0).astype(int), domain_learning_rate=0.1
    ),
    "apfl": lambda model: apfl(model, optimizers.sgd(0.1)),
    "ditto": lambda model: ditto(model, optimizers.sgd(0.1), lam=0.5),
    "fedadagrad": lambda model: fedadagrad(model, optimizers.sgd(0.1), server_learning_rate=0.1),
    "fedadam": lambda model: fedadam(model, optimizers.sgd(0.1), server_learning_rate=0.1),
    "fedavg": lambda model: fedavg(model, optimizers.sgd(0.1)),
    "fedavgm": lambda model: fedavgm(model, optimizers.sgd(0.1)),
    "feddyn": lambda model: feddyn(model, optimizers.sgd(0.1), alpha=0.5, population=20),
    "fednova": lambda model: fednova(model, 0.1, momentum=0.5, proximal_strength=0.5),
    "fedprox": lambda model: fedprox(model, optimizers.sgd(0.1), proximal_strength=0.5),
    "fedrecon": lambda model: fedrecon(model, "b", split_dataset=False),
    "fedsgd": lambda model: fedsgd(model),
    "fedyogi": lambda model: fedyogi(model, optimizers.sgd(0.1), server_learning_rate=0.1),
    "hypcluster": lambda model: hypcluster(model, optimizers.sgd(0.1), num_clusters=2),
    "kmeans": lambda model: kmeans(2, 3),  # with a model of its own
    "mime": lambda model: mime(model, optimizers.sgd(0.1, momentum=0.9)),
    "mimelite": lambda model: mimelite(model, optimizers.adam(0.02)),
    "qffl": lambda model: qffl(model, optimizers.sgd(0.1), q=1.0),
    "scaffold": lambda model: scaffold(model, 0.1, population=20),
}
