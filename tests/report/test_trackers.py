"""Trackers by the real libraries: what they keep is read back."""

import importlib.util
import json
import math
import os
import struct
from pathlib import Path

import pytest

from fedloom.report import Callback, RunInfo
from fedloom.report.trackers import MLflow, TensorBoard, Tracker, WandB, guarded

CONFIG = {"algorithm": "fedavg", "batching": {"batch_size": 20, "drop": None}, "sizes": [3, 4], "note": "n" * 7000, "private": False}


def needs(module):
    """Without the library a test is skipped, but in CI it fails."""
    if importlib.util.find_spec(module) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{module} is not installed")


def info(run_dir, history=(), rounds=4):
    return RunInfo(rounds=rounds, config={**CONFIG, "rounds": rounds}, run_dir=run_dir, history=history, best_by="accuracy")


def row(r):
    held_out = {"eval_loss": 3.0 - r / 8, "eval_shifted one.loss": 4.0} if r % 2 == 0 else {}
    training = {"loss": 2.0 - r / 4, "num_clients": 5, "norms": [1.0, 2.0], "seconds": 0.5} if r else {}
    return {"round": r, **training, **held_out}


def run(tracker, run_dir, rounds, *, history=(), status="finished", warn_in=()):
    """What a run would tell; a status of None is that of one that was killed."""
    tracker.on_start(info(run_dir, history, rounds=rounds[-1]))
    for r in rounds:
        if r in warn_in:
            tracker.on_warning(r, f"trouble in round {r}")
        tracker.on_round_end(None, row(r))
    if status:
        tracker.on_end(status)


def killed_after_3_resumed_after_2(new, run_dir, let_go=lambda tracker: None):
    """Round 3 is told twice."""
    run_dir.mkdir()
    killed = new()
    run(killed, run_dir, [0, 1, 2, 3], status=None, warn_in=[1])
    let_go(killed)
    run(new(), run_dir, [3, 4], history=[row(0), row(1), row(2)], warn_in=[4])


class Failing(Tracker):
    def __init__(self, *fails):
        self.fails, self.calls = fails, []

    def _called(self, name):
        self.calls.append(name)
        if name in self.fails:
            raise OSError("the server is away")

    def on_start(self, run):
        self._called("start")

    def on_round_end(self, state, row):
        self._called("round")

    def on_warning(self, round_number, text):
        self._called("warning")

    def on_end(self, status):
        self._called("end")


@pytest.mark.parametrize(
    ("fails", "called"), [("start", ["start"]), ("round", ["start", "round"]), ("end", ["start", "round", "round", "warning", "end"])]
)
def test_a_tracker_that_fails_is_told_of_once_and_left_alone(fails, called):
    tracker, told = Failing(fails), []
    safe = guarded(tracker, told.append)
    safe.on_start(info(None))
    safe.on_round_end(None, row(0))
    safe.on_round_end(None, row(1))
    safe.on_warning(1, "trouble")
    safe.on_end("finished")
    assert tracker.calls == called
    assert told == ["Failing failed, and keeps nothing of this run from here on; training goes on. OSError: the server is away"]


def test_the_warning_of_a_failed_tracker_may_come_back_to_it():
    tracker = Failing("round", "warning")
    safe = guarded(tracker, lambda text: safe.on_warning(1, text))
    safe.on_round_end(None, row(1))
    assert tracker.calls == ["round"]


def test_only_trackers_are_guarded():
    class Mine(Callback):
        pass

    mine = Mine()
    assert guarded(mine, print) is mine


def test_what_no_round_could_mend_is_not_guarded():
    needs("tensorboard")
    with pytest.raises(ValueError, match="log_dir"):
        guarded(TensorBoard(), print).on_start(info(None))


@pytest.mark.parametrize(
    ("new", "module", "extra"),
    [(TensorBoard, "tensorboard", "tensorboard"), (lambda: WandB("p"), "wandb", "wandb"), (lambda: MLflow("e"), "mlflow", "mlflow")],
)
def test_a_missing_library_is_named_when_the_tracker_is_made(monkeypatch, new, module, extra):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else find_spec(name, *rest))
    with pytest.raises(ImportError, match=rf'{module} is not installed. Install it with `pip install "fedloom\[{extra}\]"`'):
        new()


# TensorBoard


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def scalars(found, tag):
    return {event.step: event.value for event in found.Scalars(tag)}


def texts(found, tag):
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in found.Tensors(tag)]


