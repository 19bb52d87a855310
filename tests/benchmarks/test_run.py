"""The whole way, on the smallest case: processes that take turns, memory, losses."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks._data import write_workload
from benchmarks._memory import PeakMemory, tree
from benchmarks._run import Result, Row, run_case
from benchmarks._systems import FEDLOOM, System, chosen
from benchmarks._table import failures, table
from benchmarks._tasks import TASKS, quick

TINY = replace(quick(TASKS["T4"][0]), cohort=3, population=6, later_rounds=1, debug_rounds=2)


@pytest.mark.slow
def test_quick_run_agrees_with_the_debug_executor(tmp_path):
    workload = write_workload(TINY, tmp_path / "workload", TINY.later_rounds + 1)
    broken = System(name="broken", worker="no_such_worker")
    told: list[str] = []

    result = run_case(TINY, workload, [FEDLOOM["default"], broken], envs=tmp_path, cold=False, tell=told.append)

    fedloom, failed = result.rows
    assert len(fedloom.losses) == len(result.debug_losses) == 2
    np.testing.assert_allclose(fedloom.losses, result.debug_losses, rtol=1e-5)
    assert fedloom.first is None and fedloom.first_cold and fedloom.first_cold > sum(fedloom.seconds) > 0
    assert fedloom.peak_mb > fedloom.private_mb > 50  # JAX and Keras alone are more
    assert fedloom.compiled == [0]
    assert set(result.machine) == {"float32", "bfloat16"}
    assert "no_such_worker" in failed.error and any("broken failed" in line for line in told)
    assert [line for line in failures(result) if "broken" not in line] == []
    assert any("fedloom" in line for line in table(result))


def test_workload_holds_the_batches_that_fedloom_trains_on(tmp_path):
    """The rows of a client are its examples in the population, each once."""
    from benchmarks._data import open_dataset

    case = replace(TINY, cohort=2)
    workload = write_workload(case, tmp_path, 2)
    dataset = open_dataset(workload.case, tmp_path)
    for number, ids in enumerate(workload.clients):
        for client, rows in zip(ids, workload.round(number), strict=True):
            examples = dataset[client]
            assert sorted(rows.x[:, 0]) == sorted(np.asarray(examples["x"])[:, 0])
            assert sorted(rows.y) == sorted(np.asarray(examples["y"]))
    assert not set(workload.clients[0]) & set(workload.clients[1])


def test_peak_memory_sees_what_was_freed_before_it_looked():
    """512 MB, touched and given back by a process of its own, in less than it takes to look twice."""
    import subprocess

    code = "import sys; x = bytearray(512 * 2**20); del x; print('done', flush=True); sys.stdin.readline()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        memory = PeakMemory(process.pid)
        with memory:
            process.stdout.readline()
        assert 512 <= memory.resident_mb < 600
        assert memory.pids == {process.pid}
        process.stdin.close()


def test_tree_has_the_process_itself_first():
    import os

    assert tree(os.getpid())[0] == os.getpid()


def test_peers_without_an_environment_are_left_out(tmp_path: Path):
    assert [system.name for system in chosen(["default"], None, tmp_path)] == ["fedloom"]


STUBBORN = """
import json, os, sys, time
sys.stdin.readline(); print(json.dumps({"seconds": 1, "loss": 2}), flush=True)
sys.stdin.readline(); print("it fell over", file=sys.stderr, flush=True); os.close(1); time.sleep(600)
"""


def test_worker_that_does_not_end_by_itself_is_ended(tmp_path, monkeypatch):
    """It answers once, then closes its output and sleeps: the turn fails with its last words, and nothing of it is left."""
    from benchmarks import _worker

    monkeypatch.setattr(_worker, "LAST_SECONDS", 0.2)
    environment = {**os.environ, "BENCHMARK_WORKER": "test"}
    worker = _worker.Worker(System(name="stubborn", worker=""), [sys.executable, "-c", STUBBORN], environment, tmp_path / "log.txt")
    assert worker.turn() == {"seconds": 1, "loss": 2}
    with pytest.raises(_worker.WorkerFailed, match="it fell over"):
        worker.turn()
    worker.stop()  # as at the end of a run
    assert not [pid for pid in worker.memory.pids if (Path("/proc") / str(pid)).exists()]


@pytest.mark.parametrize(("debug_losses", "code"), [([4.0, 3.0], 0), ([4.0, 3.01], 1), ([4.0, float("nan")], 1), ([], 1)])
def test_exit_code_says_whether_losses_are_the_debug_executors(tmp_path, monkeypatch, capsys, debug_losses, code):
    """The second of two rounds differs by 0.3 %, is no number, or there is none at all."""
    from benchmarks import __main__ as command

    rows = [Row("fedloom", True, False, 9.0, 5.0, [1.0], [4.0, 3.0])]
    monkeypatch.setattr(
        command,
        "_measure",
        lambda case, *_, **__: Result(case, rows, [1.0, 1.0], {"float32": [9.0]}, debug_losses * bool(case.debug_rounds)),
    )
    assert command.main(["run", "T4", "--peers", "--out", str(tmp_path / "raw.json")]) == code
    assert ("FAILED T4-100" in capsys.readouterr().out) == bool(code)
    raw = json.loads((tmp_path / "raw.json").read_text())
    assert [result["rows"][0]["losses"] for result in raw["results"]] == [[4.0, 3.0]] * 2
