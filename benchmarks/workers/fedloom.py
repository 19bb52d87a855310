"""fedloom, as a user runs it: a Keras model, a data set of clients, a process.

    python -m benchmarks.workers.fedloom FOLDER [--executor debug] [--compute bfloat16] [--plain-layers] [--from-files]

A round begins with its clients' rows in memory, in their order, as it does for the peers. With `--from-files`, and where there are no
peers, they are read, mapped, shuffled and batched as part of its time.
"""

from __future__ import annotations

from .._turns import Turns, serve

TURNS = Turns()

import argparse  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402

import fedloom as fl  # noqa: E402
from fedloom.engine import DebugExecutor, LocalExecutor  # noqa: E402

import keras  # noqa: E402  # isort: skip

from .._data import batching_of, in_memory, keras_model, open_dataset  # noqa: E402
from .._workload import Workload  # noqa: E402


def main() -> None:
    """Does rounds until there are no more turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--executor", choices=["local", "debug"], default="local")
    parser.add_argument("--compute")
    parser.add_argument("--plain-layers", action="store_true")
    parser.add_argument("--from-files", action="store_true")
    arguments = parser.parse_args()
    workload = Workload(arguments.folder)
    case = workload.case
    options = {"compute": arguments.compute} if arguments.compute else {}
    model = fl.models.from_keras(
        keras_model(case["model"], fused=not arguments.plain_layers),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    executors: list[Any] = []

    def executor(*args: Any, **kwargs: Any) -> Any:
        executors.append((DebugExecutor if arguments.executor == "debug" else LocalExecutor)(*args, **kwargs))
        return executors[-1]

    algorithm = fl.algorithms.fedavg(model, fl.optimizers.sgd(case["learning_rate"]))
    from_files = arguments.from_files or case["systems"] == "fedloom"
    process = fl.LearningProcess(algorithm, batching=batching_of(case, shuffle=from_files), executor=executor, seed=0)
    state = process.initialize(workload.weights())
    dataset = open_dataset(case, workload.folder) if from_files else None

    def cohort(number: int) -> fl.data.FederatedDataset:
        if dataset is not None:
            return dataset.subset(workload.clients[number])
        return in_memory(workload, number)

    compiled: Counter[str] = Counter()

    def count(event: str, duration_secs: float, **kwargs: Any) -> None:
        compiled.update([event.rsplit("/", 1)[-1]])

    jax.monitoring.register_event_duration_secs_listener(count)

    def run(clients: fl.data.FederatedDataset) -> dict[str, Any]:
        nonlocal state
        compiled.clear()
        begin = time.perf_counter()
        state, metrics = process.next(state, clients)
        jax.block_until_ready(process.get_weights(state))
        seconds = time.perf_counter() - begin
        waited = getattr(executors[-1], "waited", None)
        return {
            "seconds": seconds,
            "loss": float(metrics["loss"]),
            "waited": waited and list(waited),
            "compiled": compiled["backend_compile_duration"],
        }

    serve(TURNS, cohort, run)


if __name__ == "__main__":
    main()
