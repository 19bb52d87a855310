"""The table of single clients: what a round reports of each, and that it adds up to what it reports of all."""

import csv
import functools

import numpy as np
import pytest
from contracts.lines import assert_close, assert_identical, line_clients, line_model, padded

import fedloom as fl
from fedloom.experiment._outputs import flat
from fedloom.experiment._round_metrics import NOT_FINITE

START = {"w": np.array([0.5, 0.25, -1.0], np.float32), "b": np.float32(0.125)}
MODEL = line_model()
SIZES = [3, 0, 9, 4, 1]
COLUMNS = [
    *("round", "client", "asked", "answered", "reason", "weight", "update_norm", "nonfinite", "clipping.clipped"),
    *("bytes_up", "bytes_down", "seconds", "bias", "loss", "num_batches", "num_examples", "num_tokens"),
]
THRESHOLD = 0.08


@functools.cache
def make_process(client_metrics=True, executor="local"):
    aggregator = fl.aggregators.chain(fl.aggregators.clipping(THRESHOLD), fl.aggregators.weighted_mean())
    algorithm = fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(0.1))
    return fl.LearningProcess(algorithm, aggregator=aggregator, batching=padded, client_metrics=client_metrics, executor=executor)


def spoilt_clients():
    """The second one is empty, the last one is not finite."""
    clients = line_clients(SIZES)
    last = clients["client 4"]
    return clients | {"client 4": {**last, "x": np.full_like(last["x"], np.nan)}}


def one_round(clients, **settings):
    process = make_process(**settings)
    return process.next(process.initialize(START), clients)


def test_the_columns_and_what_they_mean():
    clients = spoilt_clients()
    _, metrics = one_round(clients)
    rows = metrics["clients"]
    assert [list(flat(row)) for row in rows] == [COLUMNS] * len(SIZES)
    for row, (client, examples) in zip(rows, clients.items(), strict=True):
        _, alone = one_round({client: examples})
        finite = client != "client 4"
        assert (row["round"], row["client"], row["asked"], row["answered"], row["nonfinite"]) == (1, client, 1, 1, not finite)
        assert row["weight"] == row["num_examples"] == (len(examples["y"]) if finite else 0)
        assert {name: row[name] for name in ("loss", "bias", "num_tokens", "num_batches")} == pytest.approx(
            {name: alone[name] for name in ("loss", "bias", "num_tokens", "num_batches")}
        )
        assert row["bytes_up"] == row["bytes_down"] - 4 == 4 * 4  # w and b up; down, the client's rate too
        assert row["seconds"] >= 0
        if finite:
            assert row["clipping"]["clipped"] == (row["update_norm"] > THRESHOLD)
    assert np.isnan(rows[4]["update_norm"])
    assert rows[1]["update_norm"] == rows[1]["loss"] == rows[1]["num_batches"] == 0
    assert {row["clipping"]["clipped"] for row in rows} == {0.0, 1.0}, "or the threshold shows nothing"


def test_the_update_norm_is_that_of_what_the_client_found_before_any_clipping():
    process = fl.LearningProcess(fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(0.1)), batching=padded)
    _, metrics = one_round(line_clients(SIZES))
    for row, (client, examples) in zip(metrics["clients"], line_clients(SIZES).items(), strict=True):
        after = process.get_weights(process.next(process.initialize(START), {client: examples})[0]).trainable
        moved = np.append(after["w"] - START["w"], after["b"] - START["b"])
        assert row["update_norm"] == pytest.approx(np.linalg.norm(moved), rel=1e-5)


def test_the_rows_add_up_to_the_round():
    _, metrics = one_round(spoilt_clients())
    rows = metrics["clients"]

    def total(name):
        return sum(flat(row)[name] for row in rows)

    for name in ("num_examples", "num_batches", "bytes_up", "bytes_down"):
        assert total(name) == metrics[name], name
    assert (total("asked"), total("nonfinite")) == (metrics["num_clients"], metrics["num_nonfinite_clients"])
    assert total("clipping.clipped") == metrics["aggregator"]["clipping"]["clipped_count"]
    assert total("num_tokens") == pytest.approx(metrics["num_tokens"], rel=1e-6)
    for name in ("loss", "bias"):
        mean = np.average([row[name] for row in rows], weights=[row["num_tokens"] for row in rows])
        assert mean == pytest.approx(metrics[name], rel=1e-5)


@pytest.mark.parametrize("executor", ["local", "debug"])
def test_looking_at_clients_changes_no_bit(executor):
    plain = one_round(spoilt_clients(), client_metrics=False, executor=executor)
    state, metrics = one_round(spoilt_clients(), executor=executor)
    del metrics["clients"]
    assert_identical((state.server, state.aggregator, metrics), (plain[0].server, plain[0].aggregator, plain[1]))


def test_the_debug_executor_has_the_same_rows():
    local, debug = (
        [{**flat(row), "client": 0, "seconds": 0} for row in one_round(spoilt_clients(), executor=executor)[1]["clients"]]
        for executor in ("local", "debug")
    )
    assert [row.pop("reason") for row in local] == [row.pop("reason") for row in debug] == ["", "", "", "", NOT_FINITE]
    assert_close(local, debug)


def test_nobody_is_no_row():
    assert one_round({})[1]["clients"] == []


def test_a_run_writes_the_table_and_it_reads_back(tmp_path):
    dataset = fl.data.FederatedDataset.from_dict(spoilt_clients())
    process = make_process()
    result = fl.train(process, dataset, cohort_size=3, rounds=3, initial=START, run_dir=tmp_path / "run", progress=False)
    with (tmp_path / "run" / "clients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.clients) == 9
    assert list(rows[0]) == COLUMNS
    for row, kept in zip(rows, result.clients, strict=True):
        assert (row.pop("client"), row.pop("reason")) == (kept["client"], kept["reason"])
        assert {name: float(value) for name, value in row.items()} == pytest.approx(
            {name: kept[name] for name in row}, rel=0, abs=0, nan_ok=True
        )
    for round_row in result.history[1:]:
        own = [row for row in result.clients if row["round"] == round_row["round"]]
        assert sum(row["num_examples"] for row in own) == round_row["num_examples"]
        assert len({row["client"] for row in own}) == 3
    assert "clients" not in result.history[1]
    plain = fl.train(make_process(client_metrics=False), dataset, cohort_size=3, rounds=3, initial=START, progress=False)
    assert_identical(plain.weights, result.weights)
    named = [row for row in result.clients if row["reason"]]
    assert [(row["round"], row["client"]) for row in plain.clients] == [(row["round"], row["client"]) for row in named]
    assert named
