"""How clients' contributions become one."""

from fedloom.core import Aggregator as Aggregator
from fedloom.core import chain as chain

from ._clip import clipping as clipping
from ._clip import zeroing as zeroing
from ._gaussian import dp_gaussian_adaptive as dp_gaussian_adaptive
from ._gaussian import dp_gaussian_fixed as dp_gaussian_fixed
from ._gaussian import gaussian_noise as gaussian_noise
from ._krum import krum as krum
from ._krum import multi_krum as multi_krum
from ._low_rank import low_rank as low_rank
from ._matrix import dp_matrix as dp_matrix
from ._mean import fixed_mean as fixed_mean
from ._mean import sum as sum
from ._mean import unweighted_mean as unweighted_mean
from ._mean import weighted_mean as weighted_mean
from ._measure import measured as measured
from ._quantile import quantile as quantile
from ._quantize import quantize as quantize
from ._registry import AGGREGATORS as AGGREGATORS
from ._robust import geometric_median as geometric_median
from ._robust import median as median
from ._robust import trimmed_mean as trimmed_mean
from ._secure import secure_encoding as secure_encoding
from ._tff import compression_aggregator as compression_aggregator
from ._tff import dp_aggregator as dp_aggregator
from ._tff import robust_aggregator as robust_aggregator
from ._tff import secure_aggregator as secure_aggregator
from ._topk import top_k as top_k
from ._tree import dp_tree as dp_tree

__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "chain",
    "clipping",
    "compression_aggregator",
    "dp_aggregator",
    "dp_gaussian_adaptive",
    "dp_gaussian_fixed",
    "dp_matrix",
    "dp_tree",
    "fixed_mean",
    "gaussian_noise",
    "geometric_median",
    "krum",
    "low_rank",
    "measured",
    "median",
    "multi_krum",
    "quantile",
    "quantize",
    "robust_aggregator",
    "secure_aggregator",
    "secure_encoding",
    "sum",
    "top_k",
    "trimmed_mean",
    "unweighted_mean",
    "weighted_mean",
    "zeroing",
]
