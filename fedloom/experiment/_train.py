"""train: rounds with fresh cohorts, evaluation on the way, and a folder that keeps what came out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from fedloom.core import ModelWeights
from fedloom.data import CohortSampler, DeployedCohorts, FederatedDataset, cyclic, poisson, uniform, uniform_tff, weighted
from fedloom.report import Row, RunFolder, TrainingProgress, plot_curve

from ._environment import environment
from ._privacy_rules import check_sampling
from ._process import LearningProcess, ProcessState


@dataclass
class TrainResult:
    """What a training run came to."""

    process: LearningProcess
    state: ProcessState  # after the last round
    history: list[Row] = field(repr=False)  # a dict per round, as in metrics.csv; round 0 is the start
    clients: list[Row] = field(repr=False)  # a dict per client and round, as in clients.csv, if the process was asked for `client_metrics`
    run_dir: Path | None

    @property
    def weights(self) -> ModelWeights:
        """The model's weights after the last round."""
        return self.process.get_weights(self.state)

    def assign_to(self, keras_model: Any) -> None:
        """Puts the trained weights into a Keras model of the same architecture."""
        self.process.assign_weights(self.state, keras_model)


def train(
    process: LearningProcess,
    dataset: FederatedDataset,
    *,
    cohort_size: int,
    rounds: int,
    initial: Any = None,
    sampling: Literal["uniform", "poisson", "weighted", "cyclic", "tff"] | CohortSampler = "uniform",
    evaluate: Any = None,
    evaluate_every: int = 5,
    run_dir: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    progress: bool = True,
    on_round_end: Callable[[ProcessState, Row], None] | None = None,
) -> TrainResult:
    """Trains for some rounds, each with a cohort of its own.

    Args:
        process: Holds the algorithm, and the batching that prepares clients' examples.
        dataset: The clients to draw from, with the columns that the batching needs.
        cohort_size: Clients per round, in [1, number of clients].
        rounds: How many, at least 1.
        initial: A Keras model, arrays in its order, or `ModelWeights` to start from; None starts from fresh weights.
        sampling: "uniform" without replacement, "poisson" for a coin per client (cohorts of `cohort_size` on average), "weighted" by the
            clients' numbers of examples, "cyclic" for everybody in turn in an order shuffled anew on each pass, "tff" for the cohorts that
            TFF 0.87 draws with this seed, or a function from the round's number to client ids. The seed is the process'. Under privacy it
            must be what the budget's sampling says; for a function that is not from `fl.data` this is up to you. One that simulates
            devices (`fl.data.available`) adds `num_asked`, `num_unavailable`, `num_reported`, `num_dropped`, `num_late` and
            `simulated_seconds` to the rounds' rows, though not under privacy, for these are counts of clients.
        evaluate: Held-out clients, evaluated before round 1, every `evaluate_every` rounds and at the end.
        evaluate_every: Rounds from one evaluation to the next, at least 1.
        run_dir: A new folder for `config.json` (settings, and the versions and kernels that the bits depend on), `metrics.csv`,
            `clients.csv` (if the process reports clients), `curve.png` and the model (from Keras: `model.keras`); None writes nothing.
        config: Further settings to keep in `config.json`.
        progress: Whether to show how it goes, on standard error.
        on_round_end: Called with the state and the round's row after every round.

    Returns:
        The last state with its history; `result.assign_to(keras_model)` hands the weights back.

    Raises:
        ValueError: An argument is out of range, or `run_dir` is not empty.
        ClientFailure: A client's data could not be read, or does not fit the model.
    """
    for name, value in (("rounds", rounds), ("evaluate_every", evaluate_every)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    sample = _sampler(sampling, dataset, cohort_size, process.seed)
    if process.privacy:
        check_sampling(process.privacy.sampling, sample, rounds)
    state = process.initialize(initial)
    process.check_cohort_size(state, cohort_size)
    folder = RunFolder(run_dir) if run_dir is not None else None
    if folder:
        drawn = sampling if isinstance(sampling, str) else getattr(sampling, "scheme", "a function")
        settings = {"rounds": rounds, "cohort_size": cohort_size, "sampling": drawn, "seed": process.seed, "batching": process.batching}
        parts = {"algorithm": process.algorithm.name, "aggregator": process.aggregator.name, "privacy": process.privacy}
        folder.write_config({**settings, **parts, **(config or {}), "environment": environment()})
    history: list[Row] = []
    clients: list[Row] = []

    def record(row: Row, held_out: bool) -> None:
        if held_out and evaluate is not None:
            row |= {f"eval_{name}": value for name, value in process.evaluate(state, evaluate).items()}
        history.append(row)
        if folder:
            folder.write_metrics(history)
            if held_out:
                process.model.save(process.get_weights(state), folder.path)
                plot_curve(history, folder.path / "curve.png", title=f"{cohort_size} of {len(dataset)} clients per round")
        if shown:
            shown.row(row)

    with TrainingProgress(rounds) if progress else contextlib.nullcontext() as shown:
        record({"round": 0}, held_out=evaluate is not None)
        for r in range(1, rounds + 1):
            start = time.perf_counter()
            deployed = sample.round(r - 1) if isinstance(sample, DeployedCohorts) else None
            state, metrics = process.next(state, dataset.subset(deployed.ids if deployed else sample(r - 1)))
            cohort = [flat(client) for client in metrics.pop("clients", [])]
            clients += cohort
            if folder and cohort:
                folder.add_clients(cohort)
            row = {"round": r, **flat(metrics), "seconds": time.perf_counter() - start}
            if deployed and not process.privacy:
                row |= deployed.metrics()
            record(row, held_out=r % evaluate_every == 0 or r == rounds)
            if shown and (trouble := _trouble(row)):
                shown.warn(trouble)
            if on_round_end:
                on_round_end(state, row)
    return TrainResult(process, state, history, clients, folder.path if folder else None)


def _sampler(sampling: Any, dataset: FederatedDataset, size: int, seed: int) -> CohortSampler:
    if callable(sampling):
        return cast(CohortSampler, sampling)
    known: dict[str, Callable[..., CohortSampler]] = {
        "uniform": uniform,
        "poisson": poisson,
        "weighted": lambda client_ids, size, seed: weighted(client_ids, dataset.size_array(), size, seed=seed),
        "cyclic": cyclic,
        "tff": uniform_tff,
    }
    if sampling not in known:
        raise ValueError(f"sampling must be one of {sorted(known)} or a function from round number to client ids, got {sampling!r}.")
    return known[sampling](dataset.client_ids, size, seed=seed)


def flat(metrics: Mapping[str, Any], prefix: str = "") -> Row:
    """Nested metrics as one row: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    row: Row = {}
    for name, value in metrics.items():
        row |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return row


def _trouble(row: Row) -> str:
    if "num_asked" in row and not row["num_clients"]:
        return (
            f"Round {row['round']} was abandoned: {row['num_reported']:.0f} of the {row['num_asked']:.0f} devices asked reported in time."
        )
    if not row["accepted"]:
        return f"Round {row['round']} changed nothing: no client had data to learn from, or the mean update was not finite."
    if row.get("num_nonfinite_clients"):
        return f"Round {row['round']}: {row['num_nonfinite_clients']:.0f} clients left out, their updates were NaN or infinite."
    return ""
