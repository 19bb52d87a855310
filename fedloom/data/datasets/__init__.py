"""Public data sets, a file each: source, licence, checksum, loader; and `DATASETS`, which lists them by name."""

from ._cifar100 import cifar100 as cifar100
from ._emnist import emnist as emnist
from ._info import DatasetInfo as DatasetInfo
from ._info import Split as Split
from ._inst_eval import inst_eval as inst_eval
from ._registry import DATASETS as DATASETS
from ._registry import load as load
from ._shakespeare import shakespeare as shakespeare
from ._stackoverflow import stackoverflow as stackoverflow

__all__ = ["DATASETS", "DatasetInfo", "Split", "cifar100", "emnist", "inst_eval", "load", "shakespeare", "stackoverflow"]
