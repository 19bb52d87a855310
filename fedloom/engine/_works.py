"""The clients of a cohort as what a block is written from: each one's batches, as many at a time as are known."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from fedloom.core import Batch, LeftOut, Pass, every_batch
from fedloom.data import ClientBatches

from ._cohort import Client


class Kind(NamedTuple):
    """What batches must share to stand in one block."""

    structure: Any  # of the tree
    leaves: tuple[tuple[tuple[int, ...], np.dtype], ...]  # shape and dtype, as JAX will have it

    def batch(self) -> Batch:
        """The shapes of a batch."""
        return jax.tree.unflatten(self.structure, [jax.ShapeDtypeStruct(*leaf) for leaf in self.leaves])


class Writer(Protocol):
    """A block in the making."""

    def examples(self, lane: int, start: int, stop: int) -> list[np.ndarray]:
        """Where the rows of a lane's batches go, one batch after the other, for each leaf."""
        ...

    def put(self, lane: int, row: int, leaves: list[Any], number: int) -> None:
        """Writes a batch of the pass of this number."""
        ...


class Work:
    """A client whose batches are being read."""

    index: int
    kind: Kind
    step: int = 0  # of the next batch
    ready: int  # batches that can be placed now; 0 says that there is none at all
    ended: bool = False  # whether all have been placed

    def place(self, writer: Writer, lane: int, start: int, stop: int) -> None:
        """Writes the next batches into these rows of a lane; at most `ready`."""
        raise NotImplementedError


class _Planned(Work):
    """A client whose examples are known by column."""

    def __init__(self, index: int, client: Client, batches: ClientBatches):
        self.index, self._client, self._batches = index, client, batches
        self.ready = batches.num_batches
        if self.ready:
            self.kind = kind_of_planned(batches.size, batches.like())

    def place(self, writer, lane, start, stop):
        """See `Work`."""
        following = self.step + stop - start
        x, *y, weight, real = writer.examples(lane, start, stop)
        try:
            self._client.check(self._batches.fill(self.step, following, x, y[0] if y else {}, weight, real))
        except LeftOut:  # it has begun, so its update must become NaN: see `_attendance`
            for column, value in ((x, 0), *((own, 0) for own in y), (weight, np.nan), (real, np.nan)):
                column[...] = value
        self.step = following
        self.ready -= stop - start
        self.ended = not self.ready


class _Streamed(Work):
    """A client whose batches come one by one; one is read ahead, to know which one is the last."""

    ready = 0

    def __init__(self, index: int, batches: Iterator[tuple[Batch, int]]):
        self.index, self._batches = index, batches
        self._read()
        self.ready = int(not self.ended)

    def _read(self) -> None:
        following = next(self._batches, None)
        if following is None:
            self.ended = True
            return
        batch, self._number = following
        self._leaves, self.kind = jax.tree.leaves(batch), kind_of_batch(batch)

    def place(self, writer, lane, start, stop):
        """See `Work`."""
        writer.put(lane, start, self._leaves, self._number)
        self.step += 1
        self._read()


def works(cohort: list[Client], passes: tuple[Pass, ...]) -> Iterator[Work]:
    """The clients of a cohort, each read when it is its turn.

    Args:
        cohort: The clients.
        passes: What they do with their batches.

    Clients that raise `LeftOut` before their first batch are passed over.
    """
    simple = len(passes) == 1 and passes[0].batches is every_batch
    for index, client in enumerate(cohort):
        try:
            planned = client.plan() if simple and client.plan is not None else None
            if isinstance(planned, ClientBatches):
                work = _Planned(index, client, planned)
            elif planned is not None:
                work = _Streamed(index, zip(planned, itertools.repeat(0), strict=False))
            else:
                work = _Streamed(index, _every_pass(client, passes))
        except LeftOut:
            continue
        yield work


def _every_pass(client: Client, passes: tuple[Pass, ...]) -> Iterator[tuple[Batch, int]]:
    for number, one in enumerate(passes):
        for batch in one.batches(client.batches):
            yield batch, number


def kind_of_batch(batch: Batch) -> Kind:
    """That of a batch of arrays."""
    leaves, structure = jax.tree.flatten(batch)
    return Kind(structure, tuple((leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves))


_STRUCTURES = {has_y: jax.tree.structure(Batch(0, 0 if has_y else {}, np.zeros(0), np.zeros(0))) for has_y in (True, False)}


@functools.lru_cache(maxsize=64)
def kind_of_planned(size: int, like: tuple) -> Kind:
    """That of batches made from examples by column; arguments as those of `ClientBatches`."""
    x, y, weight = like
    float32 = np.dtype(np.float32)
    leaves = [x, *([y] if y else []), (weight[0] if weight else (), float32), ((), float32)]
    return Kind(_STRUCTURES[y is not None], tuple(((size, *shape), jax.dtypes.canonicalize_dtype(dtype)) for shape, dtype in leaves))
