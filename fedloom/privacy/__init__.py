"""What a run gives away about a client: epsilon, the noise for a target, the privacy spent and the budget.

The unit of privacy is the client. Every number rests on two assumptions that the aggregator has to keep: a client adds to the sum a vector
of norm at most the clip, whatever its data, and the noise on the sum has a standard deviation of noise multiplier times clip.
"""

from ._accounting import epsilon as epsilon
from ._accounting import noise_multiplier as noise_multiplier
from ._adaptive_clipping import split_noise_multiplier as split_noise_multiplier
from ._budget import Budget as Budget
from ._ledger import Ledger as Ledger
from ._ledger import LedgerEntry as LedgerEntry
from ._sampling import Everyone as Everyone
from ._sampling import FixedSize as FixedSize
from ._sampling import Matrix as Matrix
from ._sampling import Poisson as Poisson
from ._sampling import Sampling as Sampling
from ._sampling import Tree as Tree

__all__ = [
    "Budget",
    "Everyone",
    "FixedSize",
    "Ledger",
    "LedgerEntry",
    "Matrix",
    "Poisson",
    "Sampling",
    "Tree",
    "epsilon",
    "noise_multiplier",
    "split_noise_multiplier",
]
