"""Every aggregator by name, as a small working instance: what the contract tests run over."""

from __future__ import annotations

from collections.abc import Callable

from fedloom.core import Aggregator, chain

from ._clip import clipping, zeroing
from ._gaussian import dp_gaussian_adaptive, dp_gaussian_fixed, gaussian_noise
from ._krum import krum, multi_krum
from ._low_rank import low_rank
from ._matrix import dp_matrix
from ._mean import fixed_mean, sum, unweighted_mean, weighted_mean
from ._measure import measured
from ._quantile import quantile
from ._quantize import quantize
from ._robust import geometric_median, median, trimmed_mean
from ._secure import secure_encoding
from ._tff import compression_aggregator, dp_aggregator, robust_aggregator, secure_aggregator
from ._topk import top_k
from ._tree import dp_tree

AGGREGATORS: dict[str, Callable[[], Aggregator]] = {
    "clipping": lambda: chain(clipping(0.5), weighted_mean()),
    "compression_aggregator": compression_aggregator,
    "dp_aggregator": lambda: dp_aggregator(0.1, clients_per_round=4),
    "dp_gaussian_adaptive": lambda: dp_gaussian_adaptive(0.1, clients_per_round=4),
    "dp_gaussian_fixed": lambda: dp_gaussian_fixed(0.1, clients_per_round=4, clip=0.5),
    "dp_matrix": lambda: dp_matrix(0.1, clients_per_round=4, clip=0.5, rounds=16, bands=4),
    "dp_tree": lambda: dp_tree(0.1, clients_per_round=4, clip=0.5, restart_every=3),
    "fixed_mean": lambda: fixed_mean(4),
    "gaussian_noise": lambda: chain(clipping(0.5), fixed_mean(4), gaussian_noise(0.05)),
    "geometric_median": geometric_median,
    "krum": lambda: krum(1),
    "low_rank": lambda: chain(low_rank(1), weighted_mean()),
    "measured": lambda: chain(measured(), weighted_mean()),
    "median": median,
    "multi_krum": lambda: multi_krum(1, 3),
    "quantize": lambda: chain(quantize(8), weighted_mean()),
    "quantize_rotated": lambda: chain(quantize(4, rounding="stochastic", rotation="hadamard"), weighted_mean()),
    "robust_aggregator": robust_aggregator,
    "secure_aggregator": lambda: secure_aggregator(100.0, max_clients=16),
    "secure_encoding": lambda: chain(weighted_mean(), secure_encoding(100.0, max_clients=16)),
    "sum": sum,
    "top_k": lambda: chain(top_k(0.5), weighted_mean()),
    "trimmed_mean": lambda: trimmed_mean(0.2),
    "unweighted_mean": unweighted_mean,
    "weighted_mean": weighted_mean,
    "zeroing": lambda: chain(zeroing(quantile(0.5, target=0.8, learning_rate=1.0)), weighted_mean()),
}
