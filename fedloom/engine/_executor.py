"""Executor: runs client work over a cohort and adds up what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fedloom.core import Aggregator, AggregatorState, Algorithm, Key, PyTree, RoundSums

from ._cohort import Cohort


class Executor(Protocol):
    """Made for one algorithm and aggregator; any two give the same sums up to the rounding of float32."""

    def run(self, message: PyTree, aggregator_state: AggregatorState, cohort: Cohort, key: Key, round_number: int) -> RoundSums:
        """The sums of a round over these clients, which may be empty.

        Args:
            message: What the server broadcasts.
            aggregator_state: For the clients' half of the aggregation.
            cohort: The clients, in order; a client's place decides its key.
            key: Of the round.
            round_number: For error messages.

        Raises:
            ClientFailure: A client's data or work failed.
        """
        ...


MakeExecutor = Callable[[Algorithm, Aggregator], Executor]
