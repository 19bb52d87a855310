"""What can be wrong with a run folder, and what a run says about it; that a resumed run ends with the same bytes is in `test_kills.py`."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from contracts.lines import assert_identical, line_clients, line_model, padded
from filelock import FileLock

import fedloom as fl
from fedloom.core import CheckpointMismatch, RunInterrupted
from fedloom.experiment import _outputs
from fedloom.experiment._checkpoint import CheckpointFolder

START = {"w": np.array([0.5, 0.25, -1.0], np.float32), "b": np.float32(0.125)}
MODEL = line_model()


class Stop(Exception):
    """Stands for a crash."""


class CrashAt(fl.Callback):
    def __init__(self, round_number):
        self._round = round_number

    def on_round_end(self, state, row):
        if row["round"] == self._round:
            raise Stop


def dataset():
    return fl.data.FederatedDataset.from_dict(line_clients([3, 9, 4, 6]))


def make_process(**settings):
    settings = {"seed": 1, "batching": padded, "aggregator": None, "rate": 0.1, **settings}
    algorithm = settings.pop("algorithm", None) or fl.algorithms.fedavg(MODEL, fl.optimizers.sgd(settings.pop("rate")))
    settings.pop("rate", None)
    return fl.LearningProcess(algorithm, **settings)


def train(run_dir, process=None, *, rounds=6, resume=False, **arguments):
    arguments = {"checkpoints": fl.Checkpoints(every=1), "initial": START, "evaluate": dataset(), "evaluate_every": 2, **arguments}
    return fl.train(
        process or make_process(), arguments.pop("dataset", None) or dataset(), cohort_size=2, rounds=rounds, run_dir=run_dir,
        resume=resume, progress=arguments.pop("progress", False), **arguments,
    )  # fmt: skip


@pytest.fixture
def crashed(tmp_path):
    """A run that crashed in round 5 of 6, after round 4 was saved."""
    with pytest.raises(Stop):
        train(tmp_path / "run", callbacks=[CrashAt(5)])
    return tmp_path / "run"


def checkpoints(run_dir):
    return sorted((run_dir / "checkpoints").iterdir())


def test_a_crashed_run_says_so_and_goes_on_where_it_was(crashed, tmp_path):
    status = json.loads((crashed / "status.json").read_text())
    assert (status["status"], status["round"]) == ("failed", 5) and "Stop" in status["reason"]
    whole, rounds = train(tmp_path / "whole"), []

    class Watch(fl.Callback):
        def on_start(self, run):
            rounds.extend(-row["round"] for row in run.history)

        def on_round_end(self, state, row):
            rounds.append(row["round"])

    result = train(crashed, resume=True, callbacks=[Watch()])
    assert rounds == [0, -1, -2, -3, -4, 5, 6]  # the round that crashed is done again
    assert_identical(result.weights, whole.weights)
    assert (crashed / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()
    assert json.loads((crashed / "status.json").read_text())["status"] == "finished"


def test_a_finished_run_can_be_given_more_rounds(tmp_path):
    train(tmp_path / "run", rounds=4)
    result = train(tmp_path / "run", rounds=6, resume=True)
    assert_identical(result.weights, train(tmp_path / "whole", rounds=6).weights)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["rounds"] == 6
    with pytest.raises(ValueError, match="rounds must be at least 6"):
        train(tmp_path / "run", rounds=5, resume=True)


def test_resume_begins_where_nothing_was_done(tmp_path):
    result = train(tmp_path / "run", rounds=2, resume=True)
    assert_identical(result.weights, train(tmp_path / "whole", rounds=2).weights)


def test_what_a_kill_at_the_very_start_leaves_is_no_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".config.{32 * 'a'}.json").write_text("{")  # as `_files.replacing` names what it has not finished
    assert train(tmp_path / "run", rounds=1, resume=True).history
    assert not list((tmp_path / "run").glob(".config*"))


def test_a_folder_with_a_run_is_not_begun_anew(crashed):
    before = sorted(path.name for path in crashed.iterdir())
    with pytest.raises(ValueError, match="new or empty folder.*resume=True"):
        train(crashed)
    assert sorted(path.name for path in crashed.iterdir()) == before


@pytest.mark.parametrize("damage", ["cut off", "one bit", "emptied"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(crashed, damage, tmp_path, capsys):
    newest = checkpoints(crashed)[-1]
    data = bytearray(newest.read_bytes())
    if damage == "one bit":
        data[len(data) // 2] ^= 1
    newest.write_bytes(b"" if damage == "emptied" else data[: len(data) // 2] if damage == "cut off" else data)
    result = train(crashed, resume=True, progress="plain")
    shown = capsys.readouterr().err
    assert f"The checkpoint {newest} is damaged" in shown and "Going back to the one before" in shown
    assert newest.with_name(f"{newest.name}.damaged").exists()
    assert_identical(result.weights, train(tmp_path / "whole").weights)


def test_without_a_whole_checkpoint_a_run_is_not_begun_anew(crashed):
    for path in checkpoints(crashed):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointMismatch, match=r"All \d checkpoints .* are damaged"):
        train(crashed, resume=True)
    shutil.rmtree(crashed / "checkpoints")
    with pytest.raises(CheckpointMismatch, match="has 5 rounds in metrics.csv, but no checkpoint"):
        train(crashed, resume=True)


def scaffold():
    return make_process(algorithm=fl.algorithms.scaffold(MODEL, 0.1, population=4))


def other_model():
    model = fl.models.from_functions(lambda key: jnp.zeros(3), lambda w, x: x @ w, lambda y, p: (y - p) ** 2)
    return make_process(algorithm=fl.algorithms.fedavg(model, fl.optimizers.sgd(0.1)))


@pytest.mark.parametrize(
    ("process", "arguments", "message"),
    [
        (lambda: make_process(seed=2), {}, "seed was 1, now it is 2"),
        (lambda: make_process(batching=fl.data.Batching(size=3)), {}, "batching was .*'size': 4.*now"),
        (lambda: make_process(aggregator=fl.aggregators.median()), {}, "aggregator was 'mean', now it is 'median'"),
        (scaffold, {}, "algorithm was 'fedavg', now it is 'scaffold'"),
        (other_model, {"initial": None}, "cannot go on from its checkpoint.*another process"),
        (make_process, {"evaluate_every": 3}, "evaluate_every was 2, now it is 3"),
        (make_process, {"dataset": fl.data.FederatedDataset.from_dict(line_clients([3, 9]))}, "num_clients was 4, now it is 2"),
        (make_process, {"config": {"note": "other"}}, "note was None, now it is 'other'"),
    ],
)
def test_a_run_of_something_else_is_refused_with_what_differs(crashed, process, arguments, message):
    before = {path: path.read_bytes() for path in crashed.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointMismatch, match=message):
        train(crashed, process(), resume=True, **arguments)
    assert {path: path.read_bytes() for path in crashed.rglob("*") if path.is_file()} == before


def test_other_versions_are_refused_unless_wanted(crashed, monkeypatch, tmp_path):
    here = _outputs.environment()
    monkeypatch.setattr(_outputs, "environment", lambda: {**here, "jax": "0.0.1"})
    with pytest.raises(CheckpointMismatch, match=f"jax was '{here['jax']}', now it is '0.0.1'"):
        train(crashed, resume=True)
    result = train(crashed, resume="anywhere")
    assert_identical(result.weights, train(tmp_path / "whole").weights)


def test_a_checkpoint_of_another_format_is_refused(crashed):
    newest = checkpoints(crashed)[-1]
    with zipfile.ZipFile(newest) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    entries["state.json"] = json.dumps({**json.loads(entries["state.json"]), "format": 99}).encode()
    with zipfile.ZipFile(crashed / "new.zip", "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
    import hashlib

    digest = hashlib.sha256((crashed / "new.zip").read_bytes()).hexdigest()[:16]
    newest.unlink()
    (crashed / "new.zip").rename(newest.with_name(f"round-000005.{digest}.ckpt"))
    with pytest.raises(CheckpointMismatch, match="has format 99, and this version of fedloom reads 1"):
        train(crashed, resume=True)


def test_a_run_folder_is_one_process_own(crashed):
    with FileLock(crashed / ".lock"), pytest.raises(ValueError, match="Another process is at work on the run in"):
        train(crashed, resume=True)


def test_no_run_to_resume(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="There is no run to resume in"):
        train(tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume needs a run_dir"):
        train(None, resume=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="run_dir must be a folder, got the file"):
        train(tmp_path / "file")


def test_a_full_disk_ends_the_run_and_what_was_saved_is_there(tmp_path, monkeypatch):
    """In the middle of a checkpoint, as the system says it."""
    original = np.lib.format.write_array
    written = []

    def full_from_the_tenth(*args, **kwargs):
        written.append(1)
        if len(written) > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(np.lib.format, "write_array", full_from_the_tenth)
    with pytest.raises(OSError, match="The disk is full: .*ckpt could not be written. Free some space"):
        train(tmp_path / "run")
    monkeypatch.undo()
    assert not [path for path in (tmp_path / "run").rglob("*") if "unfinished" in path.name]
    assert_identical(train(tmp_path / "run", resume=True).weights, train(tmp_path / "whole").weights)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may mount")
def test_a_really_full_disk_and_a_read_only_folder(tmp_path):
    """On a file system of 400 kB, which is then mounted read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine allows no mounts")
    try:
        (disk / "ballast").write_bytes(bytes(250_000))
        with pytest.raises(OSError, match="The disk is full"):
            train(disk / "run", rounds=80, checkpoints=fl.Checkpoints(every=1, keep_last=50))
        (disk / "ballast").unlink()
        (disk / "run" / "curve.png").unlink(missing_ok=True)
        rounds = json.loads((disk / "run" / "status.json").read_text())["rounds"]
        done = max(int(path.name[6:12]) for path in checkpoints(disk / "run"))
        assert rounds == 80 and done > 0
        result = train(disk / "run", rounds=80, resume=True, checkpoints=fl.Checkpoints(every=50, keep_last=1))
        assert_identical(result.weights, train(tmp_path / "whole", rounds=80).weights)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for run_dir, resume in ((disk / "run", True), (disk / "new", False)):
            with pytest.raises(OSError, match="cannot be written to"):
                train(run_dir, resume=resume)
    finally:
        subprocess.run(["umount", disk], check=True)


