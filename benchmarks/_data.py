"""The data of the cases as fedloom's data sets, and the workload made from them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fedloom as fl  # before keras
from fedloom.engine import prepare

import keras  # isort: skip

from ._tasks import Case
from ._workload import ClientRows, Workload, Writer


def write_workload(case: Case, folder: Path, rounds: int) -> Workload:
    """Makes the data of a case and writes them, with the batches of these rounds as fedloom itself makes them.

    Raises:
        FileNotFoundError: TFF's files are needed and not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if case.population:
        _make_population(case, folder / "population")
    dataset, batching = open_dataset(dataclasses.asdict(case), folder), batching_of(dataclasses.asdict(case))
    keras.utils.set_random_seed(case.seed)
    writer = Writer(folder, dataclasses.asdict(case), keras_model(case.model).get_weights())
    for number, ids in zip(range(rounds), _cohorts(case, dataset), strict=False):
        cohort = prepare(dataset.subset(ids), batching, seed=case.seed, round_number=number, check=lambda batch: None)
        writer.add_round({client.name: _rows(client.batches()) for client in cohort}, store=case.systems != "fedloom")
    return Workload(folder)


def open_dataset(case: dict[str, Any], folder: Path) -> fl.data.FederatedDataset:
    """The clients of a case, as a user would open and prepare them.

    Args:
        case: The fields of a `Case`.
        folder: Of its workload.
    """
    if case["model"] == "gru":
        return _shakespeare().map(fl.text.CharWindows(length=100, remainder="drop"))
    if case["model"] == "lstm":
        return _shakespeare().map(fl.text.ShakespeareSequences())
    dataset = fl.data.load(folder / "population")
    return dataset.map(fl.data.Images(mean=0.5, std=0.25)) if case["model"] == "cnn" else dataset


def in_memory(workload: Workload, number: int) -> fl.data.FederatedDataset:
    """The clients of a round with what they train on, in its order."""
    clients = zip(workload.clients[number], workload.round(number), strict=True)
    return fl.data.FederatedDataset.from_dict(
        {client: {"x": x, "y": y} | ({} if weight is None else {"sample_weight": weight}) for client, (x, y, weight) in clients}
    )


def batching_of(case: dict[str, Any], *, shuffle: bool = True) -> fl.data.Batching:
    """How the clients of a case make batches: in a new random order every round, or as their examples lie."""
    return fl.data.Batching(size=case["batch_size"], max_batches=case["max_batches"], shuffle=shuffle)


def keras_model(name: str, *, fused: bool = True) -> keras.Model:
    """A model of the cases, with fresh weights.

    Args:
        name: Of `MODELS`.
        fused: Whether fedloom may put its own layers in the place of Keras'; it leaves subclasses of them alone.
    """
    layers = keras.layers
    gru, lstm = (layers.GRU, layers.LSTM) if fused else (_PlainGRU, _PlainLSTM)
    if name == "gru":
        stack = [layers.Embedding(86, 256), gru(1024, return_sequences=True), layers.Dense(86)]
        return keras.Sequential([keras.Input((100,), dtype="int32"), *stack])
    if name == "lstm":
        ids = fl.text.ShakespeareSequences.num_ids
        recurrent = [lstm(256, return_sequences=True) for _ in range(2)]
        return keras.Sequential([keras.Input((80,), dtype="int32"), layers.Embedding(ids, 8), *recurrent, layers.Dense(ids)])
    if name == "cnn":
        convolutions = [layers.Conv2D(filters, 3, activation="relu") for filters in (32, 64)]
        head = [layers.MaxPooling2D(), layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(62)]
        return keras.Sequential([keras.Input((28, 28, 1)), *convolutions, *head])
    return keras.Sequential([keras.Input((784,)), layers.Dense(10)])


class _PlainGRU(keras.layers.GRU):
    pass


class _PlainLSTM(keras.layers.LSTM):
    pass


def shakespeare_folder() -> Path:
    """The folder with TFF's Shakespeare files.

    Raises:
        FileNotFoundError: It is not there.
    """
    shared = Path(os.environ.get("FEDLOOM_SHARED", Path(__file__).parents[2] / "shared"))
    folder = shared / "data" / "shakespeare_tff"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"TFF's files must be in {folder}, which is no folder. Set FEDLOOM_SHARED to what holds data/shakespeare_tff."
        )
    return folder


def _shakespeare() -> fl.data.FederatedDataset:
    return fl.data.shakespeare("tff", path=shakespeare_folder())[0]


def _cohorts(case: Case, dataset: fl.data.FederatedDataset) -> Iterator[list[str]]:
    """Ids of each round; nobody comes twice before all have come once, as far as `most text` goes."""
    if case.clients == "most text":
        rows = {client: len(columns["x"]) for client, columns in dataset.items()}
        enough = case.batch_size * (case.max_batches or 1)  # so that every batch of every client is full
        ranked = sorted((client for client in rows if rows[client] >= enough), key=lambda client: (-rows[client], client))
    else:
        ranked = [str(client) for client in np.random.default_rng(case.seed).permutation(list(dataset.client_ids))]
    if len(ranked) < case.cohort:
        raise ValueError(f"{case.name} needs {case.cohort} clients, got {len(ranked)} with enough examples. Lower the cohort.")
    start = 0
    while True:
        yield [ranked[(start + i) % len(ranked)] for i in range(case.cohort)]
        start += case.cohort


def _rows(batches: Any) -> ClientRows:
    """The real rows of a client's batches."""
    parts = [(batch.x[batch.real > 0], batch.y[batch.real > 0], batch.sample_weight[batch.real > 0]) for batch in batches]
    x, y, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ClientRows(x, y, weight if weight.ndim == y.ndim and y.ndim > 1 and (weight != 1).any() else None)


def _make_population(case: Case, folder: Path) -> None:
    """Clients whose examples are noise around a pattern for each class, in fedloom's own form on disk."""
    rng = np.random.default_rng(case.seed)
    sizes = np.full(case.population, 20)
    if case.model == "cnn":
        sizes = np.maximum(1, np.rint(100 * np.exp(0.5 * rng.standard_normal(case.population)))).astype(int)
    patterns = rng.random((62, 28, 28), np.float32)
    weights = rng.standard_normal((784, 10), np.float32)
    with fl.data.StoreWriter(folder) as writer:
        for number, size in enumerate(sizes):
            if case.model == "cnn":
                label = rng.integers(0, 62, size)
                image = 128 * patterns[label] + 127 * rng.random((size, 28, 28), np.float32)
                writer.add(f"{number:05d}", {"image": image.astype(np.uint8), "label": label.astype(np.int32)})
            else:
                x = rng.standard_normal((size, 784), np.float32)
                writer.add(f"{number:05d}", {"x": x, "y": np.argmax(x @ weights, axis=1).astype(np.int32)})
