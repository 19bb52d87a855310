"""LearningProcess: an algorithm, an aggregator, batching and an executor, joined into rounds."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import jax

from fedloom.aggregators import weighted_mean
from fedloom.core import (
    Aggregator,
    AggregatorState,
    Algorithm,
    ModelWeights,
    ServerState,
    close,
    evaluation,
    root_key,
    round_key,
)
from fedloom.data import Batching
from fedloom.engine import DebugExecutor, Executor, LocalExecutor, MakeExecutor, pool, prepare

_EXECUTORS: dict[str, MakeExecutor] = {"local": LocalExecutor, "debug": DebugExecutor}
_EVALUATION_BATCH = 64


class ProcessState(NamedTuple):
    """Everything that decides the rounds to come, with the seed of the process."""

    round_number: int  # of the next round, from 0
    server: ServerState
    aggregator: AggregatorState


class LearningProcess:
    """Federated training, a round at a time.

    Args:
        algorithm: E.g. `fl.algorithms.fedavg(model, optax.sgd(0.1))`.
        batching: How clients' examples become batches; not needed by rounds that are given batches.
        aggregator: How contributions become one; None takes the weighted mean.
        executor: "local" (compiled), "debug" (plain Python, errors name client and step), or a function that makes an `Executor`.
        seed: Decides fresh weights, shuffling, dropout and everything else that is random.

    Raises:
        ValueError: `executor` is not known, or shuffling would break up a carried RNN state.

    Example:
        >>> import jax.numpy as jnp, optax, fedloom as fl
        >>> model = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, p: (y - p) ** 2 / 2)
        >>> process = LearningProcess(fl.algorithms.fedavg(model, optax.sgd(0.5)), batching=fl.data.Batching(size=2))
        >>> state, metrics = process.next(process.initialize(), {"ada": {"x": jnp.ones(2), "y": jnp.ones(2)}})
        >>> float(process.get_weights(state).trainable), metrics["loss"], metrics["num_examples"]
        (0.5, 0.5, 2.0)
    """

    def __init__(
        self,
        algorithm: Algorithm,
        *,
        batching: Batching | None = None,
        aggregator: Aggregator | None = None,
        executor: Literal["local", "debug"] | MakeExecutor = "local",
        seed: int = 0,
    ):
        self.algorithm = algorithm
        self.model = algorithm.model
        self.aggregator = aggregator or weighted_mean()
        self.batching = batching
        self.seed = seed
        if not callable(executor) and executor not in _EXECUTORS:
            raise ValueError(f"executor must be one of {sorted(_EXECUTORS)} or a function that makes one, got {executor!r}.")
        if batching is not None and batching.shuffle and self._carried_rows():
            raise ValueError(
                'Batching.shuffle must be False for a model with rnn_state="carry": the state of a text goes from batch to batch in '
                "the order of the text."
            )
        self._make_executor = executor if callable(executor) else _EXECUTORS[executor]
        self._executor: Executor = self._make_executor(algorithm, self.aggregator)
        self._evaluator: Executor = self._make_executor(*evaluation(self.model))
        self._close = jax.jit(functools.partial(close, algorithm, self.aggregator))

    def initialize(self, weights: Any = None) -> ProcessState:
        """The state before the first round.

        Args:
            weights: A Keras model, a list of arrays in its order, or `ModelWeights`; None draws fresh ones from the seed.

        Raises:
            ValueError: The weights do not fit the model.
        """
        start = self.model.init(root_key(self.seed)) if weights is None else self.model.weights_from(weights)
        server = self.algorithm.init(start)
        return ProcessState(0, server, self.aggregator.init(self._shape_of_value(server)))

    def next(self, state: ProcessState, clients: Any) -> tuple[ProcessState, dict[str, Any]]:
        """One round with these clients.

        Args:
            state: From `initialize` or the round before; it stays valid.
            clients: A mapping from client id, or a list, of examples by column (prepared by `batching`) or of iterables of batches:
                (x, y), (x, y, sample_weight) or dicts of these.

        Returns:
            The next state, and the metrics: loss and the model's own over all batches before their steps, `num_examples`, `num_batches`,
            `num_tokens`, `num_clients`, `num_nonfinite_clients` (left out for NaN or infinity), and `accepted`: 0.0 if there was nothing to
            learn from, or the mean was not finite, and the weights stayed as they were.

        Raises:
            ClientFailure: A client's data could not be read, or does not fit the model.
        """
        key = round_key(root_key(self.seed), state.round_number)
        cohort = prepare(clients, self.batching, seed=self.seed, round_number=state.round_number, check=self.model.check_batch)
        message = self.algorithm.broadcast(state.server)
        sums = self._executor.run(message, state.aggregator, cohort, key, state.round_number)
        server, aggregator, accepted = self._close(state.server, state.aggregator, sums, key)
        metrics = {
            **self.model.finish_metrics(jax.device_get(sums.metrics)),
            "num_clients": float(sums.num_clients),
            "num_nonfinite_clients": float(sums.num_nonfinite_clients),
            "accepted": float(accepted),
        }
        return ProcessState(state.round_number + 1, server, aggregator), metrics

    def get_weights(self, state: ProcessState) -> ModelWeights:
        """The model's weights in this state."""
        return self.algorithm.get_weights(state.server)

    def set_weights(self, state: ProcessState, weights: Any) -> ProcessState:
        """The state with other weights, all else as it was; `weights` as in `initialize`."""
        return state._replace(server=self.algorithm.set_weights(state.server, self.model.weights_from(weights)))

    def assign_weights(self, state: ProcessState, keras_model: Any) -> None:
        """Puts the weights of this state into a Keras model of the same architecture.

        Raises:
            ValueError: The architectures differ; then nothing is changed.
        """
        self.model.assign(keras_model, self.get_weights(state))

    def evaluate(self, state: ProcessState, clients: Any, *, batch_size: int | None = None) -> dict[str, Any]:
        """The metrics of this state's weights over all examples of these clients.

        Args:
            state: Holds the weights.
            clients: As in `next`.
            batch_size: Rows per batch of examples; None takes 64, or the model's own if it carries RNN state. It changes no result.

        Returns:
            Loss and the model's metrics, `num_examples`, `num_batches`, `num_tokens`; exact over all clients together.
        """
        if rows := self._carried_rows():
            batching = Batching(size=rows, shuffle=False)
            cohort = prepare(clients, batching, seed=self.seed, round_number=state.round_number, check=self.model.check_batch)
        else:
            size = _EVALUATION_BATCH if batch_size is None else batch_size
            cohort = pool(clients, size, round_number=state.round_number, check=self.model.check_batch)
        sums = self._evaluator.run(self.get_weights(state), (), cohort, root_key(self.seed), state.round_number)
        return self.model.finish_metrics(jax.device_get(sums.metrics))

    def _carried_rows(self) -> int:
        """The batch size that a carried RNN state is tied to; 0 if none is carried."""
        carry = jax.tree.leaves(self.model.init_carry())
        return carry[0].shape[0] if carry else 0

    def _shape_of_value(self, server: ServerState):
        def value():
            message = self.algorithm.broadcast(server)
            work = self.algorithm.client
            return work.finish(message, work.begin(message, root_key(0))).contribution.value

        return jax.eval_shape(value)


def evaluate(process: LearningProcess, state: ProcessState, clients: Any, *, batch_size: int | None = None) -> dict[str, Any]:
    """`process.evaluate(state, clients)`."""
    return process.evaluate(state, clients, batch_size=batch_size)
