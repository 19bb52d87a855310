"""Federated evaluation: of several models at once, and of one over many calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from fedloom.core import MetricSums, Model, ModelWeights
from fedloom.engine import LocalExecutor, MakeExecutor, executor_class

from ._evaluator import Evaluator
from ._process import LearningProcess, ProcessState


def evaluate_models(
    source: LearningProcess | Model, weights: Mapping[str, Any], clients: Any, *, batch_size: int | None = None
) -> dict[str, dict[str, Any]]:
    """Metrics of several weights of one model over all examples of these clients, whose data are read once.

    Args:
        source: The process, or the model. A process keeps what was compiled for the next call with as many weights of the same names.
        weights: By name, each as in `LearningProcess.initialize`; with a process, states of it too.
        clients: As in `LearningProcess.next`.
        batch_size: As in `LearningProcess.evaluate`.

    Returns:
        By name, what `LearningProcess.evaluate` would return.

    Raises:
        ValueError: No weights are given, or some do not fit the model.
        ClientFailure: A client's data could not be read, or does not fit the model.

    Example:
        >>> import jax.numpy as jnp, fedloom as fl
        >>> model = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, p: (y - p) ** 2)
        >>> clients = {"ada": {"x": jnp.ones(2), "y": jnp.ones(2)}, "bob": {"x": jnp.ones(1), "y": jnp.zeros(1)}}
        >>> both = evaluate_models(model, {"before": 0.0, "after": 1.0}, clients)
        >>> round(both["before"]["loss"], 3), round(both["after"]["loss"], 3)
        (0.667, 0.333)
    """
    if not weights:
        raise ValueError("weights must name at least one set of weights, got none.")
    evaluator, own = evaluator_of(source), {name: weights_of(source, one) for name, one in weights.items()}
    sums = evaluator.total(own, clients, batch_size)
    return {name: evaluator.model.finish_metrics(sums[name]) for name in weights}


def evaluator_of(source: LearningProcess | Model) -> Evaluator:
    """That of the process, or a new one for the model."""
    return source.evaluator if isinstance(source, LearningProcess) else Evaluator(source, LocalExecutor)


def weights_of(source: LearningProcess | Model, weights: Any) -> ModelWeights:
    """The model's weights, from what users may give for them."""
    if isinstance(source, LearningProcess):
        return source.get_weights(weights) if isinstance(weights, ProcessState) else source.model.weights_from(weights)
    return source.weights_from(weights)


class EvaluationState(NamedTuple):
    """What goes from one call of an evaluation to the next."""

    weights: ModelWeights
    sums: MetricSums  # of all calls so far, on the host in float64, so that many calls lose nothing


class FederatedEvaluation:
    """Evaluation that adds up over calls, each with other clients.

    Args:
        model: The model.
        batch_size: Rows per batch of examples; None takes 64, or the model's own if it carries RNN state. It changes no result.
        executor: As for `LearningProcess`.

    Raises:
        ValueError: `executor` is not known.

    Example:
        >>> import jax.numpy as jnp, fedloom as fl
        >>> model = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, p: (y - p) ** 2)
        >>> evaluation = FederatedEvaluation(model)
        >>> state = evaluation.initialize(1.0)
        >>> state, metrics = evaluation.next(state, {"ada": {"x": jnp.ones(1), "y": jnp.ones(1)}})
        >>> state, metrics = evaluation.next(state, {"bob": {"x": jnp.ones(3), "y": jnp.zeros(3)}})
        >>> metrics["current_round_metrics"]["loss"], metrics["total_rounds_metrics"]["loss"]
        (1.0, 0.75)
    """

    def __init__(self, model: Model, *, batch_size: int | None = None, executor: Literal["local", "debug"] | MakeExecutor = "local"):
        self._evaluator, self._batch_size = Evaluator(model, executor_class(executor)), batch_size
        self.model = model

    def initialize(self, weights: Any) -> EvaluationState:
        """The state before the first call; `weights` as in `LearningProcess.initialize`, but not None."""
        return EvaluationState(self.model.weights_from(weights), jax.tree.map(_wide, self.model.init_metrics()))

    def next(self, state: EvaluationState, clients: Any) -> tuple[EvaluationState, dict[str, dict[str, Any]]]:
        """Evaluates the state's weights over these clients.

        Args:
            state: From `initialize` or the call before; it stays valid.
            clients: As in `LearningProcess.next`.

        Returns:
            The next state, and `current_round_metrics` of this call, `total_rounds_metrics` of all calls so far. The total is of all
            examples in all calls together, whatever the weights were; a client that comes twice counts twice.

        Raises:
            ClientFailure: A client's data could not be read, or does not fit the model.
        """
        sums = self._evaluator.total({"model": state.weights}, clients, self._batch_size)["model"]
        total = jax.tree.map(lambda so_far, new: so_far + _wide(new), state.sums, sums)
        finish = self.model.finish_metrics
        return state._replace(sums=total), {"current_round_metrics": finish(sums), "total_rounds_metrics": finish(total)}

    def set_weights(self, state: EvaluationState, weights: Any) -> EvaluationState:
        """The state with other weights; what was counted so far stays."""
        return state._replace(weights=self.model.weights_from(weights))


def _wide(leaf: Any) -> np.ndarray:
    return np.asarray(leaf, np.float64 if np.issubdtype(leaf.dtype, np.floating) else np.int64)
