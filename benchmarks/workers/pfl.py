# pyright: reportMissingImports=false, reportMissingModuleSource=false
"""pfl-research: its simulated backend with PyTorch, in one process or in several that each take a share of the cohort.

    python -m benchmarks.workers.pfl FOLDER [--processes 2]

Set up as its documentation has it: `FederatedAveraging` on tensors in memory, no evaluation, weights by data points. With several processes
each has one thread and a share of the clients of about the same size, as pfl's own sorted cohorts would give it. Its rank 0 is this
process; the others are what `torchrun` would start.
"""

from __future__ import annotations

from .._turns import Turns

TURNS = Turns()

import argparse  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

PARSER = argparse.ArgumentParser()
PARSER.add_argument("folder")
PARSER.add_argument("--processes", type=int, default=1)
ARGUMENTS = PARSER.parse_args()
OTHERS: list[Any] = []  # of type Popen
BEST_WITH_ONE_THREAD = {"lstm", "logistic"}  # PyTorch is far slower with two threads, on steps as small as those of these cases

if ARGUMENTS.processes > 1 and "RANK" not in os.environ:  # before pfl is imported, which joins the others
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "TORCHELASTIC_RUN_ID": "benchmark"}
    os.environ |= {"WORLD_SIZE": str(ARGUMENTS.processes), "RANK": "0", "LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"}
    for rank in range(1, ARGUMENTS.processes):
        environment = os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, "-m", "benchmarks.workers.pfl", *sys.argv[1:]]
        OTHERS.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

import torch  # noqa: E402
from pfl.aggregate.simulate import SimulatedBackend  # noqa: E402
from pfl.aggregate.weighting import WeightByDatapoints  # noqa: E402
from pfl.algorithm.base import NNAlgorithmParams  # noqa: E402
from pfl.algorithm.federated_averaging import FederatedAveraging  # noqa: E402
from pfl.callback.base import TrainingProcessCallback  # noqa: E402
from pfl.data.dataset import Dataset  # noqa: E402
from pfl.data.federated_dataset import FederatedDataset  # noqa: E402
from pfl.hyperparam.base import NNTrainHyperParams  # noqa: E402
from pfl.metrics import Metrics  # noqa: E402
from pfl.model.pytorch import PyTorchModel  # noqa: E402

from .._workload import Workload  # noqa: E402
from .torch_models import make_model, mean_loss, tensors  # noqa: E402


class Trained(torch.nn.Module):
    """A model as pfl wants it: with `loss` and `metrics`. Adds up the losses on the way."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model
        self.total = torch.zeros(())
        self.count = 0

    def loss(self, x, y):
        """Mean over the labels that count."""
        value, count = mean_loss(self.model(x), y)
        self.total += value.detach() * count
        self.count += count
        return value

    def metrics(self, x, y):
        """None: pfl asks for them once, before the first round."""
        return {}

    def losses(self) -> tuple[float, int]:
        """Their sum and number since the last call."""
        result = float(self.total), self.count
        self.total, self.count = torch.zeros(()), 0
        return result


class Rounds(TrainingProcessCallback):
    """Waits for a turn before each round and answers after it; holds the clients of the round."""

    def __init__(self, workload: Workload, model: Trained):
        self._workload, self._model, self._number = workload, model, 0
        self._clients: list[Dataset] = []
        self._begin = 0.0

    def client(self, index: int) -> Dataset:
        """A client of the round. Processes take clients in turn: in this order, each gets about as much as the others."""
        return self._clients[index]

    def on_train_begin(self, *, model):
        """Waits for the first turn."""
        self._next()
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Answers, and waits for the next turn."""
        seconds = time.perf_counter() - self._begin
        total, count = self._model.losses()
        for other in OTHERS:
            theirs = json.loads(other.stdout.readline())
            total, count = total + theirs["total"], count + theirs["count"]
        TURNS.answer(seconds=seconds, loss=total / max(count, 1), total=total, count=count)
        return not self._next(), Metrics()

    def _next(self) -> bool:
        if not TURNS.wait():
            for other in OTHERS:
                other.stdin.close()
            return False
        clients = sorted(self._workload.round(self._number), key=lambda rows: -len(rows.x))
        each = ARGUMENTS.processes
        turns = [clients[i : i + each] for i in range(0, len(clients), each)]
        self._clients = [Dataset(tensors(*client)) for i, turn in enumerate(turns) for client in turn[:: -1 if i % 2 else 1]]
        self._number += 1
        for other in OTHERS:
            other.stdin.write("round\n")
            other.stdin.flush()
        self._begin = time.perf_counter()
        return True


def main() -> None:
    """Does rounds until there are no more turns."""
    workload = Workload(ARGUMENTS.folder)
    case = workload.case
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(1 if case["model"] in BEST_WITH_ONE_THREAD else max(1, cores // ARGUMENTS.processes))
    trained = Trained(make_model(case["model"], workload.weights()))
    model = PyTorchModel(trained, torch.optim.SGD, torch.optim.SGD(trained.parameters(), lr=1.0))
    rounds = Rounds(workload, trained)
    order = itertools.cycle(range(case["cohort"]))
    data = FederatedDataset(rounds.client, lambda: next(order))
    FederatedAveraging().run(
        NNAlgorithmParams(central_num_iterations=10**6, evaluation_frequency=10**9, train_cohort_size=case["cohort"], val_cohort_size=None),
        SimulatedBackend(training_data=data, val_data=data, postprocessors=[WeightByDatapoints()]),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=case["learning_rate"], local_batch_size=case["batch_size"]),
        None,
        [rounds],
        send_metrics_to_platform=False,
    )
    for other in OTHERS:
        other.wait()


if __name__ == "__main__":
    main()
