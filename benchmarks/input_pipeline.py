"""How long the device waits for data, which the host reads, prepares and batches while the device computes.

    python benchmarks/input_pipeline.py [--shakespeare FOLDER] [--tasks cnn tiny] [--rounds 5] [--out results.json]

FOLDER holds TFF's shakespeare_train.h5 and shakespeare_test.h5; without it, the tasks on Shakespeare are left out. The tasks:

    gru    the tutorial's model, GRU(1024), windows of 100 characters in batches of 8, at most 2 a client; cohorts of 10
    lstm   Embedding(90, 8), two LSTM(256), Dense(90), sequences of 80 characters in batches of 4, at most 16 a client; cohorts of 10
    cnn    two convolutions and two dense layers on 28 x 28 images of clients of lognormal sizes, held as uint8 and normalised by a map,
           in batches of 20; cohorts of 10
    tiny   logistic regression on 784 features, one batch of 20 per client; cohorts of 1,000: as little work per client as there may be

The first round, which compiles, is left out. Prints the median and range of seconds per round, and the share of all rounds in which the
device had nothing to do because a block was missing, between the bounds that `LocalExecutor.waited` gives. The goal is a share below 5 %
for gru, lstm and cnn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fedloom as fl  # before keras
from fedloom.data import partitioners
from fedloom.engine import LocalExecutor

import keras  # isort: skip

IMAGES = 4_000


class Task(NamedTuple):
    """What is trained on what."""

    model: Any
    start: Any  # weights, or a Keras model
    dataset: fl.data.FederatedDataset
    batching: fl.data.Batching
    cohort: int  # clients per round


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shakespeare", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    about = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "fedloom": fl.__version__,
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    results: dict[str, Any] = {"about": about}
    for name in arguments.tasks:
        if name in ("gru", "lstm") and arguments.shakespeare is None:
            print(f"{name}: left out, as it needs --shakespeare FOLDER")
            continue
        results[name] = measure(TASKS[name](arguments.shakespeare), arguments.rounds)
        show(name, results[name])
        if arguments.out:
            arguments.out.write_text(json.dumps(results, indent=1))


def measure(task: Task, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, and the bounds of the seconds waited."""
    executors: list[LocalExecutor] = []

    def make(*arguments: Any, **options: Any) -> LocalExecutor:
        executors.append(LocalExecutor(*arguments, **options))
        return executors[-1]

    process = fl.LearningProcess(fl.algorithms.fedavg(task.model, fl.optimizers.sgd(0.1)), batching=task.batching, executor=make)
    state = process.initialize(task.start)
    result: dict[str, list[float]] = {"seconds": [], "at_least": [], "at_most": []}
    sample = fl.data.uniform(task.dataset.client_ids, task.cohort, seed=0)
    for r in range(rounds + 1):
        cohort = task.dataset.subset(sample(r))
        begin = time.perf_counter()
        state, _ = process.next(state, cohort)
        jax.block_until_ready(process.get_weights(state))
        seconds = time.perf_counter() - begin
        if r:  # the first compiles
            for column, value in zip(result, (seconds, *executors[-1].waited), strict=True):
                result[column].append(value)
    return result


def show(name: str, columns: dict[str, list[float]]) -> None:
    """A line of the table."""
    total, least, most = (sum(columns[column]) for column in ("seconds", "at_least", "at_most"))
    print(
        f"{name:5} {statistics.median(columns['seconds']):7.3f} s a round "
        f"({min(columns['seconds']):.3f} to {max(columns['seconds']):.3f}), device waits {least / total:5.1%} to {most / total:5.1%}",
        flush=True,
    )


def gru(folder: Path) -> Task:
    """TFF's tutorial."""
    keras.utils.set_random_seed(0)
    keras_model = fl.models.char_gru()
    train, _ = fl.data.shakespeare("tff", path=folder)
    batching = fl.data.Batching(size=8, max_batches=2)
    return Task(fl.text.next_character_model(keras_model), keras_model, train.map(fl.text.CharWindows()), batching, 10)


def lstm(folder: Path) -> Task:
    """The model of Reddi et al. 2021 (arXiv:2003.00295)."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    ids = fl.text.ShakespeareSequences.num_ids
    recurrent = [layers.LSTM(256, return_sequences=True) for _ in range(2)]
    keras_model = keras.Sequential([keras.Input((80,), dtype="int32"), layers.Embedding(ids, 8), *recurrent, layers.Dense(ids)])
    model = fl.models.from_keras(keras_model, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    train, _ = fl.data.shakespeare("tff", path=folder)
    return Task(model, keras_model, train.map(fl.text.ShakespeareSequences()), fl.data.Batching(size=4, max_batches=16), 10)


def cnn(folder: Path | None) -> Task:
    """The convolutional model of the EMNIST benchmarks, on random images."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    convolutions = [layers.Conv2D(filters, 3, activation="relu") for filters in (32, 64)]
    head = [layers.MaxPooling2D(), layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(62)]
    keras_model = keras.Sequential([keras.Input((28, 28, 1)), *convolutions, *head])
    model = fl.models.from_keras(keras_model, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    table = {"image": rng.integers(0, 256, (IMAGES, 28, 28), dtype=np.uint8), "label": rng.integers(0, 62, IMAGES)}
    data = fl.data.partition(table, partitioners.lognormal_sizes(1.0), num_clients=100)
    return Task(model, keras_model, data.map(fl.data.Images(mean=0.1736, std=0.3317)), fl.data.Batching(size=20), 10)


def tiny(folder: Path | None) -> Task:
    """Logistic regression."""

    def loss(y: jax.Array, logits: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)[:, 0]

    model = fl.models.from_functions(lambda key: (jnp.zeros((784, 10)), jnp.zeros(10)), lambda w, x: x @ w[0] + w[1], loss)
    rng = np.random.default_rng(0)
    table = {"x": rng.normal(size=(20_000, 784)).astype(np.float32), "y": rng.integers(0, 10, 20_000)}
    data = fl.data.partition(table, partitioners.iid(), num_clients=1_000)
    return Task(model, None, data, fl.data.Batching(size=20), 1_000)


TASKS: dict[str, Callable[..., Task]] = {"gru": gru, "lstm": lstm, "cnn": cnn, "tiny": tiny}


if __name__ == "__main__":
    main()
