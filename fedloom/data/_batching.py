"""Examples to batches of one fixed shape, with padding that carries no weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np

from fedloom.core import Batch

from ._client_batches import ClientBatches, shuffled
from ._federated import Examples, num_examples

_NAMES = {"x", "y", "sample_weight"}


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How a client's examples become batches.

    Examples have the column `x`, `y` unless the loss needs none (it is `{}` then), and `sample_weight` if they carry weights.
    """

    size: int  # rows of a batch
    epochs: int = 1  # passes over the examples; every pass is cut into batches anew
    max_batches: int | None = None  # at most so many, over all epochs
    remainder: Literal["pad", "drop"] = "pad"  # a last, smaller batch: filled up with rows of weight 0, or left out
    shuffle: bool = True  # a new order every epoch, decided by (seed, round, client)

    def __post_init__(self):
        for name in ("size", "epochs", "max_batches"):
            value = getattr(self, name)
            if not (value is None and name == "max_batches") and (not isinstance(value, Integral) or value < 1):
                raise ValueError(f"Batching.{name} must be a whole number of at least 1, got {value!r}.")
        if self.remainder not in ("pad", "drop"):
            raise ValueError(f'Batching.remainder must be "pad" or "drop", got {self.remainder!r}.')

    def batches(self, examples: Examples, *, client: str, seed: int = 0, round_number: int = 0) -> Iterator[Batch]:
        """A client's batches in a round, as host arrays.

        A client without examples has none; with `remainder="drop"`, neither has one with fewer examples than a batch.

        Raises:
            ValueError: The columns are not as expected; the message names the client.

        Example:
            >>> batching = Batching(size=2, shuffle=False)
            >>> [b.x.tolist() for b in batching.batches({"x": np.arange(3), "y": np.arange(3)}, client="ada")]
            [[0, 1], [2, 2]]
            >>> [b.real.tolist() for b in batching.batches({"x": np.arange(3), "y": np.arange(3)}, client="ada")]
            [[1.0, 1.0], [1.0, 0.0]]
        """
        return iter(self.plan(examples, client=client, seed=seed, round_number=round_number))

    def plan(
        self, examples: Examples, rows: np.ndarray | None = None, *, client: str, seed: int = 0, round_number: int = 0
    ) -> ClientBatches:
        """The same batches, of which nothing is copied yet.

        Args:
            examples: The columns of the client, or those of many.
            rows: Which rows of the columns are the client's examples, int64 (n,); None says all.
            client: Its id.
            seed: Of the run.
            round_number: From 0.

        Raises:
            ValueError: The columns are not as expected; the message names the client.
        """
        columns = _columns(examples, client, rows)
        count = len(rows) if rows is not None else num_examples(columns, client=client)
        per_epoch = count // self.size if self.remainder == "drop" else -(-count // self.size)
        num_batches = self.epochs * per_epoch
        if self.max_batches is not None:
            num_batches = min(num_batches, self.max_batches)

        def order(epoch: int) -> np.ndarray:
            if not self.shuffle:
                return np.arange(count)
            return shuffled(count, client=client, seed=seed, round_number=round_number, epoch=epoch)

        return ClientBatches(columns, rows, size=self.size, num_batches=num_batches, per_epoch=per_epoch, order=order)


