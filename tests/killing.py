"""Kills runs with SIGKILL, resumes them, and compares what they end with: `python tests/killing.py --kills 200`, and `test_kills.py`.

A run counts what it does: every file that is opened for writing, synced, renamed or removed, every part of a checkpoint, every round,
evaluation, picture and page. It is killed at the n-th of these moments, so any n hits the middle of something; or after a random time.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

ROUNDS = 8
JOBS = ("private", "stateful")
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["fedloom.experiment", "fedloom.models", "optax", "dp_accounting", "matplotlib.figure"])


def train(job: str, run_dir: str) -> None:
    """Does the job, or goes on with it."""
    import jax.numpy as jnp
    import numpy as np

    import fedloom as fl

    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 12, 9)
    clients = {f"client {i}": {"x": rng.normal(size=(n, 3)).astype(np.float32), "y": rng.normal(size=n)} for i, n in enumerate(sizes)}
    data = fl.data.FederatedDataset.from_dict(clients)
    model = fl.models.from_functions(lambda key: jnp.zeros(3), lambda w, x: x @ w, lambda y, p: (y - p) ** 2)
    batching = fl.data.Batching(size=4)
    if job == "private":
        budget = fl.privacy.Budget(epsilon=100.0, delta=1e-3, sampling=fl.privacy.Poisson(4, len(data)))
        aggregator = fl.aggregators.dp_gaussian_fixed(0.8, 4, 0.5)
        process = fl.LearningProcess(
            fl.algorithms.fedavg(model, fl.optimizers.sgd(0.05)), batching=batching, aggregator=aggregator, privacy=budget
        )
        sampling = "poisson"
    else:
        algorithm = fl.algorithms.scaffold(model, 0.05, fl.optimizers.sgd(0.5, momentum=0.5), population=len(data))
        process = fl.LearningProcess(algorithm, batching=batching, client_metrics=True)
        sampling = "uniform"
    fl.train(
        process, data, cohort_size=4, rounds=ROUNDS, sampling=sampling, evaluate=data, evaluate_every=3, run_dir=run_dir, resume=True,
        checkpoints=fl.Checkpoints(every=1), progress=False,
    )  # fmt: skip


def child(job: str, run_dir: str, moment: int | None, seconds: float | None, count_to: str | None) -> None:
    """A run that kills itself at the n-th moment, or after some seconds from the first; with `count_to`, it writes how many there were."""
    os.environ["FEDLOOM_COMPILATION_CACHE"] = "off"
    seen, kill = 0, lambda: os.kill(os.getpid(), signal.SIGKILL)

    def count(*_) -> None:
        nonlocal seen
        if seen == 0 and seconds is not None:
            threading.Timer(seconds, kill).start()
        seen += 1
        if seen == moment:
            kill()

    def counted(owner, name: str) -> None:
        """Before and after, so that half-written files are met too."""
        original = getattr(owner, name)

        def wrapper(*args, **kwargs):
            count()
            result = original(*args, **kwargs)
            count()
            return result

        setattr(owner, name, wrapper)

    from fedloom.experiment import _outputs, _process, _saved_state
    from fedloom.report import RunFolder

    for owner, names in (
        (os, ("replace", "fsync", "mkdir")),
        (Path, ("unlink",)),
        (_saved_state, ("_write",)),
        (zipfile.ZipFile, ("close",)),
        (_process.LearningProcess, ("run_round", "evaluate", "evaluate_clients", "save")),
        (_outputs, ("write_report", "plot_curve")),
        (RunFolder, ("add_clients", "write_metrics", "write_held_out_clients")),
    ):
        for name in names:
            counted(owner, name)
    train(job, run_dir)
    if count_to:
        Path(count_to).write_text(str(seen))


def run(job: str, run_dir: Path, *, moment: int | None = None, seconds: float | None = None, count_to: Path | None = None) -> bool:
    """A run in a process of its own; returns whether it came to its end. Raises RuntimeError if it failed by itself."""
    process = _CONTEXT.Process(target=child, args=(job, str(run_dir), moment, seconds, count_to and str(count_to)))
    process.start()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the run in {run_dir} failed with exit code {process.exitcode}")
    return process.exitcode == 0


def outcome(run_dir: Path) -> dict[str, bytes]:
    """What must be the same: weights and all other arrays, what clients keep, the ledger; metrics; the tables of clients."""
    newest = max((run_dir / "checkpoints").glob("round-*.ckpt"))
    with zipfile.ZipFile(newest) as file:
        found = {name: file.read(name) for name in file.namelist()}
    state = json.loads(found.pop("state.json"))
    history = [
        {name: value for name, value in row.items() if not name.endswith("seconds") and name != "clients_per_second"}
        for row in state["notes"]["run"]["history"]
    ]
    standing = state["notes"]["run"]["standing"]
    found |= {name: json.dumps(state[name]).encode() for name in ("ledger", "clients", "round_number")}
    found |= {"history": json.dumps(history).encode(), "standing": json.dumps(standing).encode()}
    for name in ("metrics.csv", "held_out_clients.csv", "weights.npz", "best/weights.npz"):
        found[name] = (run_dir / name).read_bytes()
    if (run_dir / "clients.csv").exists():
        with (run_dir / "clients.csv").open(newline="") as file:
            rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
        found["clients.csv"] = json.dumps(rows).encode()
    status = json.loads((run_dir / "status.json").read_text())
    found["status"] = status["status"].encode()
    return found


def differences(got: dict[str, bytes], want: dict[str, bytes]) -> list[str]:
    """The names of what differs."""
    return sorted(name for name in got.keys() | want.keys() if got.get(name) != want.get(name))


class Trial:
    """Runs of a job that are killed, against one that is not.

    Args:
        job: One of JOBS.
        folder: For the runs.
        seed: Of the moments.
    """

    def __init__(self, job: str, folder: Path, seed: int):
        self.job, self._folder, self._random = job, folder, random.Random(f"{job}/{seed}")
        folder.mkdir(parents=True, exist_ok=True)
        assert run(job, folder / "whole", count_to=folder / "moments")
        self.moments = int((folder / "moments").read_text())
        self.want = outcome(folder / "whole")
        self.kills = 0

    def kill_and_resume(self, name: str, share: float) -> None:
        """One run, first killed about this share of the way, then perhaps again, then resumed to its end and compared."""
        run_dir = self._folder / name
        first = max(1, round(share * self.moments))
        finished = run(self.job, run_dir, moment=first)
        self.kills += not finished
        while not finished and self._random.random() < 0.5:
            if self._random.random() < 0.5:
                finished = run(self.job, run_dir, moment=self._random.randint(1, self.moments))
            else:
                finished = run(self.job, run_dir, seconds=self._random.uniform(0.0, 1.0))
            self.kills += not finished
        if not finished:
            assert run(self.job, run_dir)
        if wrong := differences(outcome(run_dir), self.want):
            raise AssertionError(f"{run_dir} was killed first at moment {first} of {self.moments}, and ended with other {', '.join(wrong)}")
        shutil.rmtree(run_dir)


def main() -> None:
    """Kills as often as asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fedloom-kills-"))
    trials = [Trial(job, folder / job, options.seed) for job in JOBS]
    print(f"moments of a run: {', '.join(f'{trial.job} {trial.moments}' for trial in trials)}", flush=True)
    random_, done = random.Random(options.seed), 0
    while (kills := sum(trial.kills for trial in trials)) < options.kills:
        trial = trials[done % len(trials)]
        trial.kill_and_resume(f"killed-{done}", random_.random())
        done += 1
        print(f"{done} runs, {sum(trial.kills for trial in trials)} kills, all ended with the bytes of the uninterrupted run", flush=True)
    shutil.rmtree(folder)
    print(f"{kills} kills in {done} runs: every run ended with the same weights, client states, metrics, ledger and tables")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
