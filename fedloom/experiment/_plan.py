"""The plan of a run: what it will do, need and cost, found by a trial of a few clients instead of by running it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fedloom.data import FederatedDataset
from fedloom.privacy import Ledger

from ._cohorts import evenly_spaced
from ._process import LearningProcess, ProcessState

_SAMPLE = 40  # clients whose data are read for the mean number of batches
_TRIAL_SECONDS = 2.0  # that a timed round should take at most


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run comes to; times and memory are estimates for this machine, as it is now."""

    clients: int  # to draw from
    cohort_size: int
    rounds: int
    held_out_clients: int
    evaluations: int
    parameters: int
    model_bytes: int
    bytes_down: int  # per round, to all clients
    bytes_up: int
    batches_per_client: float  # in a round
    batch_seconds: float
    round_seconds: float
    evaluation_seconds: float
    compile_seconds: float
    total_seconds: float
    memory_bytes: int  # at the peak of the trial; a run's does not grow with the cohort
    epsilon: float | None  # after all rounds; None without privacy
    delta: float | None


def plan(
    process: LearningProcess,
    dataset: FederatedDataset,
    *,
    cohort_size: int,
    rounds: int,
    initial: Any = None,
    evaluate: FederatedDataset | None = None,
    evaluate_every: int = 5,
) -> Plan:
    """Checks that everything fits together and times it on a few clients; nothing is written.

    Args:
        process: As in `train`.
        dataset: As in `train`.
        cohort_size: As in `train`.
        rounds: As in `train`.
        initial: As in `train`.
        evaluate: As in `train`.
        evaluate_every: As in `train`.

    Raises:
        ValueError: Something does not fit.
        ClientFailure: A client's data cannot be read, or do not fit the model.
    """
    # Without the budget, which a trial must not spend, and which insists on the size of cohorts.
    trial = LearningProcess(
        process.algorithm, batching=process.batching, aggregator=process.aggregator, executor=process.make_executor, seed=process.seed
    )
    state = trial.initialize(initial)
    trial.check_cohort_size(state, cohort_size)
    clients = _some(dataset, _SAMPLE)
    batches = {client: _num_batches(process, dataset, client) for client in clients}
    if not any(batches.values()):
        raise ValueError(
            f"None of {len(clients)} clients looked at has a batch to train on. Lower batch_size, or take remainder='pad', not 'drop'."
        )
    mean = float(np.mean(list(batches.values())))
    compile_seconds, round_seconds, batch_seconds = _time_rounds(trial, state, dataset, batches, mean, cohort_size)
    evaluation_seconds, evaluations = 0.0, 0
    if evaluate is not None:
        evaluations = 1 + rounds // evaluate_every + bool(rounds % evaluate_every)
        more, evaluation_seconds = _time_evaluation(trial, state, evaluate)
        compile_seconds += more
    weights = jax.tree.leaves(process.get_weights(state))
    shapes = trial.round_shapes(state)
    budget = process.privacy
    epsilon = None
    if budget is not None:
        epsilon = Ledger().spend(budget.sampling, process.noise_multiplier(state), rounds).epsilon(budget.delta, budget.accountant)
    return Plan(
        clients=len(dataset),
        cohort_size=cohort_size,
        rounds=rounds,
        held_out_clients=len(evaluate) if evaluate is not None else 0,
        evaluations=evaluations,
        parameters=sum(w.size for w in weights),
        model_bytes=sum(w.nbytes for w in weights),
        bytes_down=shapes.bytes_down * cohort_size,
        bytes_up=shapes.bytes_up * cohort_size,
        batches_per_client=mean,
        batch_seconds=batch_seconds,
        round_seconds=round_seconds,
        evaluation_seconds=evaluation_seconds,
        compile_seconds=compile_seconds,
        total_seconds=compile_seconds + rounds * round_seconds + evaluations * evaluation_seconds,
        memory_bytes=peak_memory(),
        epsilon=epsilon,
        delta=budget.delta if budget else None,
    )


def _some(dataset: FederatedDataset, count: int) -> list[str]:
    """Clients, evenly spaced."""
    return [dataset.client_ids[place] for place in evenly_spaced(len(dataset), count)]


def _num_batches(process: LearningProcess, dataset: FederatedDataset, client: str) -> int:
    if process.batching is None:
        raise ValueError("A plan needs a process with `batching`, to know the number of batches of a client.")
    return process.batching.plan(*dataset.rows(client), client=client).num_batches


def _time_rounds(
    process: LearningProcess, state: ProcessState, dataset: FederatedDataset, batches: dict[str, int], mean: float, cohort_size: int
) -> tuple[float, float, float]:
    """Seconds to compile, of a round, and of a batch."""
    order = sorted((client for client in batches if batches[client]), key=lambda client: abs(batches[client] - mean))

    def timed(count: int) -> float:
        cohort = dataset.subset(order[i % len(order)] for i in range(min(count, len(order))))
        return _seconds(lambda: process.run_round(state, cohort))

    first = timed(1)
    empty = min(_seconds(lambda: process.run_round(state, dataset.subset([]))) for _ in range(2))
    one = timed(1)
    count = int(max(1, min(cohort_size, len(order), _TRIAL_SECONDS / max(one - empty, 1e-4))))
    timed(count)  # another number of clients may go in other blocks
    several = min(timed(count) for _ in range(2))
    done = sum(batches[client] for client in order[:count])
    batch = max(several - empty, 1e-9) / done
    return max(0.0, first - one), empty + cohort_size * mean * batch, batch


def _time_evaluation(process: LearningProcess, state: ProcessState, held_out: FederatedDataset) -> tuple[float, float]:
    """Seconds to compile, and of an evaluation of all of these clients."""
    some = held_out.subset(_some(held_out, 8))
    first = _seconds(lambda: process.evaluate(state, some))
    again = _seconds(lambda: process.evaluate(state, some))
    share = some.size_array().sum() / max(1, held_out.size_array().sum())
    return max(0.0, first - again), again / max(share, 1e-9)


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_memory() -> int:
    """The most that this process has held so far, in bytes, with what the device holds if it has memory of its own."""
    import resource  # not on Windows

    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    stats = [device.memory_stats() or {} for device in jax.local_devices() if device.platform != "cpu"]
    return own + sum(one.get("peak_bytes_in_use", 0) for one in stats)
