"""What a data set holds, in numbers, words and pictures."""

from ._describe import describe as describe
from ._description import Description as Description
from ._plot import plot as plot

__all__ = ["Description", "describe", "plot"]
