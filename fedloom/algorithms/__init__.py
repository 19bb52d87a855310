"""Federated algorithms, one file each."""

from fedloom.core import Algorithm as Algorithm

from ._agnostic import agnostic as agnostic
from ._apfl import apfl as apfl
from ._ditto import ditto as ditto
from ._fedavg import fedavg as fedavg
from ._feddyn import feddyn as feddyn
from ._fednova import fednova as fednova
from ._fedopt import fedadagrad as fedadagrad
from ._fedopt import fedadam as fedadam
from ._fedopt import fedavgm as fedavgm
from ._fedopt import fedyogi as fedyogi
from ._fedprox import fedprox as fedprox
from ._fedrecon import fedrecon as fedrecon
from ._fedsgd import fedsgd as fedsgd
from ._hypcluster import cluster_weights as cluster_weights
from ._hypcluster import hypcluster as hypcluster
from ._kmeans import kmeans as kmeans
from ._mime import mime as mime
from ._mime import mimelite as mimelite
from ._personalization import Strategy as Strategy
from ._personalization import choose_best as choose_best
from ._personalization import fine_tune as fine_tune
from ._personalization import personalization as personalization
from ._personalization import reconstruct as reconstruct
from ._qffl import qffl as qffl
from ._registry import ALGORITHMS as ALGORITHMS
from ._scaffold import scaffold as scaffold
from ._weights import ClientWeight as ClientWeight

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "ClientWeight",
    "Strategy",
    "agnostic",
    "apfl",
    "choose_best",
    "cluster_weights",
    "ditto",
    "fedadagrad",
    "fedadam",
    "fedavg",
    "fedavgm",
    "feddyn",
    "fednova",
    "fedprox",
    "fedrecon",
    "fedsgd",
    "fedyogi",
    "fine_tune",
    "hypcluster",
    "kmeans",
    "mime",
    "mimelite",
    "personalization",
    "qffl",
    "reconstruct",
    "scaffold",
]
