"""The guard: what it notices, and what it does about it; last, on the setting in which TFF's own tutorial destroys its model."""

import csv
import json
import math

import numpy as np
import pytest
from contracts.lines import assert_identical, line_clients, line_model, padded
from hypothesis import given
from hypothesis import strategies as st

import fedloom as fl
from fedloom.experiment import ShakespeareConfig, assemble, run_task
from fedloom.experiment._guard import Measure, Standing, complaint, measure, verdict

START = {"w": np.array([0.5, 0.25, -1.0], np.float32), "b": np.float32(0.125)}
LOSS, ACCURACY = Measure("loss", True), Measure("accuracy", False)


@pytest.mark.parametrize(
    ("best_by", "metrics", "expected"),
    [
        (None, {"loss": 1.0, "accuracy": 0.5}, ACCURACY),
        (None, {"loss": 1.0, "auc": 0.5}, LOSS),
        ("auc", {"loss": 1.0, "auc": 0.5}, Measure("auc", False)),
        ("mean_squared_error", {"mean_squared_error": 1.0}, Measure("mean_squared_error", True)),
        ("lower:auc", {"auc": 0.5}, Measure("auc", True)),
        ("higher:loss", {"loss": 0.5}, Measure("loss", False)),
    ],
)
def test_the_measure_knows_which_way_is_better(best_by, metrics, expected):
    assert measure(best_by, metrics) == expected


@pytest.mark.parametrize("best_by", ["auc", "lowest:loss", "confusion"])
def test_a_measure_that_there_is_not(best_by):
    with pytest.raises(ValueError, match=r"best_by must be the name of a held-out metric, one of \['loss'\]"):
        measure(best_by, {"loss": 1.0, "confusion": [[1, 2]]})


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(numbers, numbers, st.booleans())
def test_better_is_a_strict_order_in_which_nan_is_worst(a, b, lower):
    by = Measure("m", lower)
    assert not (by.better(a, b) and by.better(b, a))
    assert not by.better(a, a)
    if math.isnan(b) and not math.isnan(a):
        assert by.better(a, b)


@given(st.lists(numbers, min_size=1, max_size=12))
def test_the_standing_is_what_the_values_say(values):
    standing = Standing(values[0], values[0], 0, values[0])
    for r, value in enumerate(values[1:], 1):
        standing = standing.after(ACCURACY, value, r)
    best = max(range(len(values)), key=lambda i: (-math.inf if math.isnan(values[i]) else values[i], not math.isnan(values[i]), -i))
    assert standing.best_round == best
    worse = [ACCURACY.better(values[0], value) for value in values[1:]]
    assert standing.worse_in_a_row == [*worse[::-1], False].index(False)


