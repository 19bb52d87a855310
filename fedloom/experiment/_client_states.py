"""What clients keep between rounds, by client id: in memory or in a folder.

A store is never changed: `updated` gives a new one, so that an earlier state of a process stays valid. On disk every client has a file per
version, of which the two newest are kept; so there an earlier state stays valid for one round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from .._files import replacing

Leaves = list[np.ndarray]
_VERSIONS = 2


class ClientStates(Mapping[str, Leaves]):
    """The arrays that each client kept, for clients that took part at least once.

    Args:
        entries: In memory, arrays by client id; on disk, the version of each client's file.
        folder: Where the files lie; None keeps everything in memory.
    """

    def __init__(self, entries: Mapping[str, Any] = MappingProxyType({}), folder: Path | None = None):
        self._entries, self._folder = dict(entries), folder

    def __getitem__(self, client: str) -> Leaves:
        entry = self._entries[client]
        if self._folder is None:
            return entry
        path = self._path(client, entry)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
        except FileNotFoundError:
            raise FileNotFoundError(
                f"The state of client {client!r} is missing: {path}. On disk, a state of the process is valid until the round after the "
                "next; go on from the newest one, or keep client states in memory."
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def updated(self, new: Mapping[str, Any], version: int) -> ClientStates:
        """The store after a round.

        Args:
            new: A tree of arrays for each client that took part.
            version: The number of the round, higher than any before.
        """
        entries: dict[str, Any] = dict(self._entries)
        for client, kept in new.items():
            leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(kept)]
            entries[client] = leaves if self._folder is None else self._write(client, version, leaves)
        return ClientStates(entries, self._folder)

    def _write(self, client: str, version: int, leaves: Leaves) -> int:
        path = self._path(client, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, *leaves)
        versions = sorted(path.parent.glob("*.npz"), key=lambda old: int(old.stem))
        for old in versions[:-_VERSIONS]:
            old.unlink()
        return version

    def _path(self, client: str, version: int) -> Path:
        assert self._folder is not None
        return self._folder / hashlib.sha256(client.encode()).hexdigest()[:32] / f"{version}.npz"  # an id may hold any character