def pooled_batches(clients: Iterable[tuple[str, Examples]], size: int) -> Iterator[Batch]:
    """All clients' examples one after the other, in batches that run across clients; the last one is padded.

    Raises:
        ValueError: `size` is less than 1, or a client's columns are not as expected.
    """
    if size < 1:
        raise ValueError(f"The batch size must be at least 1, got {size}.")
    waiting: dict[str, np.ndarray] = {}
    for client, examples in clients:
        columns = _columns(examples, client)
        if not num_examples(columns, client=client):
            continue
        if waiting and waiting.keys() != columns.keys():
            raise ValueError(f"Client {client!r} has columns {sorted(columns)}, those before it {sorted(waiting)}; all must have the same.")
        for name in waiting:
            if columns[name].shape[1:] != waiting[name].shape[1:]:
                raise ValueError(
                    f"Client {client!r} has examples of shape {columns[name].shape[1:]} in the column {name!r}, those before it of shape "
                    f"{waiting[name].shape[1:]}. Bring them to one shape with dataset.map."
                )
        waiting = {name: np.concatenate([waiting[name], columns[name]]) if waiting else columns[name] for name in columns}
        count = len(waiting["x"])
        for start in range(0, count - size + 1, size):
            yield _take(waiting, np.arange(start, start + size), size)
        waiting = {name: column[count - count % size :] for name, column in waiting.items()}
    if waiting and len(waiting["x"]):
        yield _take(waiting, np.arange(len(waiting["x"])), size)


def as_batch(raw: Any) -> Batch:
    """A batch as users give it: (x, y), (x, y, sample_weight), a dict of these (y may be left out), or a `Batch`; anything numpy can read.

    Raises:
        TypeError: It is none of these.
        ValueError: x, y and sample_weight differ in their number of rows.
    """
    if isinstance(raw, Batch):
        return raw
    if isinstance(raw, Mapping) and {"x"} <= raw.keys() <= {"x", "y", "sample_weight"}:
        x, y, weight = raw["x"], raw.get("y", {}), raw.get("sample_weight")
    elif isinstance(raw, tuple | list) and len(raw) in (2, 3):
        x, y, weight = (*raw, None)[:3]
    else:
        raise TypeError(
            "A batch must be (x, y), (x, y, sample_weight) or a dict with these names, got "
            f"{sorted(raw) if isinstance(raw, Mapping) else type(raw).__name__}."
        )
    x, y = _arrays(x), _arrays(y)
    rows = len(next(iter(x.values())) if isinstance(x, dict) else x)
    weight = np.ones(rows, np.float32) if weight is None else np.asarray(weight, np.float32)
    lengths = {len(leaf) for part in (x, y, weight) for leaf in (part.values() if isinstance(part, dict) else [part])}
    if lengths != {rows}:
        raise ValueError(f"x, y and sample_weight of a batch must have equally many rows, got {sorted(lengths)}.")
    _check_weights(weight)
    return Batch(x, y, weight, np.ones(rows, np.float32))


def _arrays(part: Any) -> Any:
    return {name: np.asarray(value) for name, value in part.items()} if isinstance(part, Mapping) else np.asarray(part)


def _columns(examples: Examples, client: str, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
    names = examples.keys()
    if "x" not in names or not names <= _NAMES:
        raise ValueError(
            f"Client {client!r} must have the columns x and y (or x alone, for a loss without labels), and sample_weight if there are "
            f"weights, got {sorted(names)}. "
            "Make them with `dataset.map(fn)`, for text with fl.text.CharWindows."
        )
    if "sample_weight" in names:
        weights = np.asarray(examples["sample_weight"])
        _check_weights(weights if rows is None else weights[rows], f" of client {client!r}")
    return {name: column if type(column) is np.ndarray else np.asarray(column) for name, column in examples.items()}


def _check_weights(weights: np.ndarray, whose: str = "") -> None:
    if weights.size and np.min(weights) < 0:
        raise ValueError(f"sample_weight{whose} must be >= 0, got {np.min(weights)}. A weight of 0 leaves an example out.")


def _take(columns: Mapping[str, np.ndarray], rows: np.ndarray, size: int) -> Batch:
    # Padding repeats real rows, so that it is valid input for any model; `real` takes its weight away.
    padded = np.resize(rows, size)
    weight = columns["sample_weight"][padded] if "sample_weight" in columns else np.ones(size)
    real = (np.arange(size) < len(rows)).astype(np.float32)
    y = columns["y"][padded] if "y" in columns else {}
    return Batch(columns["x"][padded], y, weight.astype(np.float32), real)
