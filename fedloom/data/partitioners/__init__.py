"""Who gets which rows when a centralized data set is cut into clients, a file per way; `fl.data.partition` runs them.

To add one, write a `Partitioner` and put a small instance of it into `PARTITIONERS`, over which the tests run.
"""

from ._by_column import by_column as by_column
from ._dirichlet import dirichlet as dirichlet
from ._iid import iid as iid
from ._mixture import mixture as mixture
from ._pathological import pathological as pathological
from ._registry import PARTITIONERS as PARTITIONERS
from ._rows import Columns as Columns
from ._rows import Partitioner as Partitioner
from ._rows import Shares as Shares
from ._shards import shards as shards
from ._sizes import dirichlet_sizes as dirichlet_sizes
from ._sizes import lognormal_sizes as lognormal_sizes
from ._sizes import power_law_sizes as power_law_sizes

__all__ = [
    "Columns",
    "PARTITIONERS",
    "Partitioner",
    "Shares",
    "by_column",
    "dirichlet",
    "dirichlet_sizes",
    "iid",
    "lognormal_sizes",
    "mixture",
    "pathological",
    "power_law_sizes",
    "shards",
]
