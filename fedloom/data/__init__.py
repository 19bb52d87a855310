"""Data by client: data sets, batches, cohorts."""

from ._batching import Batching as Batching
from ._batching import as_batch as as_batch
from ._batching import pooled_batches as pooled_batches
from ._federated import Examples as Examples
from ._federated import FederatedDataset as FederatedDataset
from ._sampling import CohortSampler as CohortSampler
from ._sampling import fixed as fixed
from ._sampling import poisson as poisson
from ._sampling import uniform as uniform
from ._sampling import uniform_tff as uniform_tff
from .datasets import shakespeare as shakespeare

__all__ = [
    "Batching",
    "CohortSampler",
    "Examples",
    "FederatedDataset",
    "as_batch",
    "fixed",
    "poisson",
    "pooled_batches",
    "shakespeare",
    "uniform",
    "uniform_tff",
]
