"""Functions in the federated language, run by any executor.

`_federated.py` is what users call, `_inputs.py` what clients bring, `_run.py` the passes over them.
"""

from ._federated import FederatedFunction as FederatedFunction
from ._federated import federated as federated
from ._inputs import ClientValues as ClientValues
from ._inputs import mapped as mapped

__all__ = ["ClientValues", "FederatedFunction", "federated", "mapped"]