SCRIPT = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {repository!r}]
from experiment.test_resume import CrashAt, dataset, train
import fedloom as fl

class Signal(fl.Callback):
    def on_round_end(self, state, row):
        if row["round"] == 2:
            os.kill(os.getpid(), signal.{name})

train({run_dir!r}, callbacks=[Signal()], progress="plain")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_lets_the_round_finish_saves_and_tells_how_to_go_on(name, tmp_path):
    tests = os.path.dirname(os.path.dirname(__file__))
    script = SCRIPT.format(tests=tests, repository=os.path.dirname(tests), name=name, run_dir=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and f"{name}: finishing this round, then saving" in done.stderr
    assert f"fedloom resume {tmp_path / 'run'}" in done.stderr
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["status"], status["round"], status["reason"]) == ("interrupted", 2, name)
    assert_identical(train(tmp_path / "run", resume=True).weights, train(tmp_path / "whole").weights)


def test_an_interrupted_run_raises_what_a_caller_can_catch(tmp_path):
    class Interrupt(fl.Callback):
        def on_round_end(self, state, row):
            if row["round"] == 3:
                signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RunInterrupted, match="Stopped by SIGINT after round 3 of 6, and saved") as caught:
        train(tmp_path / "run", callbacks=[Interrupt()])
    assert (caught.value.run_dir, caught.value.round_number) == (str(tmp_path / "run"), 3)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (fl.Checkpoints(every=1, keep_last=2, keep_best=False), [5, 6]),
        (fl.Checkpoints(every=1, keep_last=4, keep_best=False), [3, 4, 5, 6]),
        (fl.Checkpoints(every=4, keep_last=2, keep_best=False), [4, 6]),
        (fl.Checkpoints(every=1, keep_last=1, keep_best=True), [2, 6]),
    ],
)
def test_the_checkpoints_that_are_kept(policy, kept, tmp_path):
    """Held-out loss is lowest in round 2: the rate is such that the model first learns and then leaves."""
    rounds = iter([1.0, 0.5, 0.7, 0.8])
    process = make_process()
    process.evaluate = lambda state, clients: {"loss": next(rounds)}
    train(tmp_path / "run", process, checkpoints=policy, guard="off")
    assert [int(path.name[6:12]) for path in checkpoints(tmp_path / "run")] == kept


