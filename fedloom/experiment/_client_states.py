"""What clients keep between rounds, by client id: in memory or in a folder.

A store is never changed: `updated` gives a new one, so that an earlier state of a process stays valid. On disk every client has a file for
its newest state and one for that before; so there an earlier state stays valid for one round, and after that is known to be gone. With
care: names of files hold a digest of the content, so that two rounds from the same state never take each other's file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from .._files import replacing

Leaves = list[np.ndarray]


class ClientStates(Mapping[str, Leaves]):
    """The arrays that each client kept, for clients that took part at least once.

    Args:
        entries: In memory, arrays by client id; on disk, the name of each client's file.
        folder: Where the files lie; None keeps everything in memory.
    """

    def __init__(self, entries: Mapping[str, Any] = MappingProxyType({}), folder: Path | None = None):
        self._entries, self._folder = dict(entries), folder

    def __getitem__(self, client: str) -> Leaves:
        entry = self._entries[client]
        if self._folder is None:
            return entry
        path = self._client_folder(client) / entry
        try:
            with np.load(path, allow_pickle=False) as file:
                # NumPy reads types that it does not know, such as bfloat16, as raw bytes.
                return [file[f"arr_{i}"].view(jnp.dtype(name)) for i, name in enumerate(file["dtypes"].tolist())]
        except FileNotFoundError:
            raise FileNotFoundError(
                f"The state of client {client!r} is missing: {path}. On disk, a state of the process is valid until the round after the "
                "next; go on from the newest one, or keep client states in memory."
            ) from None

    def __contains__(self, client: object) -> bool:
        return client in self._entries  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def updated(self, new: Mapping[str, Any] | Iterable[tuple[str, Any]], version: int) -> ClientStates:
        """The store after a round.

        Args:
            new: A tree of arrays for each client that took part; as pairs, one client's arrays are in memory at a time.
            version: The number of the round, for the names of files.
        """
        entries: dict[str, Any] = dict(self._entries)
        pairs = cast(Iterable[tuple[str, Any]], new.items() if isinstance(new, Mapping) else new)
        for client, kept in pairs:
            leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(kept)]
            entries[client] = leaves if self._folder is None else self._write(client, version, leaves)
        return ClientStates(entries, self._folder)

    def _write(self, client: str, version: int, leaves: Leaves) -> str:
        """The name of a new file with these arrays; of the client's others, that of this store stays."""
        folder = self._client_folder(client)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{version}-{_digest(leaves)}.npz"
        with replacing(folder / name) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, *leaves, dtypes=np.array([leaf.dtype.name for leaf in leaves]))
        for old in folder.glob("*.npz"):
            if old.name not in (name, self._entries.get(client)):
                old.unlink()
        return name

    def _client_folder(self, client: str) -> Path:
        assert self._folder is not None
        return self._folder / hashlib.sha256(client.encode(errors="surrogatepass")).hexdigest()[:32]  # an id may hold any character


def _digest(leaves: Leaves) -> str:
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]
