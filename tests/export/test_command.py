"""`fedloom export` on the folder of a run, as a user runs it."""

import json
import subprocess

import numpy as np
import pytest
from golden_cases import keras

import fedloom as fl
from fedloom.cli import main
from fedloom.experiment import KerasConfig, write_config


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """What a run leaves of interest here: its settings, and the newest model."""
    folder = tmp_path_factory.mktemp("run")
    table = ["client_id,a,b,y", *(f"{c},{i},{i * i},{i % 2}" for c in ("ada", "bob") for i in range(6))]
    (folder / "data.csv").write_text("\n".join(table))
    keras.utils.set_random_seed(0)
    keras_model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    keras_model.save(folder / "start.keras")
    config = KerasConfig(
        model=str(folder / "start.keras"), data=str(folder / "data.csv"), inputs=("a", "b"), batch_size=3, cohort_size=1, from_logits=True
    )
    write_config(config, folder / "config.toml")
    keras_model.set_weights([w + 1 for w in keras_model.get_weights()])
    keras_model.save(folder / "model.keras")
    return folder, keras_model


def test_a_run_is_exported_and_compiled(run_dir, capsys):
    folder, keras_model = run_dir
    assert main(["export", str(folder), "--native", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["directory"] == str(folder / "export") and found["batch_size"] == 3 and found["algorithm"] == "fedavg"
    client = fl.export.load(folder / "export")
    for name, weight in zip(client.weights(), keras_model.weights, strict=True):
        np.testing.assert_array_equal(client.weights()[name], weight)
    assert [array.shape for array in client.manifest.batch_columns] == [("b", 2), ("b",), ("b",), ("b",)]
    native = found["native"]
    environment = {"PATH": "/usr/bin:/bin", "IREE_RUN_MODULE": native["run_module"]}
    script = f"{native['directory']}/train_one_batch.sh"
    done = subprocess.run(["sh", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "loss " in done.stdout


def test_it_says_what_it_wrote_and_what_is_missing(run_dir, tmp_path, capsys):
    folder, _ = run_dir
    assert main(["export", str(folder), "--out", str(tmp_path / "out"), "--batch-size", "7"]) == 0
    shown = capsys.readouterr()
    assert "programs" in shown.out and "manifest" in shown.out and "written in" in shown.out
    assert fl.export.load(tmp_path / "out").manifest.batch_size == 7
    for arguments, message in (
        ([str(folder / "start.keras")], "out must name the folder to write for a model"),
        ([str(folder), "--best"], "There is no best/model.keras"),
        ([str(folder), "--config", str(folder / "config.toml")], "config must be left out for a run folder"),
        ([str(folder / "start.keras"), "--best"], "best is for run folders"),
        ([str(folder), "--out", str(folder)], "directory must be new, empty or an export"),
    ):
        assert main(["export", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_model_is_exported_with_the_settings_of_a_file(run_dir, tmp_path, capsys):
    folder, _ = run_dir
    target, config = str(folder / "model.keras"), str(folder / "config.toml")
    assert main(["export", target, "--config", config, "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_symbolic"] == {}
    first = next(iter(fl.export.load(tmp_path / "out").weights().values()))
    np.testing.assert_array_equal(first, keras.models.load_model(folder / "model.keras").weights[0])
