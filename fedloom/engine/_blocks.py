"""The clients of a cohort as blocks of batches, for lanes that go side by side.

A lane takes the next client of the cohort as soon as it is done with the one before, so lanes end within a client of one another, and no
client is padded to the length of another. Who goes where follows from the cohort alone. A block holds the next few batches of every lane;
where clients begin and end in it is data.

Batches are written straight into arrays that are used again as soon as no block in flight needs them: XLA reads them where they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from fedloom.core import CLIENTS_PER_PARTIAL_SUM, Batch

from ._works import Kind, Work

MAX_BATCHES_PER_BLOCK = 64  # of all lanes of a group together; handing a block over costs as much as a few steps of a small model
MAX_BYTES_PER_BLOCK = 64 * 2**20
_KINDS_KEPT = 4  # kinds of batches whose arrays are kept for later
_ALIGNMENT = 64  # bytes; less, and XLA copies


class Slot(NamedTuple):
    """A batch and its place in the work; in a block, each field has the leading axes (lanes, rows). Arrays of NumPy, of JAX inside jit."""

    batch: Batch
    client: Any  # int32, index in the cohort
    step: Any  # int32, of that client, from 0
    number: Any  # int32, of the pass over its batches
    first: Any  # bool, whether the client begins here
    last: Any  # bool, whether it ends here
    full: Any  # bool, whether the lane's partial sum is then complete
    works: Any  # bool, whether there is a batch at all


class Block(NamedTuple):
    """The next batches of every lane."""

    slots: Slot  # axes (groups, lanes, rows)
    count: int  # of rows that are real
    busy: tuple[bool, ...]  # of each group, whether any of its lanes has a batch here
    holes: bool  # whether a lane has none in the middle of a client
    client: int  # index of the last client that began or went on in it
    ends: bool  # whether that client ends in it


class Empty(NamedTuple):
    """A client without batches."""

    client: int  # its index
    full: bool  # whether the partial sum of the first lane is then complete


class Buffers:
    """Arrays for blocks, by their shape. Those of a block are free again after `release`."""

    def __init__(self):
        self._free: dict[Any, list[Slot]] = {}

    def take(self, kind: Kind, groups: int, lanes: int, rows: int) -> Slot:
        """Arrays for a block."""
        free = self._free.setdefault((kind, groups, lanes, rows), [])
        if free:
            return free.pop()
        axes = (groups, lanes, rows)
        batch = jax.tree.unflatten(kind.structure, [_aligned((*axes, *shape), dtype) for shape, dtype in kind.leaves])
        return Slot(batch, *(np.zeros(axes, np.int32) for _ in range(3)), *(np.zeros(axes, np.bool_) for _ in range(4)))

    def release(self, kind: Kind, slots: Slot) -> None:
        """Says that nobody reads these any more."""
        self._free.setdefault((kind, *slots.client.shape), []).append(slots)
        while len(self._free) > _KINDS_KEPT:
            del self._free[next(iter(self._free))]


def blocks(
    waiting: Iterator[Work], buffers: Buffers, *, groups: int = 1, lanes: int = 1, one_client_each: bool = False
) -> Iterator[tuple[Block | Empty, Kind | None]]:
    """Blocks, with the kind of their batches, and clients without batches, in the order of the work.

    Args:
        waiting: The clients, from `works`.
        buffers: Where arrays come from.
        groups: Of lanes.
        lanes: In a group.
        one_client_each: Whether a block holds one client at most; then there is one lane.
    """
    at_work: list[Work | None] = [None] * (groups * lanes)
    finished = [0] * (groups * lanes)
    writer: _Writer | None = None
    is_first = True
    while True:
        if writer is not None and (writer.is_full or (one_client_each and writer.ended)):
            yield writer.block(), writer.kind  # before anything more is read
            writer = None
        empty = _deal(waiting, at_work)
        if writer is not None and empty:
            yield writer.block(), writer.kind
            writer = None
        for index in empty:
            finished[0] += 1
            yield Empty(index, finished[0] % CLIENTS_PER_PARTIAL_SUM == 0), None
        if not (busy := {lane: work for lane, work in enumerate(at_work) if work is not None}):
            break
        kind = _most_common([work.kind for work in busy.values()])
        if writer is not None and writer.kind != kind:
            yield writer.block(), writer.kind
            writer = None
        if writer is None:
            writer = _Writer(buffers, kind, groups, lanes, small=is_first)  # the first, so that the device has something to do soon
            is_first = False
        together = {lane: work for lane, work in busy.items() if work.kind == kind}
        rows = min(writer.rows_left, *(work.ready for work in together.values()))
        writer.begin_rows(rows, holes=any(work.step for lane, work in busy.items() if lane not in together))
        for lane, work in together.items():
            full = (finished[lane] + 1) % CLIENTS_PER_PARTIAL_SUM == 0
            if writer.write(lane, work, full):
                at_work[lane] = None
                finished[lane] += 1
    if writer is not None:
        yield writer.block(), writer.kind


def _deal(waiting: Iterator[Work], at_work: list[Work | None]) -> list[int]:
    """Gives every free lane its next client; returns the indices of clients met that have no batches."""
    empty = []
    for lane, work in enumerate(at_work):
        while work is None and (work := next(waiting, None)) is not None and not work.ready:
            empty.append(work.index)
            work = None
        at_work[lane] = work
    return empty


def _most_common(kinds: list[Kind]) -> Kind:
    """The first of those that come most often, so that few lanes wait."""
    return kinds[0] if len(kinds) == 1 or all(kind == kinds[0] for kind in kinds) else max(kinds, key=kinds.count)


class _Writer:
    """A block in the making."""

    def __init__(self, buffers: Buffers, kind: Kind, groups: int, lanes: int, *, small: bool):
        size = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in kind.leaves)
        fitting = min(MAX_BATCHES_PER_BLOCK, MAX_BYTES_PER_BLOCK // max(1, size))
        self._capacity = max(1, fitting // lanes)
        self._rows = max(1, self._capacity // 4) if small else self._capacity
        self.kind = kind
        self._slots = buffers.take(kind, groups, lanes, self._capacity)
        # The same arrays with one axis for all lanes.
        self._flat = jax.tree.map(lambda column: column.reshape(groups * lanes, *column.shape[2:]), self._slots)
        self._leaves = jax.tree.leaves(self._flat.batch)
        self._examples: list[np.ndarray] = []  # the same with one axis for rows of batches, if batches have equally many of them
        for column in self._flat[3:]:  # number and the flags
            column[...] = 0
        self._count, self._end = 0, 0
        self._holes = False
        self._client, self.ended = -1, False

    @property
    def rows_left(self) -> int:
        return self._rows - self._end

    @property
    def is_full(self) -> bool:
        return self._end == self._rows

    def begin_rows(self, count: int, *, holes: bool) -> None:
        """The next `count` rows are written from now on."""
        self._count, self._end = self._end, self._end + count
        self._holes |= holes

    def write(self, lane: int, work: Work, full: bool) -> bool:
        """A lane's batches in these rows; whether its client ends with them."""
        start, stop = self._count, self._end
        slots, step = self._flat, work.step
        slots.client[lane, start:stop] = work.index
        slots.step[lane, start:stop] = np.arange(step, step + stop - start)
        slots.works[lane, start:stop] = True
        slots.first[lane, start] = step == 0
        work.place(self, lane, start, stop)
        self._client, self.ended = work.index, work.ended
        if work.ended:
            slots.last[lane, stop - 1] = True
            slots.full[lane, stop - 1] = full
        return work.ended

    def examples(self, lane: int, start: int, stop: int) -> list[np.ndarray]:
        """The rows of a lane's batches, one batch after the other, in the arrays of the leaves."""
        size = self.kind.leaves[0][0][0]
        if not self._examples:
            self._examples = [leaf.reshape(len(leaf), -1, *leaf.shape[3:]) for leaf in self._leaves]
        return [leaf[lane, start * size : stop * size] for leaf in self._examples]

    def put(self, lane: int, row: int, leaves: list[Any], number: int) -> None:
        """Writes a batch of the pass of this number."""
        for leaf, own in zip(self._leaves, leaves, strict=True):
            leaf[lane, row] = own
        self._flat.number[lane, row] = number

    def block(self) -> Block:
        busy = self._slots.works.any((1, 2))
        return Block(self._slots, self._end, tuple(busy.tolist()), self._holes, self._client, self.ended)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
