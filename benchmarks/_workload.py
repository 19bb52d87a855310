"""A case on disk: what each client trains on in each round, in the order of its batches, and the weights everybody starts from.

Files of NumPy, so that every system's worker can read them whatever its environment:

    case.json              the case, and the ids of the clients of each round
    weights.npz            initial weights "0", "1", ... in the order and layout of Keras
    rounds/R/x.npy, y.npy  real rows of all clients of round R, one client after the other; no padding
    rounds/R/weight.npy    of each element of y, 0 or 1, if there are weights
    rounds/R/sizes.npy     rows of each client
    population/            where clients are made up: the data set that fedloom trains on
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class ClientRows(NamedTuple):
    """A client's examples of one round, in the order in which it sees them: `batch_size` rows at a time, the last time perhaps fewer."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None  # as `y`; None: all 1

    def weighted(self) -> dict[str, np.ndarray]:
        """By column, with a weight in any case."""
        return {"x": self.x, "y": self.y, "weight": np.ones(self.y.shape, np.float32) if self.weight is None else self.weight}


class Workload:
    """Reads what `write` wrote."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        about = json.loads((self.folder / "case.json").read_text())
        self.case: dict[str, Any] = about["case"]  # the fields of `Case`
        self.clients: list[list[str]] = about["clients"]  # ids of each round
        self.rows: list[int] = about["rows"]  # in each round, all clients together

    def weights(self) -> list[np.ndarray]:
        """Initial weights, in the order and layout of Keras."""
        with np.load(self.folder / "weights.npz") as file:
            return [file[str(i)] for i in range(len(file.files))]

    def round(self, number: int) -> list[ClientRows]:
        """The clients of a round."""
        folder = self.folder / "rounds" / str(number)
        x, y, sizes = (np.load(folder / f"{name}.npy") for name in ("x", "y", "sizes"))
        weight = np.load(folder / "weight.npy") if (folder / "weight.npy").exists() else None
        ends = np.cumsum(sizes)
        return [
            ClientRows(x[start:end], y[start:end], None if weight is None else weight[start:end])
            for start, end in zip(ends - sizes, ends, strict=True)
        ]


class Writer:
    """Writes a workload, round by round."""

    def __init__(self, folder: Path, case: Mapping[str, Any], weights: Sequence[np.ndarray]):
        self.folder, self._case = folder, dict(case)
        self._clients: list[list[str]] = []
        self._rows: list[int] = []
        np.savez(folder / "weights.npz", **{str(i): weight for i, weight in enumerate(weights)})  # type: ignore[arg-type]

    def add_round(self, clients: Mapping[str, ClientRows], *, store: bool = True) -> None:
        """Adds a round.

        Args:
            clients: By id.
            store: Whether their rows are written; without, only their ids and number are.
        """
        sizes = np.array([len(rows.x) for rows in clients.values()])
        if store:
            folder = self.folder / "rounds" / str(len(self._clients))
            folder.mkdir(parents=True)
            np.save(folder / "sizes.npy", sizes)
            for name, parts in zip(ClientRows._fields, zip(*clients.values(), strict=True), strict=True):
                if parts[0] is not None:
                    np.save(folder / f"{name}.npy", np.concatenate(parts))
        self._clients.append(list(clients))
        self._rows.append(int(sizes.sum()))
        about = {"case": self._case, "clients": self._clients, "rows": self._rows}
        (self.folder / "case.json").write_text(json.dumps(about))
