"""Cohorts: which clients take part in a round, as a function of (seed, round)."""

from ._cyclic import cyclic as cyclic
from ._deployed import DeployedCohorts as DeployedCohorts
from ._deployed import DeployedRound as DeployedRound
from ._deployed import available as available
from ._devices import Devices as Devices
from ._drawn import CohortSampler as CohortSampler
from ._drawn import fixed as fixed
from ._drawn import poisson as poisson
from ._drawn import uniform as uniform
from ._drawn import uniform_tff as uniform_tff
from ._drawn import weighted as weighted

__all__ = [
    "CohortSampler",
    "DeployedCohorts",
    "DeployedRound",
    "Devices",
    "available",
    "cyclic",
    "fixed",
    "poisson",
    "uniform",
    "uniform_tff",
    "weighted",
]