def hparams(found, tag):
    from tensorboard.plugins.hparams.metadata import parse_session_end_info_plugin_data, parse_session_start_info_plugin_data

    content = found.SummaryMetadata(tag).plugin_data.content
    if tag.endswith("start_info"):
        return parse_session_start_info_plugin_data(content)
    return parse_session_end_info_plugin_data(content)


def test_tensorboard_keeps_metrics_settings_and_warnings(tmp_path):
    needs("tensorboard")
    run(TensorBoard(), tmp_path, range(5), warn_in=[3])
    found = events(tmp_path / "tensorboard")
    assert scalars(found, "training/loss") == {r: 2.0 - r / 4 for r in range(1, 5)}
    assert scalars(found, "held_out/loss") == {r: 3.0 - r / 8 for r in (0, 2, 4)}
    assert scalars(found, "held_out/shifted one.loss") == {r: 4.0 for r in (0, 2, 4)}
    assert set(scalars(found, "clocks/seconds").values()) == {0.5}
    assert not any("norms" in tag for tag in found.Tags()["scalars"])
    assert texts(found, "warnings") == [(3, "trouble in round 3")]
    assert '"batch_size": 20' in texts(found, "config")[0][1]
    start = hparams(found, "_hparams_/session_start_info").hparams
    assert start["batching.batch_size"].number_value == 20
    assert start["private"].bool_value is False
    assert start["sizes"].string_value == "[3, 4]"
    assert len(start["note"].string_value) == 1000


@pytest.mark.parametrize(("status", "code"), [("finished", 1), ("failed", 2), ("interrupted", 0)])
def test_tensorboard_marks_how_a_run_ended(tmp_path, status, code):
    needs("tensorboard")
    run(TensorBoard(tmp_path / "elsewhere"), None, [0, 1], status=status)
    found = events(tmp_path / "elsewhere")
    assert hparams(found, "_hparams_/session_end_info").status == code
    assert texts(found, "status") == [(1, status)]


def test_tensorboard_shows_a_resumed_run_as_one(tmp_path):
    needs("tensorboard")
    killed_after_3_resumed_after_2(TensorBoard, tmp_path / "run")
    found = events(tmp_path / "run" / "tensorboard")
    assert [event.step for event in found.Scalars("training/loss")] == [1, 2, 3, 4]
    assert [step for step, _ in texts(found, "warnings")] == [1, 4]


def test_tensorboard_takes_what_is_not_finite(tmp_path):
    needs("tensorboard")
    tracker = TensorBoard()
    tracker.on_start(info(tmp_path))
    tracker.on_warning(0, "early")
    tracker.on_round_end(None, {"round": 1, "loss": math.nan, "eval_loss": math.inf})
    tracker.on_end("finished")
    found = events(tmp_path / "tensorboard")
    assert math.isnan(scalars(found, "training/loss")[1]) and scalars(found, "held_out/loss")[1] == math.inf


# Weights & Biases


def logged(content):
    """The records of a log in LevelDB's format, in blocks of 32 KiB, after W&B's own header of 7 bytes."""
    place, record = 7, b""
    while place < len(content):
        left = 32768 - place % 32768
        if left < 7:  # too few for a header: padding
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def wandb_records(folder):
    """Everything in the logs of offline runs, in the order of the files' names."""
    from wandb.proto.wandb_internal_pb2 import Record

    files = sorted(Path(folder).glob("**/wandb/offline-run-*/run-*.wandb"))
    return [Record.FromString(record) for file in files for record in logged(file.read_bytes())]


