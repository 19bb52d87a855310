"""Public data sets, a file each: source, licence, checksum, loader."""

from ._shakespeare import shakespeare as shakespeare

__all__ = ["shakespeare"]
