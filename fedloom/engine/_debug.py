"""The debug executor: no jit, one client and one batch at a time, failures named. Slow, and easy to step through."""

from __future__ import annotations

import time

import jax

from fedloom.core import (
    CLIENTS_PER_PARTIAL_SUM,
    NOTHING_KEPT,
    Aggregator,
    Algorithm,
    ClientFailure,
    ClientOutput,
    Kept,
    LeftOut,
    add_sums,
    client_key,
    contribute,
    empty_sums,
    stack_contributions,
    step_key,
)

from ._cohort import Client, Cohort


class DebugExecutor:
    """Reads like the definition of a round; see `Executor`."""

    def __init__(self, algorithm: Algorithm, aggregator: Aggregator, *, reports: bool = False):
        self._algorithm, self._aggregator, self._gives_reports = algorithm, aggregator, reports

    def run(self, message, aggregator_state, cohort: Cohort, key, round_number: int, blank: Kept = NOTHING_KEPT):
        """See `Executor.run`."""
        zero, _ = empty_sums(self._algorithm, self._aggregator, message, aggregator_state, key, blank)
        total = partial = zero
        reports = []
        done = 0
        for index, client in enumerate(cohort):
            began = time.perf_counter()
            kept = client.kept()
            try:
                output = self._client(message, client, kept, client_key(key, index), round_number)
            except LeftOut:
                continue
            sums, report = contribute(self._aggregator, aggregator_state, output, client_key(key, index), kept, place=index)
            partial = add_sums(partial, sums)
            done += 1
            if self._gives_reports:
                reports.append(report._replace(seconds=time.perf_counter() - began))
            if done % CLIENTS_PER_PARTIAL_SUM == 0:
                total, partial = add_sums(total, partial), zero
        return stack_contributions(self._aggregator, add_sums(total, partial), reports), reports

    def _client(self, message, client: Client, kept: Kept, key, round_number: int) -> ClientOutput:
        work, stage, k = self._algorithm.client, "begin", 0
        with jax.disable_jit():
            try:
                local = work.begin(message, kept.algorithm, key)
                for one in work.passes:
                    for batch in one.batches(client.batches):
                        stage = f"step {k}"
                        local = one.step(message, local, jax.tree.map(jax.numpy.asarray, batch), step_key(key, k))
                        k += 1
                stage = "finish"
                return work.finish(message, local)
            except (ClientFailure, LeftOut):
                raise
            except Exception as error:
                raise ClientFailure(client.name, round_number, stage, error) from error
