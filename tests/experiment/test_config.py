"""Settings as dataclasses, as TOML, and as what a run keeps."""

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedloom as fl
from fedloom.experiment import (
    TASKS,
    KerasConfig,
    Privacy,
    ShakespeareConfig,
    assemble,
    config_of,
    read_config,
    run_task,
    summary,
    write_config,
)


def read(tmp_path, text):
    (tmp_path / "run.toml").write_text(text)
    return read_config(tmp_path / "run.toml", TASKS)


def test_a_file_says_what_differs_from_the_defaults(tmp_path):
    config = read(tmp_path, 'task = "shakespeare"\nrounds = 3\nclients = ["A", "B"]\n[guard]\naction = "stop"\n[failures]\ntimeout = 2\n')
    expected = ShakespeareConfig(rounds=3, clients=("A", "B"), guard=fl.Guard(action="stop"), failures=fl.Failures(timeout=2.0))
    assert config == expected


@settings(max_examples=30)
@given(
    st.builds(
        ShakespeareConfig,
        rounds=st.integers(1, 99),
        max_batches=st.integers(0, 9),
        prompt=st.text(max_size=20).filter(lambda text: "\r" not in text),
        clients=st.lists(st.text("abc' \"\\\n", min_size=1), max_size=3).map(tuple),
        best_by=st.none() | st.just("lower:loss"),
        data_path=st.none() | st.text("ab/", min_size=1),
        client_learning_rate=st.floats(1e-9, 1e9),
        guard=st.builds(fl.Guard, patience=st.integers(1, 5)),
        privacy=st.builds(Privacy, delta=st.none() | st.floats(1e-9, 0.5)),
    )
)
def test_what_is_written_reads_back_equal(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("config") / "config.toml"
    write_config(config, path)
    assert read_config(path, TASKS) == config


def test_no_setting_with_a_value_by_default_can_be_none():
    """TOML has no null, so None can only be what is not written."""
    for kind in TASKS.values():
        for field in dataclasses.fields(kind):
            assert field.default is None or "None" not in str(field.type), field.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rounds = ", "run.toml is not a TOML file"),
        ('task = "digits"', "task must be one of 'shakespeare', 'keras', got 'digits'"),
        ("ronds = 3", "there is no setting 'ronds', perhaps 'rounds' is meant"),
        ("[guard]\naction_ = 'x'", "there is no setting 'guard.action_', perhaps 'action' is meant"),
        ("guard = 'stop'", r"guard must be a table, \[guard\], got 'stop'"),
        ("rounds = 'many'", "rounds: .*valid integer.*got 'many'"),
        ("rounds = 1.5", "rounds: .*integer.*got 1.5"),
        ("rounds = 0", "rounds must be at least 1, got 0"),
        ("[guard]\naction = 'shout'", "guard.action: .*got 'shout'"),
        ("[failures]\nover_selection = 0.5", "failures.over_selection must be at least 1, got 0.5"),
        ("[privacy]\nnoise_multiplier = -1", "privacy.noise_multiplier must be a number >= 0"),
        ('sampling = "all"', "sampling: .*got 'all'"),
        ('clients = ["A"]\nsampling = "tff"', "sampling must be left at"),
        ('task = "keras"\nmodel = "m.keras"', "data: Field required"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(text, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, text)
    assert "run.toml" in str(caught.value)


def test_there_is_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no config file .*nothing.toml"):
        read_config(tmp_path / "nothing.toml", TASKS)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table with a client column, and a model for it."""
    folder, rng = tmp_path_factory.mktemp("table"), np.random.default_rng(0)
    lines = ["who,age,weight,sick"]
    for who in range(12):
        for _ in range(rng.integers(5, 20)):
            age, weight = rng.normal(size=2)
            lines.append(f"u{who},{age:.3f},{weight:.3f},{int(age + weight > 0)}")
    (folder / "visits.csv").write_text("\n".join(lines))
    keras.utils.set_random_seed(0)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(folder / "model.keras")
    return folder


def own(table, **changes):
    given = {"model": str(table / "model.keras"), "data": str(table / "visits.csv"), "client": "who", "inputs": ("age", "weight")}
    return KerasConfig(**{**given, "label": "sick", "from_logits": True, "rounds": 6, "cohort_size": 4, "evaluate_every": 3, **changes})


def test_a_model_and_data_of_ones_own_need_no_python(table, tmp_path):
    result = run_task(assemble(own(table)), tmp_path / "run", progress=False)
    found = summary(result)
    assert found["loss_after"] < found["loss_before"] and found["accuracy_after"] > 0.5
    repeated = run_task(assemble(config_of(tmp_path / "run")), tmp_path / "again", progress=False)
    for name in ("metrics.csv", "held_out_clients.csv", "config.toml"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "run" / name).read_bytes(), name
    for a, b in zip(result.weights.trainable, repeated.weights.trainable, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("algorithm", ["fedprox", "fedsgd", "mimelite"])
def test_algorithms_by_name(table, algorithm, tmp_path):
    result = run_task(assemble(own(table, algorithm=algorithm, rounds=2)), tmp_path / "run", progress=False)
    assert result.process.algorithm.name == algorithm and np.isfinite(result.history[-1]["eval_loss"])


@pytest.mark.parametrize("sampling", ["poisson", "uniform"])
def test_privacy_by_settings_spends_what_its_rounds_cost(table, sampling, tmp_path):
    config = own(table, sampling=sampling, privacy=Privacy(noise_multiplier=2.0, clip=0.5, delta=1e-3))
    result = run_task(assemble(config), tmp_path / "run", progress=False)
    population = len(result.process.privacy.sampling.__dict__) and 12
    accounted = {"poisson": fl.privacy.Poisson, "uniform": fl.privacy.FixedSize}[sampling](4, population)
    assert result.history[-1]["epsilon"] == pytest.approx(fl.privacy.epsilon(accounted, 2.0, 6, 1e-3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "ill"}, "The data have no column 'ill'"),
        ({"inputs": ("age", "wight")}, "The data have no column 'wight'; there are age, sick, weight"),
        ({"inputs": ()}, "The data have no column 'x'; there are age, sick, weight. Name the columns"),
        ({"data": "nowhere.csv"}, "nowhere.csv"),
        ({"model": "nothing.keras"}, "no model file 'nothing.keras'"),
        ({"privacy": Privacy(noise_multiplier=1.0), "sampling": "cyclic"}, 'privacy needs sampling="poisson" or "uniform"'),
        ({"held_out_share": 1.0}, r"held_out_share must be in \(0, 1\)"),
    ],
)
def test_settings_that_do_not_fit_the_data(table, changes, message, tmp_path):
    with pytest.raises(Exception, match=message):
        run_task(assemble(own(table, **changes)), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "metrics.csv").exists()
