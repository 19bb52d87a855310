"""Populations on disk: fedloom's own form, its writer and reader, and the way into it for rows that do not fit in memory."""

from ._reader import is_store as is_store
from ._reader import open_store as open_store
from ._regroup import convert as convert
from ._writer import StoreWriter as StoreWriter

__all__ = ["StoreWriter", "convert", "is_store", "open_store"]
