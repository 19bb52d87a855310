"""The debug executor: no jit, one client and one batch at a time, failures named. Slow, and easy to step through."""

from __future__ import annotations

import jax

from fedloom.core import (
    CLIENTS_PER_PARTIAL_SUM,
    Aggregator,
    Algorithm,
    ClientFailure,
    RoundSums,
    add_sums,
    client_key,
    contribute,
    empty_sums,
    step_key,
)

from ._cohort import Client, Cohort


class DebugExecutor:
    """Reads like the definition of a round; see `Executor`."""

    def __init__(self, algorithm: Algorithm, aggregator: Aggregator):
        self._algorithm, self._aggregator = algorithm, aggregator

    def run(self, message, aggregator_state, cohort: Cohort, key, round_number: int) -> RoundSums:
        """See `Executor.run`."""
        total = partial = empty_sums(self._algorithm, self._aggregator, message, aggregator_state, key)
        zero = total
        for index, client in enumerate(cohort):
            output = self._client(message, client, client_key(key, index), round_number)
            partial = add_sums(partial, contribute(self._aggregator, aggregator_state, output, client_key(key, index)))
            if (index + 1) % CLIENTS_PER_PARTIAL_SUM == 0:
                total, partial = add_sums(total, partial), zero
        return add_sums(total, partial)

    def _client(self, message, client: Client, key, round_number: int):
        work, stage = self._algorithm.client, "begin"
        with jax.disable_jit():
            try:
                local = work.begin(message, key)
                for k, batch in enumerate(client.batches()):
                    stage = f"step {k}"
                    local = work.step(message, local, jax.tree.map(jax.numpy.asarray, batch), step_key(key, k))
                stage = "finish"
                return work.finish(message, local)
            except ClientFailure:
                raise
            except Exception as error:
                raise ClientFailure(client.name, round_number, stage, error) from error
