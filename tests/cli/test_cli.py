"""The commands as a user runs them, on a small model and TFF's layout of data in small."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from golden_cases import keras

import fedloom as fl
from fedloom.cli import main
from fedloom.cli._main import Pretrain
from fedloom.text import PretrainConfig

TEXT = "Shall I compare thee to a summer's day? Thou art more lovely and more temperate. "


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Arguments for a run of seconds: a tiny model file, and four clients."""
    folder = tmp_path_factory.mktemp("job")
    for split, repeats in (("train", 3), ("test", 1)):
        with h5py.File(folder / f"shakespeare_{split}.h5", "w") as file:
            for i in range(4):
                file.create_dataset(f"examples/PLAY_ROLE_{i}/snippets", data=np.array([TEXT.encode()] * (i + 1) * repeats))
    keras.utils.set_random_seed(0)
    fl.models.char_gru(embedding=4, units=8).save(folder / "tiny.keras")
    return [
        *("--model", str(folder / "tiny.keras"), "--source", "tff", "--data-path", str(folder)),
        *("--rounds", "2", "--cohort-size", "2", "--batch-size", "4", "--length", "20", "--evaluate-every", "1", "--sample-length", "20"),
        *("--min-examples", "1", "--client-optimizer", "sgd", "--client-learning-rate", "0.1"),
    ]


def test_train_then_generate_from_its_run_folder(job, tmp_path, capsys):
    assert main(["train", "shakespeare", *job, "--run-dir", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr()
    assert "text before training" in shown.out and "held-out accuracy" in shown.out
    assert "round    2/2  held out loss" in shown.err
    assert {"config.toml", "model.keras", "report.html", "samples.json"} <= {p.name for p in (tmp_path / "run").iterdir()}
    assert main(["generate", str(tmp_path / "run"), "--prompt", "Shall I", "--length", "12"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Shall I") and len(text) == len("Shall I") + 12 + 1


def test_train_prints_json_for_machines(job, tmp_path, capsys):
    assert main(["train", *job, "--run-dir", str(tmp_path / "run"), "--json"]) == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert result["rounds"] == 2 and 0 <= result["accuracy_after"] <= 1
    assert "round" not in shown.err  # warnings alone


@pytest.mark.parametrize(
    "options",
    [
        ["--epochs", "2", "--max-batches", "3", "--client-weight", "tokens", "--sampling", "tff"],
        ["--client-optimizer", "adam", "--client-learning-rate", "0.001", "--client-weight", "uniform", "--remainder", "drop"],
        ["--compute", "bfloat16", "--server-optimizer", "momentum", "--server-learning-rate", "0.5"],
        ["--rnn-state", "carry", "--no-shuffle", "--clients", "PLAY_ROLE_0", "PLAY_ROLE_3"],
    ],
    ids=lambda options: options[0],
)
def test_every_extension_of_the_tutorial_is_an_option(job, options, tmp_path, capsys):
    assert main(["train", *job, "--rounds", "1", *options, "--run-dir", str(tmp_path / "run"), "--json"]) == 0
    assert np.isfinite(json.loads(capsys.readouterr().out)["loss_after"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cohort-size", "9"], "cohort_size must be in"),
        (["--rounds", "0"], "rounds must be at least 1"),
        (["--clients", "PLAY_ROLE_9"], "has no client 'PLAY_ROLE_9'"),
        (["--model", "nothing.keras"], "no model file 'nothing.keras'"),
        (["--data-path", "nowhere"], "nowhere"),
        (["--rnn-state", "carry"], "shuffle must be off"),
        (["--client-learning-rate", "-1"], "client_learning_rate must be a positive number"),
        (["--prompt", "\u2603"], "outside the vocabulary"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_one_paragraph_exit_code_2_and_nothing_left_behind(job, options, message, tmp_path, capsys):
    assert main(["train", *job, *options, "--run-dir", str(tmp_path / "run"), "--json"]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and "Traceback" not in shown.err and shown.out == ""
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_vocabulary_is_refused(job, tmp_path, capsys):
    fl.models.char_gru(90, embedding=4, units=8).save(tmp_path / "other.keras")
    assert main(["train", *job, "--model", str(tmp_path / "other.keras"), "--run-dir", str(tmp_path / "run")]) == 2
    assert "vocabulary of 86 characters" in capsys.readouterr().err


def test_pretrain_writes_a_model_that_generates(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT * 8)
    small = ["--embedding", "4", "--units", "8", "--epochs", "1", "--batch-size", "4", "--length", "10", "--validation-share", "0.3"]
    assert main(["pretrain", str(tmp_path / "text.txt"), "--out", str(tmp_path / "m.keras"), *small]) == 0
    assert "validation loss" in capsys.readouterr().out
    assert main(["generate", str(tmp_path / "m.keras"), "--prompt", "Thou", "--length", "3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["text"]) == 7


def test_the_flags_of_pretrain_are_its_settings_with_the_same_defaults():
    flags = {f.name: f.default for f in dataclasses.fields(Pretrain)}
    for setting in dataclasses.fields(PretrainConfig):
        assert flags[setting.name] == setting.default, setting.name


@pytest.mark.parametrize("command", [[], ["train"], ["generate"], ["pretrain"]])
def test_help_says_what_a_command_does(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out.lower()
