"""Evaluation as client work, so that whatever runs training runs it too: clients contribute metrics and nothing else."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from ._aggregator import Aggregator, Contribution
from ._algorithm import Algorithm, ClientOutput, ClientWork
from ._metrics import MetricSums, add
from ._model import Carry, Model
from ._types import Batch, ModelWeights


class Evaluated(NamedTuple):
    """How far the evaluation of some weights at a client has come."""

    carry: Carry
    metrics: MetricSums


def begin_evaluation(model: Model) -> Evaluated:
    """Before a client's first batch."""
    return Evaluated(model.init_carry(), model.init_metrics())


def evaluate_batch(model: Model, weights: ModelWeights, so_far: Evaluated, batch: Batch) -> Evaluated:
    """After one more batch."""
    metrics, carry = model.evaluate(weights, so_far.carry, batch)
    return Evaluated(carry, add(so_far.metrics, metrics))


def evaluation(model: Model) -> tuple[Algorithm, Aggregator]:
    """An algorithm whose rounds change nothing; the sums of its metrics are the result.

    Its server state and its message are weights by name, name -> `ModelWeights`, and its metrics are sums by the same names: several models
    read the clients' data once.
    """

    def begin(models, client_state, key):
        return {name: begin_evaluation(model) for name in models}

    def step(models, local, batch, key):
        return {name: evaluate_batch(model, weights, local[name], batch) for name, weights in models.items()}

    def finish(models, local):
        return ClientOutput(Contribution((), jnp.float32(0)), {name: one.metrics for name, one in local.items()})

    algorithm = Algorithm(
        model,
        init=lambda weights: {"model": weights},
        client=ClientWork(begin, step, finish),
        server_update=lambda state, message, aggregate: (state, {}),
        broadcast=lambda state, round_number: state,
        get_weights=lambda state: state["model"],
        set_weights=lambda state, weights: state | {"model": weights},
        name="evaluation",
    )
    nothing = Aggregator(lambda value: (), lambda state, contribution, key: contribution, lambda state, total, key: (total, state, {}))
    return algorithm, nothing