def test_checkpoints_take_a_twentieth_of_the_time_unless_told_otherwise(tmp_path):
    now = [0.0]
    process = make_process()
    save = process.save

    def slow_save(*args, **kwargs):
        now[0] += 1.0
        return save(*args, **kwargs)

    process.save = slow_save
    folder = CheckpointFolder(tmp_path, process, fl.Checkpoints(), clock=lambda: now[0])
    assert folder.is_due(1)
    folder.save(process.initialize(START), {})
    now[0] += 19.0
    assert not folder.is_due(2)
    now[0] += 1.5
    assert folder.is_due(3)


@pytest.mark.parametrize(("settings", "message"), [({"every": 0}, "checkpoints.every"), ({"keep_last": 0}, "checkpoints.keep_last")])
def test_policies_out_of_range(settings, message):
    with pytest.raises(ValueError, match=f"{message} must be at least 1, got 0"):
        fl.Checkpoints(**settings)


def test_a_damaged_checkpoint_does_not_count_among_those_that_are_kept(crashed):
    """With one kept, writing the next must not remove the whole one in favour of the damaged one before it is there."""
    newest = checkpoints(crashed)[-1]
    newest.write_bytes(b"damaged")
    seen = []

    class Watch(fl.Callback):
        def on_round_end(self, state, row):
            seen.append([path.name for path in checkpoints(crashed) if path.suffix == ".ckpt"])

    train(crashed, resume=True, checkpoints=fl.Checkpoints(every=1, keep_last=1, keep_best=False), callbacks=[Watch()])
    assert all(seen)


def test_a_hand_in_the_folder_is_no_reason_to_end_the_run(tmp_path):
    class Spoil(fl.Callback):
        def on_round_end(self, state, row):
            (tmp_path / "run" / "samples.json").write_text("{")

    result = train(tmp_path / "run", callbacks=[Spoil()])
    assert result.status == "finished"
    assert "The report could not be written" in (tmp_path / "run" / "warnings.csv").read_text()


def test_limits_of_failures_may_change_but_not_who_is_drawn(crashed):
    with pytest.raises(CheckpointMismatch, match="failures was"):
        train(crashed, resume=True, failures=fl.Failures(over_selection=1.5))
    assert train(crashed, resume=True, failures=fl.Failures(min_reports=1, max_attempts=9, timeout=60.0)).status == "finished"


def test_data_of_other_sizes_are_other_data(crashed):
    other = fl.data.FederatedDataset.from_dict(line_clients([3, 9, 5, 6]))
    with pytest.raises(CheckpointMismatch, match="clients_digest was"):
        train(crashed, resume=True, dataset=other)
