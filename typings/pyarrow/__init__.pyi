# pyarrow is compiled and has no annotations: a type checker finds its modules, but neither its classes nor its generated functions.
from typing import Any

def __getattr__(name: str) -> Any: ...
