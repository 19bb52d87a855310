"""LearningProcess: an algorithm, an aggregator, batching and an executor, joined into rounds."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedloom.aggregators import weighted_mean
from fedloom.core import (
    Aggregator,
    AggregatorState,
    Algorithm,
    Batch,
    Closed,
    Kept,
    Key,
    LeftOut,
    ModelWeights,
    RoundSums,
    ServerState,
    close,
    first_kept,
    hyperparameters,
    root_key,
    round_key,
    with_hyperparameters,
)
from fedloom.data import Batching
from fedloom.engine import Attendance, Client, Executor, MakeExecutor, executor_class, prepare
from fedloom.privacy import Budget, Ledger

from ._client_states import ClientStates
from ._evaluator import Evaluator, carried_rows
from ._large_arrays import give_back_large_arrays
from ._memory import check_stack
from ._privacy_rules import check_cohort, check_privacy
from ._round_metrics import Clocks, client_rows, clients_left_out, private_metrics, round_metrics, seconds_waited
from ._saved_state import SavedState, kind_of, write_state
from ._shapes import RoundShapes, round_shapes, size_in_bytes


class ProcessState(NamedTuple):
    """Everything that decides the rounds to come, with the seed of the process."""

    round_number: int  # of the next round, from 0
    server: ServerState
    aggregator: AggregatorState
    clients: ClientStates = ClientStates()  # what clients keep between rounds, by id
    ledger: Ledger = Ledger()  # the privacy spent so far


class RoundOutcome(NamedTuple):
    """A round, and what became of its clients."""

    state: ProcessState
    metrics: dict[str, Any]  # see `LearningProcess.next`
    failures: list[dict[str, str]]  # of each client that was left out, `client`, `stage` and `reason`; not to be released under privacy
    num_reports: int  # clients that were not
    clocks: Clocks


class LearningProcess:
    """Federated training, a round at a time.

    Args:
        algorithm: E.g. `fl.algorithms.fedavg(model, optax.sgd(0.1))`.
        batching: How clients' examples become batches; not needed by rounds that are given batches.
        aggregator: How contributions become one; None takes the weighted mean.
        executor: "local" (compiled), "debug" (plain Python, errors name client and step), or a function that makes an `Executor`.
        seed: Decides fresh weights, shuffling, dropout and everything else that is random.
        client_metrics: Whether `next` also reports every client by itself, under `metrics["clients"]`.
        client_states: Where clients' states lie between rounds, for algorithms that have any: "memory", or a new folder.
        privacy: The most that the run may spend. Rounds beyond it are refused, and so are settings that void the guarantee; metrics of the
            clients' training and the aggregator's counts are then not reported, since they are sums without noise.

    Raises:
        ValueError: `executor` is not known, shuffling would break up a carried RNN state, or `privacy` does not go with the rest.

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
        client_metrics: bool = False,
        client_states: Literal["memory"] | str | Path = "memory",
        privacy: Budget | None = None,
    ):
        give_back_large_arrays()
        self.algorithm = algorithm
        self.model = algorithm.model
        self.aggregator = aggregator or weighted_mean()
        self.batching = batching
        self.seed = seed
        self.make_executor = executor_class(executor)
        if batching is not None and batching.shuffle and carried_rows(self.model):
            raise ValueError(
                'Batching.shuffle must be False for a model with rnn_state="carry": the state of a text goes from batch to batch in '
                "the order of the text."
            )
        if privacy is not None:
            check_privacy(self.algorithm, self.aggregator, privacy, client_metrics=client_metrics)
        self.privacy = privacy
        self._client_metrics = client_metrics
        self._client_folder = None if client_states == "memory" else Path(client_states)
        self._executor: Executor | None = None  # made in the first round, when the shapes are known
        self._round_shapes: RoundShapes | None = None  # known as soon as there is a state
        self._fitting: set[Any] = set()  # the shapes of batches that the model has been found to take
        self.evaluator = Evaluator(self.model, self.make_executor)
        if prelude := algorithm.prelude:
            first = algorithm._replace(client=prelude.client, init_client=lambda weights: ())
            self._prelude = self.make_executor(first, weighted_mean())
            self._close_prelude = jax.jit(lambda message, sums, key: prelude.update(message, _mean(sums, key)))
        self._close = jax.jit(functools.partial(close, algorithm, self.aggregator))

    def initialize(self, weights: Any = None) -> ProcessState:
        """The state before the first round.

        Args:
            weights: A Keras model, a list of arrays in its order, or `ModelWeights`; None draws fresh ones from the seed.

        Raises:
            ValueError: The weights do not fit the model, or the folder for clients' states is not empty.
        """
        start = self.model.init(root_key(self.seed)) if weights is None else self.model.weights_from(weights)
        server = self.algorithm.init(start)
        folder = self._client_folder
        if folder is not None and folder.exists() and any(folder.iterdir()):
            raise ValueError(
                f"client_states must be a new or empty folder, got {folder}, which holds something. Go on from a saved state with "
                "`process.load(...)`, or name another folder."
            )
        return ProcessState(0, server, self.aggregator.init(self._shapes(server).value), ClientStates(folder=folder))

    def next(self, state: ProcessState, clients: Any) -> tuple[ProcessState, dict[str, Any]]:
        """One round with these clients.

        Args:
            state: From `initialize` or the round before; it stays valid.
            clients: A mapping from client id, or a list, of examples by column (prepared by `batching`) or of iterables of batches:
                (x, y), (x, y, sample_weight) or dicts of these. An algorithm with client states needs a mapping.

        Returns:
            The next state, and the metrics: loss and the model's own over all batches before their steps, `num_examples`, `num_batches`,
            `num_tokens`, `num_clients`, `num_nonfinite_clients` (left out for NaN or infinity), `bytes_up` and `bytes_down` (of all
            clients together), and `accepted`: 0.0 if there was nothing to learn from, or the mean was not finite, and the weights stayed
            as they were. Further `server`, `aggregator` (what these report, as dicts) and `clients` (a dict per client), if there are any.
            Under privacy only `epsilon` spent, `accepted`, `server`, and counts of clients unless they would tell who came.

        Raises:
            ClientFailure: A client's data could not be read, or does not fit the model.
            ValueError: A client weight is negative, clients have no ids although they keep states, or updates that are needed all at once
                do not fit in memory.
            PrivacyBudgetExceeded: The round would spend more than `privacy` allows; nothing was done.
        """
        return self.run_round(state, clients)[:2]

    def run_round(
        self,
        state: ProcessState,
        clients: Any,
        *,
        leave_out_failing: bool = False,
        at_most: int | None = None,
        timeout: float | None = None,
    ) -> RoundOutcome:
        """`next`, with all that is known of the round, and clients that fail left out if wanted.

        Args:
            state: As in `next`.
            clients: As in `next`.
            leave_out_failing: Whether a client whose data cannot be used is left out; otherwise the first one raises `ClientFailure`. The
                metrics then have `num_failed_clients`, but not under privacy.
            at_most: With `leave_out_failing`, how many of the clients take part: the first who can. None takes all.
            timeout: With `leave_out_failing`, seconds after which a client whose data are being read counts as failed; None waits for ever.

        Raises:
            ClientFailure: A client failed and `leave_out_failing` is False; or the model itself fails, whoever's batch it is given.
            ValueError: As in `next`.
            PrivacyBudgetExceeded: As in `next`.
        """
        began = time.perf_counter()
        ledger = self._charge(state)
        key = _round_key(self.seed, state.round_number)
        cohort, shapes = self._cohort(state, clients), self._shapes(state.server)
        self.check_cohort_size(state, len(cohort))
        if self.privacy:
            check_cohort(self.privacy.sampling, len(cohort))
        attendance = None
        if leave_out_failing:
            attendance = self._attendance(state, cohort, at_most=at_most, timeout=timeout)
        message = self.algorithm.broadcast(state.server, jnp.int32(state.round_number))
        if self.algorithm.prelude:
            asked = attendance.clients() if attendance else cohort
            sums, _ = self._prelude.run(message, (), [client._replace(kept=Kept) for client in asked], key, state.round_number)
            message = self._close_prelude(message, sums, key)
        executor, blank = self._round_executor(state), self._first_kept(state)
        asked = attendance.clients() if attendance else cohort
        sums, reports = jax.block_until_ready(executor.run(message, state.aggregator, asked, key, state.round_number, blank))
        computed = time.perf_counter()
        closed = self._close(state.server, state.aggregator, message, sums, key)
        told, closed = _on_host(sums, closed)
        if told.num_negative_weights:
            raise ValueError("A client's weight was negative; it must be >= 0. Look at `client_weight`, and at negative sample weights.")
        present = attendance.present if attendance else range(len(cohort))
        names, kept = [cohort[place].name for place in present], state.clients
        if shapes.keeps and closed.accepted:
            kept = kept.updated(
                {name: jax.device_get(report.kept) for name, report in zip(names, reports, strict=True)}, state.round_number + 1
            )
        after = ProcessState(state.round_number + 1, closed.server, closed.aggregator, kept, ledger)
        told, left_out = clients_left_out(told, cohort, attendance, state.round_number)
        if self.privacy:
            metrics = private_metrics(told, closed, shapes, self.privacy.sampling)
            metrics["epsilon"] = ledger.epsilon(self.privacy.delta, self.privacy.accountant)
        else:
            metrics = round_metrics(self.model, told, closed, shapes)
            if attendance:
                metrics["num_failed_clients"] = float(len(attendance.failures))
            if self._client_metrics:
                metrics["clients"] = client_rows(self.model, state.round_number, names, reports, shapes, left_out)
        data = seconds_waited(executor)
        clocks = Clocks(data, max(0.0, computed - began - data), time.perf_counter() - computed)
        return RoundOutcome(after, metrics, left_out, int(told.num_clients - told.num_nonfinite_clients), clocks)

    def check_data(self, state: ProcessState, clients: Any, *, timeout: float | None = None) -> None:
        """Raises `ClientFailure` if none of these clients can be trained on, with what is wrong with the first; nothing is computed.

        Args:
            state: As in `next`.
            clients: As in `next`; read until one fits.
            timeout: As in `run_round`.
        """
        attendance = self._attendance(state, self._cohort(state, clients), timeout=timeout)
        for client in attendance.clients():
            with contextlib.suppress(LeftOut):
                next(iter(client.batches()), None)
                return
        if attendance.failures:
            raise attendance.failures[0]

    def _attendance(
        self, state: ProcessState, cohort: list[Client], *, at_most: int | None = None, timeout: float | None = None
    ) -> Attendance:
        fits = functools.partial(self._check_fit, state)
        return Attendance(cohort, at_most=at_most, timeout=timeout, fits=fits, known=self._fitting, round_number=state.round_number)

    def _check_fit(self, state: ProcessState, shapes: Batch) -> None:
        """Raises what the model raises on batches of these shapes; nothing is computed."""
        jax.eval_shape(lambda batch: self.model.evaluate(self.get_weights(state), self.model.init_carry(), batch)[0], shapes)

    def get_hparams(self, state: ProcessState) -> dict[str, float]:
        """The numbers that `set_hparams` can change: rates of optimizers that keep them, strengths, clipping bounds.

        Example:
            >>> import jax.numpy as jnp, fedloom as fl
            >>> model = fl.models.from_functions(lambda key: jnp.zeros(()), lambda w, x: w * x, lambda y, p: (y - p) ** 2 / 2)
            >>> process = LearningProcess(fl.algorithms.fedavg(model, fl.optimizers.sgd(0.5)))
            >>> state = process.set_hparams(process.initialize(), {"client_optimizer.learning_rate": 0.25})
            >>> process.get_hparams(state)["client_optimizer.learning_rate"]
            0.25
        """
        return {name: float(value) for name, value in self._hyperparameters(state).items()}

    def set_hparams(self, state: ProcessState, values: dict[str, float]) -> ProcessState:
        """The state with other hyperparameters, from the next round on; nothing is compiled anew.

        Raises:
            ValueError: A name is not among `get_hparams(state)`.
        """
        if unknown := sorted(values.keys() - self._hyperparameters(state).keys()):
            raise ValueError(
                f"There is no hyperparameter {', '.join(unknown)} here; these can be set: "
                f"{', '.join(sorted(self._hyperparameters(state))) or 'none'}. A rate can be set if its optimizer keeps it in its state, "
                "as those of fl.optimizers, Keras and optax.inject_hyperparams do."
            )
        own = {name: value for name, value in values.items() if name in hyperparameters(state.server)}
        aggregator = {name: value for name, value in values.items() if name not in own}
        return state._replace(
            server=with_hyperparameters(state.server, own),
            aggregator=with_hyperparameters({"aggregator": state.aggregator}, aggregator)["aggregator"],
        )

    def save(self, state: ProcessState, path: str | Path, *, notes: Mapping[str, Any] | None = None) -> None:
        """Writes a state to a file, with what clients keep and the privacy spent; whole or not at all, without pickle.

        Args:
            state: To write.
            path: Of the file.
            notes: What else to keep in it, as JSON; `load` does not look at them.
        """
        about = {**self._signature(state), "round_number": state.round_number, "ledger": state.ledger.to_json(), "notes": dict(notes or {})}
        write_state(Path(path), about, (state.server, state.aggregator), iter(state.clients.items()))

    def load(self, path: str | Path) -> ProcessState:
        """The state in a file that `save` wrote: going on from it gives the same bits as never having stopped.

        Raises:
            ValueError: It is no such file, is damaged, or comes from another model, algorithm, aggregator or seed.
            FileNotFoundError: There is no such file.
        """
        saved = SavedState(Path(path))
        server = self.algorithm.init(self.model.init(root_key(self.seed)))
        blank = ProcessState(0, server, self.aggregator.init(self._shapes(server).value), ClientStates(folder=self._client_folder))
        signature = self._signature(blank)
        for name, expected in signature.items():
            saved.check(name, expected)
        server, aggregator = saved.tree((blank.server, blank.aggregator))
        round_number = saved.about["round_number"]
        clients = blank.clients.updated(saved.clients(signature["client_states"]), round_number)
        return ProcessState(round_number, server, aggregator, clients, Ledger.from_json(saved.about["ledger"]))

    def _signature(self, state: ProcessState) -> dict[str, Any]:
        kept = [kind_of(leaf) for leaf in jax.tree.leaves(jax.eval_shape(lambda: self._first_kept(state)))]
        return {"algorithm": self.algorithm.name, "seed": self.seed, "client_states": kept}

    def get_weights(self, state: ProcessState) -> ModelWeights:
        """The model's weights in this state."""
        return self.algorithm.get_weights(state.server)

    def personal_weights(self, state: ProcessState, client: str) -> ModelWeights:
        """The weights that a client uses itself, under an algorithm that fits some to every client, such as Ditto.

        They are those of `get_weights` for a client that has not taken part yet, and under an algorithm without personal weights.
        """
        if self.algorithm.personal is None or client not in state.clients:
            return self.get_weights(state)
        return jax.tree.map(jnp.asarray, self.algorithm.personal(state.server, self.kept_by(state, client).algorithm))

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
        sums = self.evaluator.total({"model": self.get_weights(state)}, clients, batch_size, state.round_number)
        return self.model.finish_metrics(sums["model"])

    def evaluate_clients(self, state: ProcessState, clients: Any, *, batch_size: int | None = None) -> list[dict[str, Any]]:
        """The metrics of this state's weights at each client by itself, as a dict per client with its id under `client`.

        Args:
            state: Holds the weights.
            clients: As in `next`.
            batch_size: As in `evaluate`, but None takes that of the training, which fits single clients.
        """
        if batch_size is None and self.batching is not None:
            batch_size = self.batching.size
        rows = self.evaluator.each(self.get_weights(state), clients, batch_size, state.round_number)
        return [{"client": client, **self.model.finish_metrics(sums)} for client, sums in rows]

    def check_cohort_size(self, state: ProcessState, size: int) -> None:
        """Raises ValueError if a round with so many clients needs more memory than there is."""
        if self.aggregator.reduce == "stack":
            check_stack(self.aggregator.name, size, size_in_bytes(self._shapes(state.server).value))

    def noise_multiplier(self, state: ProcessState) -> float:
        """That of the next round, of a process with a privacy budget."""
        assert self.aggregator.mechanism is not None  # `check_privacy` saw to it
        return float(self.aggregator.mechanism.noise_multiplier(state.aggregator, None))

    def _charge(self, state: ProcessState) -> Ledger:
        """The ledger after the round to come."""
        if self.privacy is None:
            return state.ledger
        noise_multiplier = self.noise_multiplier(state)
        self.privacy.check(state.ledger, noise_multiplier)
        return state.ledger.spend(self.privacy.sampling, noise_multiplier)

    def _cohort(self, state: ProcessState, clients: Any) -> list[Client]:
        rereads = len(self.algorithm.client.passes) > 1 or self.algorithm.prelude is not None
        check = self.model.check_batch
        cohort = prepare(clients, self.batching, seed=self.seed, round_number=state.round_number, check=check, rereads=rereads)
        if not self._shapes(state.server).keeps:
            return cohort
        if not hasattr(clients, "keys"):
            raise ValueError(
                "Clients keep a state from round to round under this algorithm or aggregator, so `clients` must be a mapping from client "
                f"id to data, got {type(clients).__name__}. Give a dict or a FederatedDataset."
            )
        first = self._first_kept(state)
        return [client._replace(kept=functools.partial(_kept_by, client.name, state.clients, first)) for client in cohort]

    def kept_by(self, state: ProcessState, client: str) -> Kept:
        """What this client brings into its next round: the state of the algorithm and the memory of the aggregator.

        Raises:
            ValueError: What it kept comes from another model, algorithm or aggregator.
        """
        return _kept_by(client, state.clients, self._first_kept(state))

    def round_shapes(self, state: ProcessState) -> RoundShapes:
        """What follows from the shapes of a round: bytes that a client sends and is sent, for one."""
        return self._shapes(state.server)

    def _first_kept(self, state: ProcessState) -> Kept:
        return first_kept(self.algorithm, self.aggregator, self.get_weights(state), self._shapes(state.server).value)

    def _round_executor(self, state: ProcessState) -> Executor:
        if self._executor is None:
            reports = self._shapes(state.server).needs_report or self._client_metrics
            self._executor = self.make_executor(self.algorithm, self.aggregator, reports=reports)
        return self._executor

    def _shapes(self, server: ServerState) -> RoundShapes:
        """The same in every state, so found once."""
        if self._round_shapes is None:
            self._round_shapes = round_shapes(self.algorithm, self.aggregator, server)
        return self._round_shapes

    def _hyperparameters(self, state: ProcessState) -> dict[str, Any]:
        return {**hyperparameters(state.server), **hyperparameters({"aggregator": state.aggregator})}


