"""Who takes part in a round in which clients may fail: one that cannot be read is left out instead of ending the round.

A client that fails before its first batch is passed over, as if it had never been asked. One that fails later has begun to train, so its
last batch is spoilt: weights of NaN make its update NaN, and the round leaves it out as it does any client with such an update.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from fedloom.core import Batch, ClientFailure, LeftOut
from fedloom.data import ClientBatches

from ._cohort import Client
from ._works import Kind, kind_of_batch, kind_of_planned

Result = TypeVar("Result")


class Attendance:
    """The cohort of one round.

    Args:
        cohort: All who are asked, in order; those that are not needed in the end are not read.
        at_most: Clients that take part; None takes all who can.
        timeout: Seconds after which a client whose data are being read counts as failed, for each wait; None waits for ever.
        fits: Raises on the shapes of a batch that the model cannot take.
        known: Shapes that it can; more are added, so that each is looked at once as long as the same set is given.
        round_number: For error messages.

    Attributes:
        failures: By place in the cohort.
        present: The places of those who take part, in the order in which they began.
    """

    def __init__(
        self,
        cohort: Sequence[Client],
        *,
        at_most: int | None = None,
        timeout: float | None = None,
        fits: Callable[[Batch], None] = lambda shapes: None,
        known: set[Hashable] | None = None,
        round_number: int = 0,
    ):
        self.failures: dict[int, ClientFailure] = {}
        self.present: list[int] = []
        self._cohort, self._at_most, self._timeout = cohort, at_most, timeout
        self._fits, self._known, self._round_number = fits, set() if known is None else known, round_number
        self._allowed: Container[int] = range(len(cohort))
        self._begun: dict[int, Kind | None] = {}  # of those in `present`, the shapes of a batch, if they are streamed

    def clients(self) -> list[Client]:
        """The cohort for an executor; a second time, for a second exchange with those who took part in the first."""
        if self.present:
            self._allowed = set(self.present)
        self.present, self._begun = [], {}
        of, batches, plan, check = functools.partial, self._batches, self._plan, self._check
        return [
            Client(client.name, of(batches, place), client.kept, client.plan and of(plan, place), of(check, place, client.check))
            for place, client in enumerate(self._cohort)
        ]

    def _plan(self, place: int) -> ClientBatches | Iterator[Batch]:
        self._refuse(place)
        plan = self._cohort[place].plan
        assert plan is not None  # `clients` saw to it
        try:
            planned = self._within(plan)
            if isinstance(planned, ClientBatches) and planned.num_batches:
                size, like = planned.size, planned.like()
                if (size, like) not in self._known:
                    self._fits(kind_of_planned(size, like).batch())
                    self._known.add((size, like))
        except Exception as error:
            self._fail(place, error)
            raise LeftOut from error
        if isinstance(planned, ClientBatches):
            self._begin(place)
            return planned
        return self._guarded(place, iter(planned))

    def _batches(self, place: int, part: str = "train") -> Iterator[Batch]:
        if place not in self._begun:
            self._refuse(place)
        elif place in self.failures:  # in an earlier pass
            yield from self._spoilt(place)
            return
        try:
            stream = iter(self._within(lambda: self._cohort[place].batches(part)))
        except Exception as error:
            self._fail(place, error)
            yield from self._spoilt(place)
            return
        yield from self._guarded(place, stream)

    def _guarded(self, place: int, stream: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            kind = None
            try:
                batch = self._within(lambda: next(stream, None))
                if batch is not None and (kind := kind_of_batch(batch)) not in self._known:
                    self._fits(kind.batch())
                    self._known.add(kind)
            except Exception as error:
                self._fail(place, error)
                yield from self._spoilt(place)
                return
            self._begin(place, kind)
            if batch is None:
                return
            yield batch

    def _begin(self, place: int, kind: Kind | None = None) -> None:
        if place not in self._begun:
            self.present.append(place)
        self._begun[place] = kind or self._begun.get(place)

    def _spoilt(self, place: int) -> Iterator[Batch]:
        if (kind := self._begun.pop(place, None)) is None:
            if place in self.present:  # with an earlier pass that had no batch
                self.present.remove(place)
            raise LeftOut
        self._begun[place] = kind
        batch = spoilt(kind.batch())
        yield from (batch, batch)  # a pass may take every other batch only

    def _check(self, place: int, check: Callable[[Batch], None], batch: Batch) -> None:
        try:
            check(batch)
        except Exception as error:
            self._fail(place, error)
            raise LeftOut from error

    def _refuse(self, place: int) -> None:
        """Raises LeftOut for a client that failed before, or is not needed."""
        full = self._at_most is not None and len(self.present) >= self._at_most
        if place in self.failures or full or place not in self._allowed:
            raise LeftOut

    def _fail(self, place: int, error: Exception) -> None:
        if isinstance(error, MemoryError):  # not the client's fault
            raise error
        if not isinstance(error, ClientFailure):
            cause, name = error, self._cohort[place].name
            error = ClientFailure(name, self._round_number, "data", cause)
            error.__cause__ = cause
        self.failures.setdefault(place, error)

    def _within(self, read: Callable[[], Result]) -> Result:
        """What `read` returns or raises, or TimeoutError."""
        if self._timeout is None:
            return read()
        outcome: list[tuple[Any, Exception | None]] = []

        def work() -> None:
            try:
                outcome.append((read(), None))
            except Exception as error:
                outcome.append((None, error))

        # A thread of its own, which nobody waits for at the end: there is no way to stop one that hangs.
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self._timeout)
        if not outcome:
            raise TimeoutError(f"reading its data took longer than {self._timeout:g} s")
        result, error = outcome[0]
        if error is not None:
            raise error
        return result


def spoilt(shapes: Batch) -> Batch:
    """A batch of these shapes that makes any update NaN, with inputs and labels that any model takes."""

    def filled(tree: Any, value: float) -> Any:
        return jax.tree.map(lambda leaf: np.full(leaf.shape, value, leaf.dtype), tree)

    return Batch(filled(shapes.x, 0), filled(shapes.y, 0), filled(shapes.sample_weight, np.nan), filled(shapes.real, np.nan))
