"""Executor: runs client work over a cohort and adds up what comes out."""

from __future__ import annotations

from typing import Protocol

from fedloom.core import NOTHING_KEPT, Aggregator, AggregatorState, Algorithm, ClientReport, Kept, Key, PyTree, RoundSums

from ._cohort import Cohort


class Executor(Protocol):
    """Made for one algorithm and aggregator; any two give the same sums up to the rounding of float32."""

    def run(
        self, message: PyTree, aggregator_state: AggregatorState, cohort: Cohort, key: Key, round_number: int, blank: Kept = NOTHING_KEPT
    ) -> tuple[RoundSums, list[ClientReport]]:
        """The sums of a round over these clients, which may be empty, and a report of each if the executor was made to give them.

        Args:
            message: What the server broadcasts.
            aggregator_state: For the clients' half of the aggregation.
            cohort: The clients, in order; a client's place decides its key.
            key: Of the round.
            round_number: For error messages.
            blank: What a client has that never took part; its shapes are those of all clients.

        Raises:
            ClientFailure: A client's data or work failed.
        """
        ...


class MakeExecutor(Protocol):
    """A class of executors."""

    def __call__(self, algorithm: Algorithm, aggregator: Aggregator, *, reports: bool = False) -> Executor:
        """An executor for this algorithm and aggregator, with a report per client or without."""
        ...
