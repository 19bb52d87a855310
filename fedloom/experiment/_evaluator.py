"""What runs evaluation: weights by name over the same clients, all together or each by itself, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax

from fedloom.core import Aggregator, Algorithm, MetricSums, Model, ModelWeights, evaluation, root_key
from fedloom.data import Batching
from fedloom.engine import Executor, MakeExecutor, pool, prepare

EVALUATION_BATCH = 64


def carried_rows(model: Model) -> int:
    """The batch size that a carried RNN state is tied to; 0 if none is carried."""
    carry = jax.tree.leaves(model.init_carry())
    return carry[0].shape[0] if carry else 0


def evaluation_batching(model: Model, batch_size: int | None) -> Batching:
    """Every example once, in order; a model that carries RNN state decides the batch size itself, and otherwise None is 64."""
    return Batching(size=carried_rows(model) or (EVALUATION_BATCH if batch_size is None else batch_size), shuffle=False)


class Evaluator:
    """Evaluation of one model, whose executors are kept.

    Args:
        model: The model.
        make_executor: Makes what runs it.
    """

    def __init__(self, model: Model, make_executor: MakeExecutor):
        self.model, self._make_executor = model, make_executor
        self._executors: dict[str, tuple[Hashable, Executor]] = {}

    def total(
        self, weights: Mapping[str, ModelWeights], clients: Any, batch_size: int | None = None, round_number: int = 0
    ) -> dict[str, MetricSums]:
        """The sums of each model's metrics over all examples of all clients, as host arrays.

        Args:
            weights: By name; the data are read once for all of them.
            clients: As in `LearningProcess.next`.
            batch_size: Rows per batch of examples; None takes 64, or the model's own if it carries RNN state. It changes no result.
            round_number: For error messages.
        """
        if carried_rows(self.model):
            cohort = self._by_client(clients, batch_size, round_number)
        else:
            size = EVALUATION_BATCH if batch_size is None else batch_size
            cohort = pool(clients, size, round_number=round_number, check=self.model.check_batch)
        executor = self.executor("total", lambda: evaluation(self.model), reports=False)
        sums, _ = executor.run(dict(weights), (), cohort, root_key(0), round_number)
        return jax.device_get(sums.metrics)

    def each(
        self, weights: ModelWeights, clients: Any, batch_size: int | None = None, round_number: int = 0
    ) -> list[tuple[str, MetricSums]]:
        """The id and the sums of each client; arguments as in `total`."""
        cohort = self._by_client(clients, batch_size, round_number)
        executor = self.executor("each", lambda: evaluation(self.model), reports=True)
        _, reports = executor.run({"model": weights}, (), cohort, root_key(0), round_number)
        return [(client.name, jax.device_get(report.metrics["model"])) for client, report in zip(cohort, reports, strict=True)]

    def executor(
        self, purpose: str, make: Callable[[], tuple[Algorithm, Aggregator]], *, reports: bool, settings: Hashable = ()
    ) -> Executor:
        """The executor for a purpose; what it has compiled is kept as long as the settings stay the same."""
        if purpose not in self._executors or self._executors[purpose][0] != settings:
            self._executors[purpose] = settings, self._make_executor(*make(), reports=reports)
        return self._executors[purpose][1]

    def _by_client(self, clients: Any, batch_size: int | None, round_number: int):
        batching = evaluation_batching(self.model, batch_size)
        return prepare(clients, batching, seed=0, round_number=round_number, check=self.model.check_batch)
