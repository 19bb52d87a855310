"""Functions in the federated language, run by any executor.

`_federated.py` is what users call, `_inputs.py` what clients bring, `_run.py` the passes over them.
"""

from ._federated import FederatedFunction as FederatedFunction
from ._federated import federated as federated

__all__ = ["FederatedFunction", "federated"]
