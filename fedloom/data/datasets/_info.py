"""What is known about a public data set before anything of it is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .._federated import FederatedDataset


class Split(NamedTuple):
    """How much there is in a part of a data set."""

    clients: int
    examples: int


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A public data set: what it is, where it comes from, and how to get it."""

    name: str  # by which DATASETS lists it
    summary: str
    columns: Mapping[str, str]  # name -> dtype, shape of an example, meaning
    splits: Mapping[str, Split]  # in the order in which `load` returns them
    url: str
    size: int | None  # bytes of the file behind the URL; None: not published
    sha256: str | None  # of that file; None: not published, so the one of the first download is kept and checked
    checksum_source: str = "nobody: the checksum of the first download is kept, and checked from then on"  # who says so
    licence: str
    citation: str
    load: Callable[..., tuple[FederatedDataset, ...]]  # takes path= and cache_dir=
