"""train: rounds with fresh cohorts, evaluation on the way, and a folder that keeps what came out and can be gone on from."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedloom.core import ModelWeights
from fedloom.data import CohortSampler, FederatedDataset
from fedloom.report import Callback, Row, RunFolder
from fedloom.report import progress as progress_view

from ._checkpoint import Checkpoints
from ._cohorts import Sampling, sampler
from ._failures import Failures
from ._guard import Guard
from ._interruption import Interruption
from ._job import Job, settings_of
from ._outputs import Outputs
from ._privacy_rules import check_sampling
from ._process import LearningProcess, ProcessState
from ._run import Run


@dataclass
class TrainResult:
    """What a training run came to."""

    process: LearningProcess
    state: ProcessState  # after the last round
    history: list[Row] = field(repr=False)  # a dict per round, as in metrics.csv and timing.csv; round 0 is the start
    clients: list[Row] = field(repr=False)  # as in clients.csv, of the rounds of this call
    run_dir: Path | None
    status: Literal["finished", "stopped"] = "finished"  # "stopped": by the guard
    best_round: int | None = None  # with the best held-out metric; None if nothing was evaluated

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
    sampling: Sampling | CohortSampler = "uniform",
    evaluate: Any = None,
    also_evaluate: Mapping[str, Any] | None = None,
    evaluate_every: int = 5,
    best_by: str | None = None,
    guard: Guard | Literal["warn", "stop", "rollback", "off"] = "warn",
    failures: Failures | None = None,
    run_dir: str | Path | None = None,
    resume: bool | Literal["anywhere"] = False,
    checkpoints: Checkpoints | None = None,
    config: Mapping[str, Any] | None = None,
    progress: bool | Literal["auto", "live", "plain", "json", "quiet"] = True,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Trains for some rounds, each with a cohort of its own.

    With a run folder, the run saves itself as it goes: killed at any moment and resumed, it ends with the same bits as if it had never
    stopped. Ctrl-C and SIGTERM let it finish its round, save and stop.

    Args:
        process: Holds the algorithm, and the batching that prepares clients' examples.
        dataset: The clients to draw from, with the columns that the batching needs.
        cohort_size: Clients per round, in [1, number of clients].
        rounds: How many, at least 1.
        initial: A Keras model, arrays in its order, or `ModelWeights` to start from; None starts from fresh weights.
        sampling: "uniform" without replacement, "poisson" for a coin per client (cohorts of `cohort_size` on average), "weighted" by the
            clients' numbers of examples, "cyclic" for everybody in turn in an order shuffled anew on each pass, "tff" for the cohorts that
            TFF 0.87 draws with this seed, or a function from the number of a draw to client ids. The seed is the process'. Under privacy it
            must be what the budget's sampling says; for a function that is not from `fl.data` this is up to you. One that simulates
            devices (`fl.data.available`) adds `num_asked`, `num_unavailable`, `num_reported`, `num_dropped`, `num_late` and
            `simulated_seconds` to the rounds' rows, though not under privacy, for these are counts of clients.
        evaluate: Held-out clients, evaluated before round 1, every `evaluate_every` rounds and at the end; as in `LearningProcess.next`.
        also_evaluate: Further data by name, evaluated at the same rounds; their metrics are called `eval_NAME.loss` and so on.
        evaluate_every: Rounds from one evaluation to the next, at least 1.
        best_by: The held-out metric by which the guard judges and the best model is kept: "accuracy", or "lower:NAME" and "higher:NAME"
            where the name does not say which way is better. None takes the accuracy if there is one, or else the loss.
        guard: What to do when the model becomes worse than it was at the start; see `Guard`.
        failures: What to do about clients that fail; None leaves them out, see `Failures`.
        run_dir: A new folder for what the run leaves: settings, metrics, checkpoints, the newest and the best model (from Keras:
            `model.keras`, `best/model.keras`), and `report.html`. None writes nothing.
        resume: True goes on with the run in `run_dir`, if there is one. Settings, `config`, ids and sizes of the clients, shapes of the
            model and versions must be the same, except that `rounds` may be more, and `guard`, `checkpoints` and the limits of `failures`
            others; what functions contain, such as a rate inside an optimizer, cannot be compared. "anywhere" goes on with other versions
            or hardware too; then the bits differ from an uninterrupted run's.
        checkpoints: How often the run saves itself, and what it keeps; see `Checkpoints`.
        config: Further settings to keep in `config.json`; JSON, dataclasses and paths.
        progress: How to show the way, on standard error: "live" with curves, "plain" lines, "json" lines, "quiet" for warnings alone; True
            or "auto" is live in a terminal or notebook and plain elsewhere; False shows nothing.
        callbacks: Are told of every round: trackers from `fl.trackers`, or your own `fl.Callback`.

    Returns:
        The last state with its history; `result.assign_to(keras_model)` hands the weights back.

    Raises:
        ValueError: An argument is out of range, `run_dir` is not empty, or another process is at work in it.
        ClientFailure: The model fails, or cannot be evaluated on a client; with `Failures(leave_out=False)`, any client that fails.
        RoundFailed: Round after round too few clients could be used.
        CheckpointMismatch: The run in `run_dir` cannot be resumed with this.
        RunInterrupted: By Ctrl-C or SIGTERM; it was saved. Only with a run folder; without one, Ctrl-C is a KeyboardInterrupt at once.
    """
    for name, value in (("rounds", rounds), ("evaluate_every", evaluate_every)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if resume and run_dir is None:
        raise ValueError("resume needs a run_dir, got None: what was not written down cannot be gone on with. Name the run's folder.")
    failures = failures or Failures()
    if failures.min_reports is not None and failures.min_reports > cohort_size:
        raise ValueError(f"failures.min_reports must be at most cohort_size={cohort_size}, got {failures.min_reports}.")
    if process.privacy and failures.over_selection > 1:
        raise ValueError(
            f"failures.over_selection must be 1 under privacy, got {failures.over_selection}: the budget accounts for cohorts drawn by its "
            "sampling, without spare clients."
        )
    sample = sampler(sampling, dataset, cohort_size, failures, process.seed)
    if process.privacy:
        check_sampling(process.privacy.sampling, sample, rounds)
    guard = guard if isinstance(guard, Guard) else Guard(action=guard)
    own = {"cohort_size": cohort_size, "evaluate_every": evaluate_every, "best_by": best_by, "guard": guard, "failures": failures}
    job = Job(
        process=process,
        dataset=dataset,
        rounds=rounds,
        initial=initial,
        sample=sample,
        evaluate=evaluate,
        also_evaluate=dict(also_evaluate or {}),
        checkpoints=checkpoints or Checkpoints(),
        settings=settings_of(process, dataset, sampling=sampling, config=config, **own),
        **own,
    )
    folder = RunFolder(run_dir, resume=bool(resume)) if run_dir is not None else None
    start = None if folder and folder.holds_run else job.initialize()
    shown = [progress_view("auto" if progress is True else progress)] if progress else []
    with contextlib.ExitStack() as stack:
        interruption = None
        if folder:
            stack.enter_context(folder)
            interruption = stack.enter_context(Interruption(lambda text: print(text, file=sys.stderr)))
        outputs = Outputs(job, folder) if folder else None
        run = Run(
            job,
            start,
            outputs,
            [*callbacks, *shown],  # the view last: a tracker may have to ask for something in the terminal
            lambda: interruption.wanted if interruption else None,
            anywhere=resume == "anywhere",
        )
        status = run.go()
    state = run.state
    return TrainResult(process, state.process, state.history, run.clients, folder.path if folder else None, status, state.best_round)
