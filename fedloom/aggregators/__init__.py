"""How clients' contributions become one."""

from ._mean import unweighted_mean as unweighted_mean
from ._mean import weighted_mean as weighted_mean

__all__ = ["unweighted_mean", "weighted_mean"]
