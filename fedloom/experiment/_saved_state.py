"""A process' state as one file: everything that decides the rounds to come, without pickle.

A zip of `.npy` files with `state.json`, which names every array with its shape and dtype. What does not fit the process that reads it is
refused before anything is used. With care: the names and `FORMAT`; files that people keep depend on them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._files import replacing, sync

FORMAT = 1


def write_state(path: Path, about: dict[str, Any], tree: Any, clients: Iterator[tuple[str, list[np.ndarray]]]) -> None:
    """Writes a state, whole or not at all; one client's arrays are in memory at a time.

    Args:
        path: Of the file.
        about: What else belongs to the state, as JSON.
        tree: The arrays of server and aggregator.
        clients: Ids with the arrays that each client kept.
    """
    with replacing(path) as unfinished:
        with zipfile.ZipFile(unfinished, "w") as file:
            leaves = _named(tree)
            for i, leaf in enumerate(leaves.values()):
                _write(file, f"server/{i}.npy", np.asarray(leaf))
            ids = []
            for i, (client, kept) in enumerate(clients):
                ids.append(client)
                for j, leaf in enumerate(kept):
                    _write(file, f"clients/{i}/{j}.npy", leaf)
            header = {"format": FORMAT, "arrays": {name: kind_of(leaf) for name, leaf in leaves.items()}, "clients": ids, **about}
            file.writestr(zipfile.ZipInfo("state.json"), json.dumps(header, indent=1))
        sync(unfinished)  # before the rename, so that a loss of power leaves the old file or the new one


class SavedState:
    """A state file, open for reading; the arrays are read when they are asked for.

    Raises:
        ValueError: The file is no state of a process, is damaged, or comes from a version that this one cannot read.
        FileNotFoundError: There is no such file.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            with zipfile.ZipFile(path) as file:
                damaged = file.testzip()
                self.about = json.loads(file.read("state.json"))
        except (zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no state that `process.save` wrote, or it was cut off: {error}. Use another copy.") from error
        if damaged:
            raise ValueError(f"{path} is damaged: the checksum of {damaged} inside it is wrong. Use another copy.")
        if self.about.get("format") != FORMAT:
            raise ValueError(
                f"{path} has format {self.about.get('format')}, and this version of fedloom reads {FORMAT}. Use the version it is from."
            )

    def check(self, name: str, expected: Any) -> None:
        """Raises ValueError unless the file says the same of `name`."""
        if self.about[name] != expected:
            raise ValueError(
                f"{self._path} is a state of another process: its {name} is {self.about[name]!r}, here it is {expected!r}. Load it with "
                "the model, algorithm, aggregator and seed that it was saved with."
            )

    def tree(self, like: Any) -> Any:
        """The arrays of server and aggregator, in a tree of the names, shapes and dtypes of `like`."""
        expected = {name: kind_of(leaf) for name, leaf in _named(like).items()}
        found = self.about["arrays"]
        if found != expected:
            wrong = next(name for name in [*expected, *found] if found.get(name) != expected.get(name))
            raise ValueError(
                f"{self._path} is a state of another process: {wrong or 'its one array'} is {found.get(wrong, 'missing')} in the file and "
                f"{expected.get(wrong, 'missing')} here. Load it with the model, algorithm and aggregator that it was saved with."
            )
        with zipfile.ZipFile(self._path) as file:
            leaves = [jax.numpy.asarray(_read(file, f"server/{i}.npy", kind)) for i, kind in enumerate(expected.values())]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def clients(self, kinds: list[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
        """Ids with the arrays that each client kept, which are of these kinds."""
        with zipfile.ZipFile(self._path) as file:
            for i, client in enumerate(self.about["clients"]):
                yield client, [_read(file, f"clients/{i}/{j}.npy", kind) for j, kind in enumerate(kinds)]


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def kind_of(leaf: Any) -> str:
    """Dtype and shape of an array, e.g. float32[3, 2]."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def _write(file: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with file.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:  # without the time of day: the same state has the same bytes
        np.lib.format.write_array(entry, array, allow_pickle=False)


def _read(file: zipfile.ZipFile, name: str, kind: str) -> np.ndarray:
    with file.open(name) as entry:
        # NumPy reads types that it does not know, such as bfloat16, as raw bytes.
        return np.lib.format.read_array(entry, allow_pickle=False).view(jax.numpy.dtype(kind.split("[")[0]))
