"""Examples of images and tables to the columns that models take, for `dataset.map`."""

from ._images import Images as Images
from ._moments import Moments as Moments
from ._moments import moments as moments
from ._tabular import Tabular as Tabular

__all__ = ["Images", "Moments", "Tabular", "moments"]
