import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden_cases import keras

import fedloom as fl
from fedloom.kernels import native

ROWS = {"ada": 5, "bob": 9, "cy": 1, "dee": 7}


def dataset():
    rng = np.random.default_rng(0)
    clients = {name: {"x": rng.normal(size=(n, 3)).astype(np.float32), "y": rng.integers(2, size=n)} for name, n in ROWS.items()}
    return fl.data.FederatedDataset.from_dict(clients)


def classifier():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="classifier")


def make_process(keras_model, rate=0.1, **arguments):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = fl.models.from_keras(keras_model, loss, [keras.metrics.SparseCategoricalAccuracy(name="accuracy")])
    return fl.LearningProcess(fl.algorithms.fedavg(model, optax.sgd(rate)), batching=fl.data.Batching(size=4), **arguments)


def test_a_run_leaves_its_settings_metrics_curve_and_model(tmp_path):
    keras_model = classifier()
    start = [np.array(w) for w in keras_model.get_weights()]
    result = fl.train(
        make_process(keras_model),
        dataset(),
        cohort_size=2,
        rounds=5,
        initial=keras_model,
        evaluate=dataset(),
        evaluate_every=2,
        run_dir=tmp_path / "run",
        progress=False,
    )
    assert sorted(p.name for p in (tmp_path / "run").iterdir() if p.name != ".lock") == [
        *("best", "checkpoints", "config.json", "curve.png", "held_out_clients.csv", "metrics.csv"),
        *("model.keras", "report.html", "status.json", "timing.csv", "warnings.csv"),
    ]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["cohort_size"], config["sampling"]) == (2, "uniform")
    kernels = native()
    assert config["environment"]["jax"] == jax.__version__
    assert config["environment"]["native_kernels"] == (kernels.instruction_set or f"none: {kernels.missing}")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["round"]) for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["round"] for row in rows if row["eval_loss"]] == ["0", "2", "4", "5"]
    for w, kept in zip(keras_model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(w, kept, err_msg="training must not touch the user's model")
    result.assign_to(keras_model)
    saved = keras.saving.load_model(tmp_path / "run" / "model.keras")
    for a, b, before in zip(keras_model.get_weights(), saved.get_weights(), start, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.any(a != before)


def test_plain_keras_evaluates_to_the_same_numbers():
    keras_model = classifier()
    held_out = dataset()
    result = fl.train(make_process(keras_model), held_out, cohort_size=3, rounds=2, initial=keras_model, evaluate=held_out, progress=False)
    result.assign_to(keras_model)
    keras_model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    x, y = (np.concatenate([held_out[client][name] for client in held_out]) for name in "xy")
    loss, accuracy = keras_model.evaluate(x, y, batch_size=len(x), verbose=0)
    assert result.history[-1]["eval_loss"] == pytest.approx(loss, rel=1e-6)
    assert result.history[-1]["eval_accuracy"] == pytest.approx(accuracy, rel=1e-6)


def test_the_same_seed_gives_the_same_bits_and_every_round_a_cohort_of_its_own():
    cohorts = []

    def spy(client_ids, size):
        sample = fl.data.uniform(client_ids, size, seed=5)
        return lambda r: cohorts.append(sample(r)) or sample(r)

    results = []
    for _ in range(2):
        keras_model = classifier()
        data = dataset()
        results.append(
            fl.train(
                make_process(keras_model, seed=5),
                data,
                cohort_size=2,
                rounds=4,
                initial=keras_model,
                sampling=spy(data.client_ids, 2),
                progress=False,
            )
        )
    assert cohorts[:4] == cohorts[4:]
    assert len({tuple(sorted(cohort)) for cohort in cohorts}) > 1
    for a, b in zip(results[0].weights.trainable, results[1].weights.trainable, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cohort_size": 5}, r"cohort_size must be in \[1, 4\].*got 5"),
        ({"cohort_size": 0}, r"cohort_size must be in \[1, 4\]"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"evaluate_every": 0}, "evaluate_every must be at least 1"),
        ({"sampling": "random"}, "sampling must be one of"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, arguments, message):
    arguments = {"cohort_size": 2, "rounds": 1, **arguments}
    with pytest.raises(ValueError, match=message):
        fl.train(make_process(classifier()), dataset(), run_dir=tmp_path / "run", progress=False, **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["weighted", "cyclic"])
def test_cohorts_by_name_are_those_of_the_sampler(name):
    """With the seed of the process, and by weight with the number of examples."""
    data = dataset()
    samplers = {
        "weighted": fl.data.weighted(data.client_ids, list(ROWS.values()), 3, seed=6),
        "cyclic": fl.data.cyclic(data.client_ids, 3, seed=6),
    }
    process = make_process(classifier(), seed=6, client_metrics=True)
    result = fl.train(process, data, cohort_size=3, rounds=4, sampling=name, progress=False)
    assert [row["client"] for row in result.clients] == [client for r in range(4) for client in samplers[name](r)]


def test_a_deployed_round_shows_what_became_of_the_devices(tmp_path):
    data = dataset()
    devices = fl.data.Devices(num_clients=4, presence=0.6, dropout=0.2, latency=3.0, seed=1)
    sample = fl.data.available(devices, data.client_ids, data.size_array(), 2, seed=1)
    process = make_process(classifier(), client_metrics=True)
    result = fl.train(process, data, cohort_size=2, rounds=4, sampling=sample, run_dir=tmp_path / "run", progress=False)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))[1:]
    for r, row in enumerate(rows):
        happened = sample.round(r)
        assert [client["client"] for client in result.clients if client["round"] == r + 1] == happened.ids
        assert {name: float(row[name]) for name in happened.metrics()} == happened.metrics()
        assert float(row["num_clients"]) == len(happened.ids)


