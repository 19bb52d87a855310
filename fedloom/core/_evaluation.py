"""Evaluation as client work, so that whatever runs training runs it too: clients contribute metrics and nothing else."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from ._aggregator import Aggregator, Contribution
from ._algorithm import Algorithm, ClientOutput, ClientWork
from ._metrics import MetricSums, add
from ._model import Carry, Model


class _LocalState(NamedTuple):
    carry: Carry
    metrics: MetricSums


def evaluation(model: Model) -> tuple[Algorithm, Aggregator]:
    """An algorithm whose server state is the weights, and whose rounds change nothing; the sums of its metrics are the result."""

    def begin(weights, client_state, key):
        return _LocalState(model.init_carry(), model.init_metrics())

    def step(weights, local, batch, key):
        metrics, carry = model.evaluate(weights, local.carry, batch)
        return _LocalState(carry, add(local.metrics, metrics))

    def finish(weights, local):
        return ClientOutput(Contribution((), jnp.float32(0)), local.metrics)

    algorithm = Algorithm(
        model,
        init=lambda weights: weights,
        client=ClientWork(begin, step, finish),
        server_update=lambda state, message, aggregate: (state, {}),
        broadcast=lambda state, round_number: state,
        name="evaluation",
    )
    nothing = Aggregator(lambda value: (), lambda state, contribution, key: contribution, lambda state, total, key: (total, state, {}))
    return algorithm, nothing
