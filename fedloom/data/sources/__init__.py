"""Readers of formats that others write, a file each: `from_x(path, ...)` returns a `FederatedDataset`."""

from ._arrow import from_arrow as from_arrow
from ._csv import from_csv as from_csv
from ._fedjax import from_fedjax as from_fedjax
from ._folder import from_folder as from_folder
from ._leaf import from_leaf as from_leaf
from ._parquet import from_parquet as from_parquet
from ._recognize import file_kind as file_kind
from ._recognize import folder_kind as folder_kind
from ._tables import from_arrays as from_arrays
from ._tables import from_table as from_table
from ._tables import is_table as is_table
from ._tff_hdf5 import from_tff_hdf5 as from_tff_hdf5
from ._tff_sqlite import from_tff_sqlite as from_tff_sqlite

__all__ = [
    "file_kind",
    "folder_kind",
    "from_arrays",
    "from_arrow",
    "from_csv",
    "from_fedjax",
    "from_folder",
    "from_leaf",
    "from_parquet",
    "from_table",
    "from_tff_hdf5",
    "from_tff_sqlite",
    "is_table",
]
