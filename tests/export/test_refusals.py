"""What cannot be exported is said at the export, and nothing is left behind."""

import exported_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import keras

import fedloom as fl

BATCH = np.ones((4, 2), np.float32), np.ones(4, np.float32)


def process_with(predict):
    model = fl.models.from_functions(lambda key: jnp.zeros(2), predict, lambda y, p: (y - p) ** 2)
    return fl.LearningProcess(fl.algorithms.fedavg(model, fl.optimizers.sgd(0.1)))


def with_callback(w, x):
    return x @ w + jax.lax.stop_gradient(jax.pure_callback(lambda x: x[:, 0], jax.ShapeDtypeStruct(x.shape[:1], x.dtype), x))


def with_print(w, x):
    jax.lax.cond(x.sum() > 0, lambda: jax.debug.print("{}", x.sum()), lambda: None)
    return x @ w


def with_branch(w, x):
    return x @ w if x.sum() > 0 else -(x @ w)


def with_shape_of_values(w, x):
    return (x @ w)[jnp.flatnonzero(x[:, 0] > 0)]


def with_custom_call(w, x):
    return x @ w + jax.lax.stop_gradient(jax.ffi.ffi_call("of_the_users_own", jax.ShapeDtypeStruct(x.shape[:1], x.dtype))(x))


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        (with_callback, r"'step' calls back into Python \(pure_callback\)"),
        (with_print, r"'step' calls back into Python \(debug_"),
        (with_branch, "depend on the values of arrays"),
        (with_shape_of_values, "depend on the values of arrays"),
        (with_custom_call, "'step' has custom calls that other runtimes do not know: of_the_users_own"),
    ],
)
def test_what_needs_python_is_refused_and_nothing_is_written(predict, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fl.export.client_work(process_with(predict), tmp_path / "export", batch=BATCH)
    assert not list(tmp_path.iterdir())


def test_a_model_for_one_batch_size_is_exported_for_that(tmp_path):
    """Code that branches on the number of rows has no program for any of them; the manifest says why."""
    process = process_with(lambda w, x: x @ w if x.shape[0] > 3 else 2 * (x @ w))
    manifest = fl.export.client_work(process, tmp_path / "export", batch=BATCH)
    assert "inconclusive" in manifest.programs["step"].not_symbolic and not manifest.programs["begin"].not_symbolic
    client = fl.export.load(tmp_path / "export")
    batch = client.batch(*BATCH)
    assert client.train([batch], jax.random.key(0)).weight == 4
    with pytest.raises(ValueError, match="step takes batches of 4 rows, got one of 2: Symbolic dimension comparison"):
        client.train([{name: column[:2] for name, column in batch.items()}], jax.random.key(0))


def test_a_step_must_hand_on_what_it_was_given(tmp_path):
    def finish(message, local):
        return fl.core.ClientOutput(fl.core.Contribution(local, jnp.sum(local)), {})

    process = process_with(lambda w, x: x @ w)
    growing = fl.core.ClientWork(lambda message, state, key: jnp.float32(0), lambda message, local, batch, key: batch.x.sum(0), finish)
    process.algorithm = process.algorithm._replace(client=growing)
    with pytest.raises(ValueError, match=r"'step' must hand on .* local was float32\[\] and became float32\[2\]"):
        fl.export.client_work(process, tmp_path / "export", batch=BATCH)


def test_folders_of_others_stay_and_exports_are_replaced(tmp_path):
    process, folder = process_with(lambda w, x: x @ w), tmp_path / "export"
    folder.mkdir()
    (folder / "thesis.txt").write_text("three years of work")
    with pytest.raises(ValueError, match="new, empty or an export"):
        fl.export.client_work(process, folder, batch=BATCH)
    (folder / "thesis.txt").unlink()
    fl.export.client_work(process, folder, batch=BATCH)
    (folder / "native").mkdir()  # of the old export
    fl.export.client_work(process, folder, batch=BATCH, batch_size=2)
    assert fl.export.load(folder).manifest.batch_size == 2
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "programs", "weights.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match="must be a folder, got the file"):
        fl.export.client_work(process, file, batch=BATCH)


def test_shapes_come_from_the_model_the_clients_or_a_batch(tmp_path):
    keras_model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    algorithm = fl.algorithms.fedavg(fl.models.from_keras(keras_model, "mse"), fl.optimizers.sgd(0.1))
    process = fl.LearningProcess(algorithm, batching=fl.data.Batching(size=5))

    def columns(**given):
        return [(array.name, array.shape) for array in fl.export.client_work(process, tmp_path / "e", **given).batch_columns]

    known = [("batch/x", ("b", 3)), ("batch/y", ("b", 1)), ("batch/sample_weight", ("b",)), ("batch/real", ("b",))]
    assert columns() == known
    assert columns(clients={"nobody": {"x": np.ones((0, 3)), "y": np.ones((0, 1))}, "ada": {"x": np.ones((2, 3)), "y": np.ones(2)}}) == [
        (name, ("b",) if name == "batch/y" else shape) for name, shape in known
    ]
    with pytest.raises(ValueError, match="give one of them"):
        columns(clients={}, batch=BATCH)
    with pytest.raises(ValueError, match="at least one batch between them"):
        columns(clients={})
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        columns(batch_size=0)
    with pytest.raises(ValueError, match="What a batch looks like is not known from the model"):
        fl.export.client_work(exported_models.gru().process, tmp_path / "e")
    with pytest.raises(ValueError, match="batch_size is needed"):
        fl.export.client_work(fl.LearningProcess(algorithm), tmp_path / "e")
