"""Data by client: data sets, batches, cohorts."""

from . import partitioners as partitioners
from ._batching import Batching as Batching
from ._batching import as_batch as as_batch
from ._batching import pooled_batches as pooled_batches
from ._client_batches import ClientBatches as ClientBatches
from ._federated import Examples as Examples
from ._federated import FederatedDataset as FederatedDataset
from ._load import load as load
from ._partition import partition as partition
from .datasets import DATASETS as DATASETS
from .datasets import DatasetInfo as DatasetInfo
from .datasets import cifar100 as cifar100
from .datasets import emnist as emnist
from .datasets import inst_eval as inst_eval
from .datasets import shakespeare as shakespeare
from .datasets import stackoverflow as stackoverflow
from .overview import Description as Description
from .overview import describe as describe
from .overview import plot as plot
from .preparation import Images as Images
from .preparation import Moments as Moments
from .preparation import Tabular as Tabular
from .preparation import moments as moments
from .sampling import CohortSampler as CohortSampler
from .sampling import DeployedCohorts as DeployedCohorts
from .sampling import DeployedRound as DeployedRound
from .sampling import Devices as Devices
from .sampling import available as available
from .sampling import cyclic as cyclic
from .sampling import fixed as fixed
from .sampling import poisson as poisson
from .sampling import uniform as uniform
from .sampling import uniform_tff as uniform_tff
from .sampling import weighted as weighted
from .sources import from_arrays as from_arrays
from .sources import from_arrow as from_arrow
from .sources import from_csv as from_csv
from .sources import from_fedjax as from_fedjax
from .sources import from_folder as from_folder
from .sources import from_leaf as from_leaf
from .sources import from_parquet as from_parquet
from .sources import from_table as from_table
from .sources import from_tff_hdf5 as from_tff_hdf5
from .sources import from_tff_sqlite as from_tff_sqlite
from .storage import StoreWriter as StoreWriter
from .storage import convert as convert

__all__ = [
    "Batching",
    "ClientBatches",
    "CohortSampler",
    "DATASETS",
    "DatasetInfo",
    "DeployedCohorts",
    "DeployedRound",
    "Description",
    "Devices",
    "Examples",
    "FederatedDataset",
    "Images",
    "Moments",
    "StoreWriter",
    "Tabular",
    "as_batch",
    "available",
    "cifar100",
    "convert",
    "cyclic",
    "describe",
    "emnist",
    "fixed",
    "from_arrays",
    "from_arrow",
    "from_csv",
    "from_fedjax",
    "from_folder",
    "from_leaf",
    "from_parquet",
    "from_table",
    "from_tff_hdf5",
    "from_tff_sqlite",
    "inst_eval",
    "load",
    "moments",
    "partition",
    "partitioners",
    "plot",
    "poisson",
    "pooled_batches",
    "shakespeare",
    "stackoverflow",
    "uniform",
    "uniform_tff",
    "weighted",
]
