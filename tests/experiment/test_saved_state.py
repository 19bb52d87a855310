"""A state saved and loaded: the same bits as never having stopped, and a refusal of whatever does not fit."""

import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedloom as fl
from fedloom.data import Batching


def process(rate=0.1, size=3, seed=0, optimizer=None, **settings):
    model = fl.models.from_functions(
        lambda key: {"w": jax.random.normal(key, (size,)), "b": jnp.zeros(())}, lambda p, x: x @ p["w"] + p["b"], lambda y, p: (p - y) ** 2
    )
    algorithm = fl.algorithms.fedavg(model, fl.optimizers.sgd(rate), optimizer or fl.optimizers.adam(0.1))
    return fl.LearningProcess(algorithm, batching=Batching(size=2), seed=seed, **settings)


def clients(size=3):
    rng = np.random.default_rng(0)
    return {name: {"x": rng.normal(size=(n, size)).astype(np.float32), "y": np.ones(n, np.float32)} for name, n in (("ada", 5), ("bob", 2))}


def rounds(learning, state, count):
    for _ in range(count):
        state, metrics = learning.next(state, clients())
    return state, metrics


def assert_identical(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_going_on_from_a_file_gives_the_same_bits(tmp_path):
    """In another process object, as in another interpreter; adaptive server optimizer and shuffling included."""
    learning = process()
    middle, _ = rounds(learning, learning.initialize(), 2)
    learning.save(middle, tmp_path / "state.fedloom")
    want = rounds(learning, middle, 2)
    other = process()
    loaded = other.load(tmp_path / "state.fedloom")
    assert loaded.round_number == 2
    assert_identical((loaded.server, loaded.aggregator), (middle.server, middle.aggregator))
    got = rounds(other, loaded, 2)
    assert_identical(got[0].server, want[0].server)
    assert got[1] == want[1]


def test_hyperparameters_that_were_set_come_back(tmp_path):
    learning = process()
    state = learning.set_hparams(learning.initialize(), {"client_optimizer.learning_rate": 0.03})
    learning.save(state, tmp_path / "state")
    assert process().get_hparams(process().load(tmp_path / "state"))["client_optimizer.learning_rate"] == np.float32(0.03)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (lambda: process(size=4), "float32\\[3\\] in the file and float32\\[4\\] here"),
        (lambda: process(optimizer=optax.sgd(1.0)), "missing here"),
        (lambda: process(seed=1), "seed is 0, here it is 1"),
        (lambda: process(aggregator=fl.aggregators.chain(fl.aggregators.robust_aggregator())), "missing in the file"),
    ],
    ids=["model", "optimizer", "seed", "aggregator"],
)
def test_a_state_of_another_process_is_refused(tmp_path, other, what):
    learning = process()
    learning.save(learning.initialize(), tmp_path / "state")
    with pytest.raises(ValueError, match=what):
        other().load(tmp_path / "state")


def test_a_file_that_is_none_or_damaged_is_refused(tmp_path):
    learning, path = process(), tmp_path / "state"
    with pytest.raises(FileNotFoundError):
        learning.load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="no state that"):
        learning.load(path)
    learning.save(learning.initialize(), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="no state that"):
        learning.load(path)
    at = content.index(np.asarray(learning.initialize().server.weights.trainable["w"]).tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(ValueError, match="damaged"):
        learning.load(path)


def test_a_file_of_a_later_format_is_refused(tmp_path):
    learning, path = process(), tmp_path / "state"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("state.json", '{"format": 99}')
    with pytest.raises(ValueError, match="format 99"):
        learning.load(path)


def test_what_clients_kept_comes_back_into_the_folder_it_was_in(tmp_path):
    """A run that was stopped goes on with its folder, which then holds states older or newer than the file, or none at all."""

    def scaffold():
        model = fl.models.from_functions(lambda key: jnp.zeros(3), lambda w, x: x @ w, lambda y, p: (p - y) ** 2)
        algorithm = fl.algorithms.scaffold(model, 0.1, population=2)
        return fl.LearningProcess(algorithm, batching=Batching(size=2), client_states=tmp_path / "clients")

    learning = scaffold()
    middle, _ = rounds(learning, learning.initialize(), 2)
    learning.save(middle, tmp_path / "state")
    want = rounds(learning, middle, 3)
    got = rounds(scaffold(), scaffold().load(tmp_path / "state"), 3)
    assert_identical(got[0].server, want[0].server)
    assert_identical(dict(got[0].clients), dict(want[0].clients))
