"""Commands around a run: the plan before, going on after, and looking at what came out; on a table and a small model of one's own."""

import csv
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from fedloom.cli import main
from fedloom.cli._main import _commands


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Arguments of a run of a second."""
    folder, rng = tmp_path_factory.mktemp("job"), np.random.default_rng(0)
    with (folder / "visits.csv").open("w") as file:
        print("who,age,weight,sick", file=file)
        for who in range(12):
            for _ in range(rng.integers(5, 20)):
                age, weight = rng.normal(size=2)
                print(f"u{who},{age:.3f},{weight:.3f},{int(age + weight + rng.normal() > 0)}", file=file)
    keras.utils.set_random_seed(0)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(folder / "model.keras")
    return [
        *("keras", "--model", str(folder / "model.keras"), "--data", str(folder / "visits.csv"), "--client", "who", "--label", "sick"),
        *("--inputs", "age", "weight", "--from-logits", "--rounds", "4", "--cohort-size", "4", "--evaluate-every", "2"),
    ]


@pytest.fixture(scope="module")
def run_dir(job, tmp_path_factory):
    """The folder of a finished run, which tests only read."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *job, "--run-dir", str(folder), "--json"]) == 0
    return folder


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def told(capsys):
    return json.loads(capsys.readouterr().out)


def test_the_plan_for_people_and_for_machines(job, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *job, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for text in ("12 to draw from, 4 per round", "each round", "96 bytes down", "memory", "time"):
        assert text in shown
    assert main(["train", *job, "--dry-run", "--json", "--privacy.noise-multiplier", "1", "--sampling", "poisson"]) == 0
    found = told(capsys)
    assert (found["clients"], found["rounds"], found["parameters"], found["evaluations"]) == (12, 4, 6, 3) and found["epsilon"] > 0
    assert not list(tmp_path.iterdir()), "a plan writes nothing"


def test_a_run_is_repeated_from_its_settings_and_flags_go_before_them(run_dir, tmp_path, capsys):
    assert main(["train", str(run_dir / "config.toml"), "--run-dir", str(tmp_path / "same"), "--json"]) == 0
    assert (tmp_path / "same" / "metrics.csv").read_bytes() == (run_dir / "metrics.csv").read_bytes()
    assert main(["train", str(run_dir / "config.toml"), "--rounds", "1", "--run-dir", str(tmp_path / "short"), "--json"]) == 0
    assert capsys.readouterr().out.count('"rounds": 1') == 1


def test_resume_gives_a_run_more_rounds(job, tmp_path, capsys):
    run_dir = str(tmp_path / "run")
    assert main(["train", *job, "--run-dir", run_dir, "--json"]) == 0
    assert main(["resume", run_dir, "--rounds", "6", "--json"]) == 0
    assert main(["train", *job, "--rounds", "6", "--run-dir", str(tmp_path / "whole"), "--json"]) == 0
    first, resumed, whole = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["rounds"], resumed["rounds"], resumed["loss_after"]) == (4, 6, whole["loss_after"])


def test_a_run_that_the_guard_stops_is_a_failed_one(job, tmp_path, capsys):
    bad = ["--client-learning-rate", "1000", "--guard.action", "stop", "--best-by", "loss"]
    assert main(["train", *job, *bad, "--run-dir", str(tmp_path / "run"), "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["status"] == "stopped" and "The guard stopped the run. Its best model, of round 0, is in" in shown.err


def test_evaluate_a_run_before_and_after_and_each_client(run_dir, tmp_path, capsys):
    assert main(["evaluate", str(run_dir), "--personalize", "--csv", str(tmp_path / "clients.csv"), "--json"]) == 0
    found = told(capsys)
    result = table(run_dir / "metrics.csv")
    assert found["central"]["start"]["loss"] == pytest.approx(float(result[0]["eval_loss"]))
    assert found["central"]["trained"]["loss"] == pytest.approx(float(result[-1]["eval_loss"]))
    assert found["personalized"]["loss"]["fine-tuned"]["num_clients"] == 12
    rows = table(tmp_path / "clients.csv")
    assert len(rows) == 12
    mean = np.average([float(row["trained.loss"]) for row in rows], weights=[float(row["num_examples"]) for row in rows])
    assert mean == pytest.approx(found["central"]["trained"]["loss"], rel=1e-5)
    assert found["clients"]["trained.loss"]["mean"] == pytest.approx(np.mean([float(row["trained.loss"]) for row in rows]))


def test_evaluate_prints_tables_and_takes_the_best_model_or_a_file(run_dir, capsys):
    assert main(["evaluate", str(run_dir), "--best"]) == 0
    shown = capsys.readouterr().out
    assert "all examples together" in shown and "best.accuracy" in shown and "each of 12 clients" in shown
    assert main(["evaluate", str(run_dir / "model.keras"), "--config", str(run_dir / "config.toml"), "--clients", "3", "--json"]) == 0
    assert list(told(capsys)["central"]) == ["model"]


def test_the_report_is_written_anew(run_dir, tmp_path, capsys):
    before = (run_dir / "report.html").read_bytes()
    (run_dir / "report.html").unlink()
    assert main(["report", str(run_dir), "--json"]) == 0
    assert told(capsys) == {"report": str(run_dir / "report.html")} and (run_dir / "report.html").read_bytes() == before


def test_the_doctor_says_what_is_missing(capsys, monkeypatch):
    assert main(["doctor", "--json"]) == 0
    found = told(capsys)
    assert found["environment"]["keras"] == keras.__version__ and found["machine"]["cores"] >= 1
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["doctor"]) == 0
    assert 'pip install "fedloom[wandb]"' in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "digits"], "TASK must be one of shakespeare, keras or a .toml file, got 'digits'"),
        (["train", "no.toml"], "There is no config file 'no.toml'"),
        (["resume", "nowhere"], "There is no config.toml in 'nowhere', so it is not the folder of a run"),
        (["evaluate", "nowhere"], "no model file 'nowhere'"),
        (["evaluate", "dickens", "--best"], "best is for run folders"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_paragraph_and_exit_code_2(args, message, capsys):
    assert main(args) == 2
    shown = capsys.readouterr()
    assert message in shown.err and "Traceback" not in shown.err


def test_a_run_started_from_python_says_how_to_go_on(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert main(["resume", str(tmp_path)]) == 2
    assert "was started from Python: go on with it there" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(_commands([])))
def test_the_help_of_every_command_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and f"Example: fedloom {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_bash_completes_commands_and_flags(tmp_path):
    """In a real shell, with the script that is printed."""
    script = subprocess.run([sys.executable, "-m", "fedloom", "completion", "bash"], capture_output=True, text=True, check=True).stdout
    (tmp_path / "completion").write_text(script)
    function = '$(complete -p fedloom | sed "s/.*-F \\([^ ]*\\) .*/\\1/")'
    ask = f'source completion; COMP_WORDS=(fedloom "$1" "$2"); COMP_CWORD=$3; {function}; echo "${{COMPREPLY[@]}}"'

    def complete(*words, at):
        done = subprocess.run(["bash", "-c", ask, "bash", *words, str(at)], capture_output=True, text=True, cwd=tmp_path, env=os.environ)
        return done.stdout.split()

    assert "resume" in complete("re", "", at=1) and "report" in complete("re", "", at=1)
    assert "--dry-run" in complete("train", "--dry", at=2)
