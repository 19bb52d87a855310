"""Evaluation of what a task trains: all held-out data together, every client by itself, and after a client's own fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedloom.algorithms import fine_tune
from fedloom.report import lower_is_better

from ._assemble import Assembled, client_optimizer
from ._evaluation import evaluate_models
from ._personalize import personalization_summary, personalize

WORST_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class TaskEvaluation:
    """What `evaluate_task` found."""

    central: dict[str, dict[str, Any]]  # by model, metrics over all examples together
    clients: list[dict[str, Any]]  # a row per client: `client`, `num_examples`, and each metric under each model as "model.metric"
    spread: dict[str, dict[str, float]]  # by "model.metric": see `spread`
    personalized: dict[str, Any] | None = None  # by metric, `personalization_summary`


def evaluate_task(parts: Assembled, models: dict[str, Any], *, personalization: bool = False) -> TaskEvaluation:
    """How good models are on the held-out clients of a task.

    Args:
        parts: The task.
        models: Keras models by name, of the task's architecture.
        personalization: Whether the last of them is also fitted to each client's training part, with the client optimizer, before it is
            tested on that client.

    Raises:
        ValueError: A model does not fit, or no held-out client has a training part.
        ClientFailure: A client's data could not be read, or does not fit the model.
    """
    process, held_out = parts.process, parts.held_out
    weights = {name: process.model.weights_from(model) for name, model in models.items()}
    central = evaluate_models(process, weights, held_out)
    start = process.initialize(next(iter(models.values())))
    rows: dict[str, dict[str, Any]] = {}
    for name, one in weights.items():
        for found in process.evaluate_clients(process.set_weights(start, one), held_out):
            row = rows.setdefault(found["client"], {"client": found["client"], "num_examples": found["num_examples"]})
            row |= {f"{name}.{key}": value for key, value in found.items() if key != "client" and not key.startswith("num_")}
    clients = list(rows.values())
    measured = [key for key in clients[0] if "." in key] if clients else []
    tested = [row for row in clients if row["num_examples"]]
    personalized = _personalized(parts, list(weights.values())[-1]) if personalization else None
    return TaskEvaluation(
        central=central, clients=clients, spread={key: spread([row[key] for row in tested]) for key in measured}, personalized=personalized
    )


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and quantiles over clients, each of which counts the same.

    Example:
        >>> spread([0.0, 1.0, 2.0])["median"]
        1.0
    """
    low, median, high = np.quantile(values, [WORST_SHARE, 0.5, 1 - WORST_SHARE])
    return {"mean": float(np.mean(values)), "lowest_tenth": float(low), "median": float(median), "highest_tenth": float(high)}


def _personalized(parts: Assembled, weights: Any) -> dict[str, Any]:
    ids = [client for client in parts.held_out if client in parts.dataset]
    if not ids:
        raise ValueError(
            "To personalize, held-out clients must have training data too, and none of them is among the clients to train on. Evaluate "
            "more clients, or lower min_examples."
        )
    process = parts.process
    strategies = {"fine-tuned": fine_tune(process.model, client_optimizer(parts.config))}
    rows = personalize(process, weights, parts.dataset.subset(ids), parts.held_out.subset(ids), strategies)
    metrics = [name for name, value in rows[0]["baseline"].items() if isinstance(value, float) and not name.startswith("num_")]
    return {name: personalization_summary(rows, name, better="lower" if lower_is_better(name) else "higher") for name in metrics}
