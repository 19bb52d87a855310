"""Every partitioner by name, as a small working instance for data with a column of labels "y": what the property tests run over."""

from __future__ import annotations

from ._by_column import by_column
from ._dirichlet import dirichlet
from ._iid import iid
from ._mixture import mixture
from ._pathological import pathological
from ._rows import Partitioner
from ._shards import shards
from ._sizes import dirichlet_sizes, lognormal_sizes, power_law_sizes

PARTITIONERS: dict[str, Partitioner] = {
    "by_column": by_column("y"),
    "dirichlet per client": dirichlet("y", 0.5),
    "dirichlet per label": dirichlet("y", 0.5, per="label"),
    "dirichlet_sizes": dirichlet_sizes(0.5),
    "iid": iid(),
    "lognormal_sizes": lognormal_sizes(1.0),
    "mixture": mixture(0.3, shards("y", 1)),
    "pathological": pathological("y", 2),
    "power_law_sizes": power_law_sizes(1.5),
    "shards": shards("y"),
}
