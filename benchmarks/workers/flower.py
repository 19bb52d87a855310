# pyright: reportMissingImports=false, reportMissingModuleSource=false
"""Flower's simulation: a node per client of the cohort, an actor of one thread per core, PyTorch.

    python -m benchmarks.workers.flower FOLDER

`FedAvg` with records of arrays, no evaluation. A client maps its rows from the disk, which are in the system's cache.
"""

from __future__ import annotations

from .._turns import Turns

TURNS = Turns()

import os  # noqa: E402

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}

import argparse  # noqa: E402
import logging  # noqa: E402
import time  # noqa: E402

from flwr.app import ArrayRecord, ConfigRecord, Context  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import Grid, ServerApp  # noqa: E402
from flwr.serverapp.strategy import FedAvg  # noqa: E402
from flwr.simulation import run_simulation  # noqa: E402

from .flower_client import case_and_model, train  # noqa: E402


class NoMoreTurns(Exception):
    """Ends the strategy's loop."""


class InTurns(FedAvg):
    """FedAvg that waits for its turn before each round and answers after it."""

    def configure_train(self, server_round, arrays, config, grid):
        """The messages of a round."""
        if not TURNS.wait():
            raise NoMoreTurns
        self._begin = time.perf_counter()
        while len(list(grid.get_node_ids())) < self.min_available_nodes:
            time.sleep(0.01)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round, replies):
        """The mean; answers."""
        replies = list(replies)
        arrays, metrics = super().aggregate_train(server_round, replies)
        seconds = time.perf_counter() - self._begin
        values = [reply.content["metrics"] for reply in replies if reply.has_content()]
        if len(values) < self.min_available_nodes:
            reasons = {reply.error.reason for reply in replies if reply.has_error()}
            raise RuntimeError(f"{self.min_available_nodes - len(values)} clients failed: {'; '.join(sorted(reasons))}")
        TURNS.answer(seconds=seconds, loss=sum(v["loss"] for v in values) / sum(v["count"] for v in values))
        return arrays, metrics


def main() -> None:
    """Does rounds until there are no more turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    folder = parser.parse_args().folder
    logging.getLogger("flwr").setLevel(logging.WARNING)
    case, model = case_and_model(folder)
    cohort = case["cohort"]
    server, client = ServerApp(), ClientApp()
    client.train()(train)

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        strategy = InTurns(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=cohort, min_available_nodes=cohort)
        try:
            config = ConfigRecord({"folder": folder})
            strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=10**6, train_config=config, timeout=600)
        except NoMoreTurns:
            pass

    cores = len(os.sched_getaffinity(0))
    ray = {"num_cpus": cores, "logging_level": "ERROR", "include_dashboard": False}  # what a dashboard does falls into others' turns
    backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": ray}
    run_simulation(server, client, num_supernodes=cohort, backend_config=backend)


if __name__ == "__main__":
    main()