def test_the_policies():
    once = Standing(0.5, 0.6, 1, 0.4, worse_in_a_row=1)
    twice, fine = once._replace(worse_in_a_row=2), once._replace(worse_in_a_row=0)
    assert [verdict(fl.Guard(action=a), once) for a in ("off", "warn", "stop", "rollback")] == ["go on", "go on", "stop", "rollback"]
    assert verdict(fl.Guard(action="stop", patience=2), once) == "go on" and verdict(fl.Guard(action="stop", patience=2), twice) == "stop"
    assert verdict(fl.Guard(action="stop"), fine) == "go on" and complaint(ACCURACY, fine) == ""
    assert verdict(fl.Guard(action="rollback", max_rollbacks=2), once._replace(rollbacks=2)) == "stop"
    assert complaint(ACCURACY, once) == (
        "The model is worse than the one the run started from: held-out accuracy 0.4000, at the start 0.5000 (the best was 0.6000, after "
        "round 1). Lower the learning rates, or train on more clients per round."
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"action": "shout"}, 'guard.action must be "warn", "stop", "rollback" or "off", got \'shout\''),
        ({"patience": 0}, "guard.patience must be at least 1"),
        ({"max_rollbacks": 0}, "guard.max_rollbacks must be at least 1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        fl.Guard(**settings)


def diverging(run_dir, guard, *, rounds=6, resume=False, keep_best=True, **arguments):
    """At this rate gradient descent on the lines overshoots further in every round."""
    data = fl.data.FederatedDataset.from_dict(line_clients([6, 9, 4, 6]))
    process = fl.LearningProcess(fl.algorithms.fedavg(line_model(), fl.optimizers.sgd(2.0)), batching=padded)
    return fl.train(
        process, data, cohort_size=3, rounds=rounds, initial=START, evaluate=data, evaluate_every=1, best_by="loss", guard=guard,
        run_dir=run_dir, resume=resume, progress=arguments.pop("progress", False),
        checkpoints=fl.Checkpoints(every=1, keep_best=keep_best), **arguments,
    )  # fmt: skip


def status(run_dir):
    return json.loads((run_dir / "status.json").read_text())


def test_warn_says_so_loudly_and_goes_on(tmp_path, capsys):
    result = diverging(tmp_path / "run", "warn", progress="plain")
    assert result.status == "finished" and len(result.history) == 7 and result.best_round == 0
    assert result.history[-1]["eval_loss"] > result.history[0]["eval_loss"]
    assert "The model is worse than the one the run started from: held-out loss" in capsys.readouterr().err
    with (tmp_path / "run" / "warnings.csv").open() as file:
        assert [int(row["round"]) for row in csv.DictReader(file)] == [1, 2, 3, 4, 5, 6]


def test_off_says_nothing(tmp_path):
    assert len(diverging(tmp_path / "run", "off").history) == 7
    assert not (tmp_path / "run" / "warnings.csv").exists()


def test_stop_ends_the_run_and_leaves_the_best_model(tmp_path):
    result = diverging(tmp_path / "run", fl.Guard(action="stop", patience=2))
    assert result.status == "stopped" and result.history[-1]["round"] == 2
    assert status(tmp_path / "run") | {"best": None} == {
        "status": "stopped", "round": 2, "rounds": 6, "reason": "the model was worse than at the start", "best": None,
    }  # fmt: skip
    with np.load(tmp_path / "run" / "best" / "weights.npz") as file:
        np.testing.assert_array_equal(sorted(map(np.size, file.values())), [1, 3])
        assert any(np.array_equal(array, START["w"]) for array in file.values())
    assert diverging(tmp_path / "run", fl.Guard(action="stop", patience=2), resume=True).history[-1]["round"] == 2
    assert diverging(tmp_path / "run", "warn", resume=True).history[-1]["round"] == 6


class CrashAt(fl.Callback):
    def __init__(self, round_number):
        self._round = round_number

    def on_round_end(self, state, row):
        if row["round"] == self._round:
            raise KeyboardInterrupt


def test_rollback_goes_on_from_the_best_round_and_gives_up_in_the_end(tmp_path):
    guard = fl.Guard(action="rollback", max_rollbacks=3)
    result = diverging(tmp_path / "run", guard, rounds=9)
    assert result.status == "stopped" and result.history[-1]["round"] == 4, "three rollbacks, and worse again"
    with pytest.raises(KeyboardInterrupt):
        diverging(tmp_path / "other", guard, rounds=9, callbacks=[CrashAt(3)], keep_best=False)  # it is kept all the same
    again = diverging(tmp_path / "other", guard, rounds=9, resume=True)
    assert_identical(again.weights, result.weights)
    assert (tmp_path / "other" / "metrics.csv").read_bytes() == (tmp_path / "run" / "metrics.csv").read_bytes()


def test_rollback_needs_the_checkpoint_of_the_best_round(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        diverging(tmp_path / "run", "rollback", callbacks=[CrashAt(3)])
    next((tmp_path / "run" / "checkpoints").glob("round-000000.*")).unlink()
    with pytest.raises(fl.CheckpointMismatch, match="rolls back to the best round, 0, whose checkpoint is missing"):
        diverging(tmp_path / "run", "rollback", resume=True)


def test_nan_is_worse_than_anything(tmp_path):
    data = fl.data.FederatedDataset.from_dict(line_clients([6, 9]))
    process = fl.LearningProcess(fl.algorithms.fedavg(line_model(), fl.optimizers.sgd(0.1)), batching=padded)
    found = iter([1.0, math.nan, 0.5])
    process.evaluate = lambda state, clients: {"loss": next(found)}
    result = fl.train(process, data, cohort_size=2, rounds=2, initial=START, evaluate=data, evaluate_every=1, guard="warn", progress=False)
    assert result.best_round == 2


@pytest.mark.slow
def test_the_guard_stops_what_destroys_the_tutorials_model(tff_folder, tmp_path):
    """Two fixed clients, SGD with rate 1, RNN state carried: accuracy falls far below its start in the first round."""
    config = ShakespeareConfig(
        source="tff", data_path=str(tff_folder), rounds=5, evaluate_every=1, evaluate_clients=20,
        clients=("ALL_S_WELL_THAT_ENDS_WELL_CELIA", "MUCH_ADO_ABOUT_NOTHING_OTHELLO"), remainder="drop", rnn_state="carry", shuffle=False,
        client_optimizer="sgd", client_learning_rate=1.0, server_optimizer="sgd", server_learning_rate=1.0, sample_length=20,
        guard=fl.Guard(action="stop"),
    )  # fmt: skip
    result = run_task(assemble(config), tmp_path / "run", progress=False)
    assert (result.status, result.history[-1]["round"], result.best_round) == ("stopped", 1, 0)
    assert result.history[1]["eval_accuracy"] < result.history[0]["eval_accuracy"]