def wandb_history(records):
    """By step: values by name."""
    found = {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            values = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found.setdefault(values["_step"], {}).update(values)
    return found


@pytest.fixture
def offline(monkeypatch, tmp_path):
    needs("wandb")
    for name in ("CONFIG", "CACHE", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb_own"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield lambda **settings: WandB("tests", mode="offline", **settings)
    import wandb

    wandb.teardown()


@pytest.mark.slow
def test_wandb_keeps_metrics_settings_and_warnings(tmp_path, offline):
    run(offline(), tmp_path, range(5), warn_in=[3])
    records = wandb_records(tmp_path)
    history = wandb_history(records)
    assert {step: values["training/loss"] for step, values in history.items() if step} == {r: 2.0 - r / 4 for r in range(1, 5)}
    assert {step for step, values in history.items() if "held_out/loss" in values} == {0, 2, 4}
    assert history[3]["warnings"] == "trouble in round 3"
    config = {item.key: json.loads(item.value_json) for record in records for item in record.run.config.update}
    assert config["batching"] == {"batch_size": 20, "drop": None}
    assert [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"] == [0]


@pytest.mark.slow
def test_wandb_marks_a_run_that_failed(tmp_path, offline):
    run(offline(), tmp_path, [0, 1], status="failed")
    assert [record.exit.exit_code for record in wandb_records(tmp_path) if record.WhichOneof("record_type") == "exit"] == [1]


@pytest.mark.slow
def test_wandb_goes_on_with_the_run_that_was_killed(tmp_path, offline):
    # Folders of their own: W&B names its own by the second, and a test is faster than that. A kill would let go of the id too.
    folders = [tmp_path / "killed", tmp_path / "resumed"]
    for folder in folders:
        folder.mkdir()
    places = iter(folders)
    killed_after_3_resumed_after_2(lambda: offline(dir=next(places)), tmp_path / "run", let_go=lambda tracker: tracker._run.finish())
    records = wandb_records(tmp_path)
    known = json.loads((tmp_path / "run" / "wandb.json").read_text())["id"]
    assert {record.run.run_id for record in records if record.WhichOneof("record_type") == "run"} == {known}
    assert set(wandb_history(records)) == {0, 1, 2, 3, 4}


# MLflow


def mlflow_test(test):
    """Slow to load, and with a warning of SQLAlchemy's about MLflow's tables."""
    return pytest.mark.slow(pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")(test))


@pytest.fixture
def database(tmp_path, monkeypatch):
    needs("mlflow")
    needs("sqlalchemy")
    monkeypatch.chdir(tmp_path)  # MLflow leaves a folder for artifacts where it is
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def mlflow_run(database, run_dir):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=database)
    run_id = json.loads((run_dir / "mlflow.json").read_text())["run_id"]
    assert [found.info.run_id for found in client.search_runs([client.get_experiment_by_name("tests").experiment_id])] == [run_id]
    return client, client.get_run(run_id)


def steps(client, found, name):
    return {(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, name)}


@mlflow_test
def test_mlflow_keeps_metrics_settings_and_warnings(tmp_path, database):
    run(MLflow("tests", database), tmp_path, range(5), warn_in=[3])
    client, found = mlflow_run(database, tmp_path)
    assert steps(client, found, "training/loss") == {(r, 2.0 - r / 4) for r in range(1, 5)}
    assert steps(client, found, "held_out/shifted one.loss") == {(r, 4.0) for r in (0, 2, 4)}
    assert found.data.params["batching.batch_size"] == "20" and found.data.params["sizes"] == "[3, 4]"
    assert len(found.data.params["note"]) == 6000
    assert found.data.tags["warnings"] == "round 3: trouble in round 3\n"
    assert (found.info.status, found.data.tags["status"], found.info.run_name) == ("FINISHED", "finished", tmp_path.name)


@mlflow_test
@pytest.mark.parametrize(("status", "theirs"), [("failed", "FAILED"), ("interrupted", "KILLED"), ("stopped", "FINISHED")])
def test_mlflow_marks_how_a_run_ended(tmp_path, database, status, theirs):
    run(MLflow("tests", database), tmp_path, [0, 1], status=status)
    _, found = mlflow_run(database, tmp_path)
    assert (found.info.status, found.data.tags["status"]) == (theirs, status)


@mlflow_test
def test_mlflow_goes_on_with_the_run_that_was_killed(tmp_path, database):
    killed_after_3_resumed_after_2(lambda: MLflow("tests", database), tmp_path / "run")
    client, found = mlflow_run(database, tmp_path / "run")
    assert steps(client, found, "training/loss") == {(r, 2.0 - r / 4) for r in range(1, 5)}
    assert found.data.params["rounds"] == "3" and found.data.tags["resumed.rounds"] == "4"
    assert found.data.tags["warnings"] == "round 1: trouble in round 1\nround 4: trouble in round 4\n"
    assert found.info.status == "FINISHED"


@mlflow_test
def test_mlflow_takes_odd_names_and_values(tmp_path, database):
    tracker = MLflow("tests", database)
    tracker.on_start(info(tmp_path))
    tracker.on_round_end(None, {"round": 1, "loss": math.nan, "eval_café (a).loss": 1.0})
    tracker.on_end("finished")
    client, found = mlflow_run(database, tmp_path)
    assert math.isnan(client.get_metric_history(found.info.run_id, "training/loss")[0].value)
    assert steps(client, found, "held_out/caf_ _a_.loss") == {(1, 1.0)}
