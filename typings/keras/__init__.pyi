# Keras has no annotations, and what a type checker infers from its defaults is wrong (`verbose="auto"`: only a str). So: anything goes.
from typing import Any

def __getattr__(name: str) -> Any: ...