def _kept_by(client: str, clients: ClientStates, first: Kept) -> Kept:
    """What a client kept, or `first` if it has not taken part yet."""
    if client not in clients:
        return first
    leaves, expected = clients[client], jax.tree.leaves(first)
    got, want = ([kind_of(leaf) for leaf in tree] for tree in (leaves, expected))
    if got != want:
        raise ValueError(
            f"What client {client!r} kept comes from another model, algorithm or aggregator: its arrays are {got}, here they must be "
            f"{want}. Go on from a state of this process."
        )
    return jax.tree.unflatten(jax.tree.structure(first), leaves)


@functools.partial(jax.jit, static_argnums=0)
def _round_key(seed: int, round_number: int) -> Key:
    return round_key(root_key(seed), round_number)


def _on_host(sums: RoundSums, closed: Closed) -> tuple[RoundSums, Closed]:
    """The same with everything that is small on the host, fetched at once: the contribution and the states stay where they are."""
    small = sums._replace(contribution=()), closed._replace(server=(), aggregator=())
    told, after = jax.device_get(small)
    return told, after._replace(server=closed.server, aggregator=closed.aggregator)


def _mean(sums, key):
    return weighted_mean().decode((), sums.contribution, key)[0]


def evaluate(process: LearningProcess, state: ProcessState, clients: Any, *, batch_size: int | None = None) -> dict[str, Any]:
    """`process.evaluate(state, clients)`."""
    return process.evaluate(state, clients, batch_size=batch_size)
