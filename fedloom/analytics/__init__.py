"""Federated analytics: what clients' values are like, all together, from sums, minima and maxima of fixed-size sketches of them.

Every analysis prepares a client's values on the host, makes a sketch of fixed shape of them on the client, takes the sum (or the maximum)
of all sketches, and reads the answer from that. `data` is a mapping from client id to values, or a `FederatedDataset` with `column`.
"""

from ._distinct import DistinctCount as DistinctCount
from ._distinct import count_distinct as count_distinct
from ._heavy_hitters import HeavyHitters as HeavyHitters
from ._heavy_hitters import heavy_hitters as heavy_hitters
from ._hierarchical import HierarchicalHistogram as HierarchicalHistogram
from ._hierarchical import hierarchical_histogram as hierarchical_histogram
from ._histogram import Histogram as Histogram
from ._histogram import histogram as histogram
from ._privacy import PrivacySpent as PrivacySpent
from ._quantiles import quantiles as quantiles
from ._statistics import Statistics as Statistics
from ._statistics import mean as mean
from ._statistics import statistics as statistics
from ._statistics import sum as sum
from ._statistics import variance as variance
from ._vocabulary import Vocabulary as Vocabulary
from ._vocabulary import vocabulary as vocabulary

__all__ = [
    "DistinctCount",
    "HeavyHitters",
    "HierarchicalHistogram",
    "Histogram",
    "PrivacySpent",
    "Statistics",
    "Vocabulary",
    "count_distinct",
    "heavy_hitters",
    "hierarchical_histogram",
    "histogram",
    "mean",
    "quantiles",
    "statistics",
    "sum",
    "variance",
    "vocabulary",
]
