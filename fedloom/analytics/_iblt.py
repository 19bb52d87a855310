"""An invertible Bloom lookup table: a fixed-size sum of clients' strings from which they can be read again.

Goodrich and Mitzenmacher 2011 (arXiv:1101.2245), with checksums, as clients share strings. Each string stands in one cell of each of a
few subtables. A cell that holds one string alone shows it; taken out of its other cells, it leaves others alone in theirs.

With care: `_hash` and the fields of a cell, which clients and server must agree on.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._clients import padded

_CELLS_PER_STRING = 1.5  # above 1.295, where four subtables begin to decode (Goodrich and Mitzenmacher, Table 1)
_SPARE_CELLS = 32  # per subtable, so that in small tables no two strings share all cells
_CHECKS = 2  # words of 32 bits
_CLIENTS, _WEIGHT, _BYTES = 0, 1, 2  # fields of a cell; the bytes are followed by the checksums
MOST_CLIENTS = 2**24 - 1  # whose bytes' sum, at most 256 each, stays below 2^32


class Decoded(NamedTuple):
    """What was read from a table, strings in the order of their UTF-8 bytes."""

    strings: list[str]
    clients: np.ndarray  # int64: how many clients have the string
    weights: np.ndarray  # int64: the sum of its weights
    pairs_left: int  # of a client and one of its strings, that could not be read


@dataclass(frozen=True)
class Table:
    """The shape of a table, and its hash functions.

    Attributes:
        capacity: Distinct strings that it can hold and almost surely be read.
        max_bytes: Of a string in UTF-8.
        seed: Of the hash functions.
        subtables: Cells of each string.
    """

    capacity: int
    max_bytes: int
    seed: int
    subtables: int = 4

    @property
    def cells_per_subtable(self) -> int:
        """Cells that a hash function chooses from."""
        return math.ceil(_CELLS_PER_STRING * self.capacity / self.subtables) + _SPARE_CELLS

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, and fields of a cell."""
        return self.subtables * self.cells_per_subtable, _BYTES + self.max_bytes + _CHECKS

    def entries(self, weights: Mapping[str, int]) -> dict[str, np.ndarray]:
        """A client's strings, each at most `max_bytes` long, as arrays for `sketch`, below.

        Args:
            weights: String -> weight, of which the sum over clients must stay below 2^32.
        """
        keys = [string.encode(errors="surrogatepass") for string in weights]
        hashed = [_hash(key, self.seed, self.subtables) for key in keys]
        places = np.array([words[_CHECKS:] for words in hashed], np.uint32).reshape(len(keys), self.subtables)
        fields = np.zeros((len(keys), self.shape[1]), np.uint32)
        fields[:, _CLIENTS] = 1
        fields[:, _WEIGHT] = list(weights.values())
        letters = np.frombuffer(b"".join(key.ljust(self.max_bytes, b"\0") for key in keys), np.uint8).reshape(len(keys), self.max_bytes)
        lengths = np.array([len(key) for key in keys], int)
        # One more than the byte, so that a string that ends and one that goes on with zeros differ.
        fields[:, _BYTES:-_CHECKS] = np.where(np.arange(self.max_bytes) < lengths[:, None], letters.astype(np.uint32) + 1, 0)
        fields[:, -_CHECKS:] = np.array([words[:_CHECKS] for words in hashed], np.uint32).reshape(len(keys), _CHECKS)
        return {"cells": padded(self._cells(places).astype(np.int32), self.shape[0]), "fields": padded(fields, 0)}

    def decode(self, table: Any) -> Decoded:
        """Reads the sum of clients' tables.

        A cell is taken for a string's own if its checksums fit, by chance once in 2^64 cells. Where more strings are in the table than it
        has room for, most of them cannot be read.
        """
        cells = np.array(table, np.uint32)
        found: dict[bytes, tuple[int, int]] = {}
        look_at = np.flatnonzero(cells[:, _CLIENTS])
        while len(look_at):
            alone: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
            for cell in look_at:
                if (key := self._only_string(cells[cell])) is None:
                    continue
                own = self._cells(np.array(_hash(key, self.seed, self.subtables)[_CHECKS:], np.int64))
                if cell in own:
                    alone[key] = own, cells[cell].copy()
            for key, (places, fields) in alone.items():
                found[key] = int(fields[_CLIENTS]), int(fields[_WEIGHT])
                cells[places] -= fields
            touched = np.unique(np.concatenate([places for places, _ in alone.values()])) if alone else np.zeros(0, int)
            look_at = touched[cells[touched, _CLIENTS] > 0]
        keys = sorted(found)
        return Decoded(
            [key.decode(errors="surrogatepass") for key in keys],
            np.array([found[key][0] for key in keys], np.int64),
            np.array([found[key][1] for key in keys], np.int64),
            int(cells[: self.cells_per_subtable, _CLIENTS].sum(dtype=np.int64)),
        )

    def _cells(self, places: np.ndarray) -> np.ndarray:
        """From words of a hash, (..., subtables), to one cell in each subtable."""
        return places % self.cells_per_subtable + np.arange(self.subtables) * self.cells_per_subtable

    def _only_string(self, fields: np.ndarray) -> bytes | None:
        """The string that a cell holds alone, with any number of clients; None if it holds several."""
        clients = int(fields[_CLIENTS])
        letters, rests = np.divmod(fields[_BYTES:-_CHECKS], np.uint32(clients))
        length = int((letters > 0).sum())
        if rests.any() or (letters > 256).any() or not letters[:length].all():
            return None
        key = bytes((letters[:length] - 1).astype(np.uint8))
        checks = _hash(key, self.seed, self.subtables)[:_CHECKS]
        return key if all(clients * check % 2**32 == int(sum_) for check, sum_ in zip(checks, fields[-_CHECKS:], strict=True)) else None


def sketch(entries: Mapping[str, jax.Array], num_cells: int) -> jax.Array:
    """A client's table, uint32 (num_cells, fields), from its `Table.entries`; tables are added up modulo 2^32."""
    cells, fields = entries["cells"], entries["fields"]
    table = jnp.zeros((num_cells, fields.shape[1]), jnp.uint32)
    return table.at[cells.reshape(-1)].add(jnp.repeat(fields, cells.shape[1], axis=0), mode="drop")


@functools.lru_cache(maxsize=1 << 16)  # clients share most of their words
def _hash(key: bytes, seed: int, subtables: int) -> tuple[int, ...]:
    """Checksums and places, 32 bits each, the same in every process."""
    salt = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
    digest = hashlib.blake2b(key, digest_size=4 * (_CHECKS + subtables), salt=salt, person=b"fedloom.iblt").digest()
    return tuple(np.frombuffer(digest, "<u4").tolist())