def test_an_abandoned_round_changes_nothing_and_says_so(capsys):
    data = dataset()
    devices = fl.data.Devices(num_clients=4, presence=1.0, swing=0.0, dropout=1.0)
    sample = fl.data.available(devices, data.client_ids, data.size_array(), 3)
    keras_model = classifier()
    result = fl.train(make_process(keras_model), data, cohort_size=3, rounds=1, initial=keras_model, sampling=sample)
    assert "The round was abandoned: 0 of the 4 devices asked reported in time." in capsys.readouterr().err
    for after, before in zip(result.weights.trainable, keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)


def test_a_run_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="new or empty folder"):
        fl.train(make_process(classifier()), dataset(), cohort_size=2, rounds=1, run_dir=tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_client_with_nan_is_left_out_and_said_so(capsys):
    poisoned = {name: dict(dataset()[name]) for name in ROWS}
    poisoned["bob"]["x"] = np.full((9, 3), np.nan, np.float32)
    data = fl.data.FederatedDataset.from_dict(poisoned)
    result = fl.train(make_process(classifier()), data, cohort_size=4, rounds=1)
    assert result.history[-1]["num_nonfinite_clients"] == 1
    assert result.history[-1]["num_examples"] == sum(ROWS.values()) - ROWS["bob"]
    assert all(np.isfinite(w).all() for w in result.weights.trainable)
    assert "1 client left out" in capsys.readouterr().err


def test_a_round_without_anything_to_learn_from_changes_nothing(capsys):
    """Under `remainder="drop"` no client here fills a batch of 10."""
    model = fl.models.from_functions(lambda key: jnp.ones(3), lambda w, x: x @ w, lambda y, p: (y - p) ** 2)
    process = fl.LearningProcess(fl.algorithms.fedavg(model, optax.sgd(0.1)), batching=fl.data.Batching(size=10, remainder="drop"))
    result = fl.train(process, dataset(), cohort_size=4, rounds=1)
    assert result.history[-1]["accepted"] == 0
    np.testing.assert_array_equal(result.weights.trainable, np.ones(3))
    assert "changed nothing" in capsys.readouterr().err


def test_further_data_sets_are_evaluated_at_the_same_rounds():
    keras_model, data = classifier(), dataset()
    further = {"small": data.subset(["cy"]), "large": data.subset(["bob", "dee"])}
    result = fl.train(
        make_process(keras_model), data, cohort_size=2, rounds=3, initial=keras_model, evaluate=data, also_evaluate=further,
        evaluate_every=2, progress=False,
    )  # fmt: skip
    for row in result.history:
        assert ("eval_loss" in row) == ("eval_small.loss" in row) == ("eval_large.accuracy" in row) == (row["round"] != 1)
    last = result.history[-1]
    for name, clients in further.items():
        assert last[f"eval_{name}.loss"] == result.process.evaluate(result.state, clients)["loss"]


def test_the_best_model_is_kept_by_the_metric_that_is_named(tmp_path):
    """The loss falls from round to round; accuracy, which wants to be low here, is lowest at the start."""
    keras_model, data = classifier(), dataset()
    for best_by in ("loss", "higher:loss"):
        run_dir = tmp_path / best_by.replace(":", "-")
        result = fl.train(
            make_process(keras_model), data, cohort_size=4, rounds=4, initial=keras_model, evaluate=data, evaluate_every=1, best_by=best_by,
            guard="off", run_dir=run_dir, progress=False,
        )  # fmt: skip
        losses = [row["eval_loss"] for row in result.history]
        best = losses.index((min if best_by == "loss" else max)(losses))
        assert result.best_round == best and json.loads((run_dir / "status.json").read_text())["best"]["round"] == best
        kept = keras.saving.load_model(run_dir / "best" / "model.keras")
        assert result.process.evaluate(result.process.initialize(kept), data)["loss"] == pytest.approx(losses[best], rel=1e-6)
    assert best != losses.index(min(losses)), "or both say the same"


def test_each_held_out_client_stands_in_a_table_before_and_after(tmp_path):
    keras_model, data = classifier(), dataset()
    process = make_process(keras_model)
    result = fl.train(process, data, cohort_size=2, rounds=2, initial=keras_model, evaluate=data, run_dir=tmp_path / "run", progress=False)
    with (tmp_path / "run" / "held_out_clients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["client"]: float(row["num_examples"]) for row in rows} == ROWS
    for when, state in (("before", process.initialize(keras_model)), ("after", result.state)):
        want = {row["client"]: row["loss"] for row in process.evaluate_clients(state, data)}
        assert {row["client"]: float(row[f"loss_{when}"]) for row in rows} == want


def test_callbacks_are_told_of_everything_in_order():
    told = []

    class Watch(fl.Callback):
        def on_start(self, run):
            told.append(("start", run.rounds, run.run_dir, list(run.history)))

        def on_round_end(self, state, row):
            told.append((row["round"], state.round_number))

        def on_warning(self, round_number, text):
            told.append(("warning", round_number))

        def on_end(self, status):
            told.append(status)

    poisoned = {name: dict(dataset()[name]) for name in ROWS}
    poisoned["bob"]["x"] = np.full((9, 3), np.nan, np.float32)
    data = fl.data.FederatedDataset.from_dict(poisoned)
    fl.train(make_process(classifier()), data, cohort_size=4, rounds=2, progress=False, callbacks=[Watch()])
    assert told == [("start", 2, None, []), (0, 0), ("warning", 1), (1, 1), ("warning", 2), (2, 2), "finished"]


def test_a_tracker_that_fails_does_not_end_the_run_but_a_callback_of_ones_own_does(capsys):
    class Tracker(fl.trackers.Tracker):
        def on_round_end(self, state, row):
            raise ConnectionError("server away")

    class Own(fl.Callback):
        def on_round_end(self, state, row):
            raise ConnectionError("server away")

    result = fl.train(make_process(classifier()), dataset(), cohort_size=2, rounds=2, progress="quiet", callbacks=[Tracker()])
    assert len(result.history) == 3 and capsys.readouterr().err.count("Tracker failed") == 1
    with pytest.raises(ConnectionError, match="server away"):
        fl.train(make_process(classifier()), dataset(), cohort_size=2, rounds=2, progress=False, callbacks=[Own()])


def test_a_bad_held_out_client_is_named():
    data = dataset()
    process = make_process(classifier())
    state = process.initialize()
    wrong = {name: dict(data[name]) for name in ROWS}
    wrong["cy"]["y"] = np.array([7])
    with pytest.raises(fl.ClientFailure, match=r"'cy' failed .*Labels \(y\) must lie in \[0, 2\)"):
        process.evaluate(state, wrong)
    wrong["cy"] = {"x": np.ones((1, 4), np.float32), "y": np.array([1])}
    with pytest.raises(
        fl.ClientFailure, match=r"Client 'cy' has examples of shape \(4,\) in the column 'x', those before it of shape \(3,\)"
    ):
        process.evaluate(state, wrong)


def test_a_budget_that_does_not_suffice_is_told_at_the_start(capsys):
    data, sampling = dataset(), fl.privacy.FixedSize(2, 4)
    process = make_process(
        classifier(),
        aggregator=fl.aggregators.dp_gaussian_fixed(2.0, 2, 0.5),
        privacy=fl.privacy.Budget(epsilon=1.001 * fl.privacy.epsilon(sampling, 2.0, 3, 1e-3), delta=1e-3, sampling=sampling),
    )
    with pytest.raises(fl.PrivacyBudgetExceeded):
        fl.train(process, data, cohort_size=2, rounds=5, progress="quiet")
    assert "The privacy budget allows 3 rounds with this noise, fewer than the 5 planned" in capsys.readouterr().err
