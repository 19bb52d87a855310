"""What clients keep between rounds, in memory and in a folder: nobody's state is lost, mixed up, or changed behind an earlier one."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from algorithms import ellipses
from algorithms.ellipses import NAMES, START, clients
from contracts.lines import assert_close, assert_identical

import fedloom as fl
from fedloom import optimizers
from fedloom.algorithms import fedavg, scaffold
from fedloom.core import ClientFailure
from fedloom.experiment._client_states import ClientStates


@functools.cache
def process_in_memory(executor="local"):
    """Holds no state but compiled code, so tests may share it."""
    return fl.LearningProcess(scaffold(ellipses.model(), 0.2, population=3), executor=executor)


@pytest.fixture(params=["memory", "folder"])
def process(request, tmp_path):
    """With either store, and the compiled code of one process."""
    process = copy.copy(process_in_memory())
    process._client_folder = None if request.param == "memory" else tmp_path / "states"
    return process


def rounds(process, state, *cohorts):
    for cohort in cohorts:
        state, _ = process.next(state, cohort)
    return state


def kept(process, state, names=NAMES):
    return {name: np.asarray(process.kept_by(state, name).algorithm) for name in names}


# A process and its clients' states


def test_both_stores_and_both_executors_agree(tmp_path):
    cohorts = [clients({"ada": 2, "bob": 0, "cy": 1}), clients(1, ["bob", "ada"])]
    on_disk = fl.LearningProcess(process_in_memory().algorithm, client_states=tmp_path / "states")
    processes = [process_in_memory(), on_disk, process_in_memory("debug")]
    states = [rounds(process, process.initialize(START), *cohorts) for process in processes]
    assert_identical(states[1].server, states[0].server)
    assert_identical(kept(on_disk, states[1]), kept(processes[0], states[0]))
    assert_close(states[2].server, states[0].server)
    assert_close(kept(processes[2], states[2]), kept(processes[0], states[0]))


def test_a_client_that_sits_out_keeps_what_it_had(process):
    first = rounds(process, process.initialize(START), clients(2))
    second = rounds(process, first, clients(2, ["bob"]))
    before, after = kept(process, first), kept(process, second)
    assert_identical([after["ada"], after["cy"]], [before["ada"], before["cy"]])
    assert np.abs(after["bob"] - before["bob"]).min() > 0


def test_an_earlier_state_stays_valid_and_gives_the_same_bits_again(process):
    first = rounds(process, process.initialize(START), clients(2))
    before = kept(process, first)
    second = rounds(process, first, clients(3))
    assert_identical(kept(process, first), before)
    again = rounds(process, first, clients(3))
    assert_identical(again.server, second.server)
    assert_identical(kept(process, again), kept(process, second))


def test_a_client_that_is_not_finite_keeps_what_it_had(process):
    first = rounds(process, process.initialize(START), clients(2))
    spoilt = clients(2)
    x, y = spoilt["bob"][0]
    spoilt["bob"] = [(x * np.nan, y)]
    second, metrics = process.next(first, spoilt)
    assert metrics["num_nonfinite_clients"] == 1 and metrics["accepted"] == 1
    assert_identical(kept(process, second)["bob"], kept(process, first)["bob"])
    assert np.abs(kept(process, second)["ada"] - kept(process, first)["ada"]).min() > 0


def test_in_a_round_that_is_rejected_everybody_keeps_what_they_had(process):
    """Three updates that are finite, each of them, but whose sum is not."""
    first = rounds(process, process.initialize(START), clients(2))
    huge = np.float32([[1.0, 1.0, 1.6e38, 1.6e38]])
    far = {name: [(huge, np.zeros(1, np.float32))] * 40 for name in NAMES}
    second, metrics = process.next(first, far)
    assert metrics["num_nonfinite_clients"] == 0 and metrics["accepted"] == 0
    assert_identical(kept(process, second), kept(process, first))
    assert_identical(second.server, first.server)


def test_an_empty_cohort_changes_nothing(process):
    first = rounds(process, process.initialize(START), clients(2))
    second, metrics = process.next(first, {})
    assert metrics["accepted"] == 0 and metrics["num_clients"] == 0
    assert_identical(second.server, first.server)
    assert_identical(kept(process, second), kept(process, first))


def test_clients_without_ids_are_refused(process):
    with pytest.raises(ValueError, match="must be a mapping from client id to data, got list"):
        process.next(process.initialize(START), list(clients(2).values()))


def test_an_algorithm_that_keeps_nothing_stores_nothing(tmp_path):
    process = fl.LearningProcess(fedavg(ellipses.model(), optimizers.sgd(0.1)), client_states=tmp_path / "states")
    state = rounds(process, process.initialize(START), clients(2))
    assert len(state.clients) == 0 and not (tmp_path / "states").exists()


def test_a_folder_that_holds_something_is_not_taken_for_a_new_run(tmp_path):
    process = fl.LearningProcess(process_in_memory().algorithm, client_states=tmp_path)
    process.initialize(START)
    (tmp_path / "something").touch()
    with pytest.raises(ValueError, match="client_states must be a new or empty folder"):
        process.initialize(START)


def test_a_state_too_old_for_its_folder_says_so(tmp_path):
    process = fl.LearningProcess(process_in_memory().algorithm, client_states=tmp_path / "states")
    first = rounds(process, process.initialize(START), clients(1))
    rounds(process, first, clients(1, ["ada"]), clients(1, ["bob"]), clients(1, ["ada"]))
    kept(process, first, ["bob", "cy"])
    with pytest.raises(FileNotFoundError, match="'ada' is missing.*valid until the round after the next.*keep client states in memory"):
        process.kept_by(first, "ada")


def test_states_of_another_model_are_refused():
    """By shape, before a client is trained with them."""
    other = fl.models.from_functions(lambda key: jnp.zeros(3), lambda x, example: example[:, 2:] @ x[:2], lambda y, value: value)
    process = fl.LearningProcess(scaffold(other, 0.1, population=3))
    state = rounds(process_in_memory(), process_in_memory().initialize(START), clients(1))
    mixed = process.initialize()._replace(clients=state.clients)
    with pytest.raises(ValueError, match=r"'ada' kept comes from another model.*float32\[2\].*must be.*float32\[3\]"):
        process.kept_by(mixed, "ada")
    with pytest.raises(ClientFailure, match="another model"):
        process.next(mixed, clients(1))


# The store


@pytest.fixture(params=["memory", "folder"])
def store(request, tmp_path):
    return ClientStates(folder=tmp_path / "states" if request.param == "folder" else None)


def test_arrays_come_back_exactly(store):
    """Of every type, also one that NumPy itself does not have; of no size and no shape; with all kinds of numbers."""
    tree = {
        "a": np.float32([np.pi, -0.0, np.nan, np.inf, 1e-45]),
        "b": (jnp.asarray([[1.5, -2.25]], jnp.bfloat16), np.float16(0.1), np.zeros((0, 3), np.int8)),
        "c": [np.uint32(4294967295), np.bool_(True), jnp.arange(12.0).reshape(3, 4).T],
    }
    got = store.updated({"ada": tree}, 1)["ada"]
    want = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    assert [(a.dtype, a.shape) for a in got] == [(a.dtype, a.shape) for a in want]
    assert [a.tobytes() for a in got] == [a.tobytes() for a in want]


IDS = ["", ".", "..", "../up", "/etc/passwd", "a/b", "a\\b", "a\0b", "a b\n", "CON", "Ada", "ada", "Ünïcødé 🦜", "x" * 5000, "\udcff"]


def test_ids_may_hold_any_character(store, tmp_path):
    """Two ids never share a place, even where a file system does not tell upper from lower case; nothing is written elsewhere."""
    store = store.updated({client: np.float32(i) for i, client in enumerate(IDS)}, 1)
    assert list(store) == IDS and len(store) == len(IDS)
    assert [store[client][0] for client in IDS] == list(range(len(IDS)))
    assert {path.name for path in tmp_path.iterdir()} <= {"states"}
    assert "nobody" not in store
    with pytest.raises(KeyError):
        store["nobody"]


def test_a_store_is_never_changed(store):
    first = store.updated({"ada": np.float32(1), "bob": np.float32(10)}, 1)
    second = first.updated({"ada": np.float32(2)}, 2)
    assert len(store) == 0
    assert (first["ada"], first["bob"]) == ([1], [10])
    assert (second["ada"], second["bob"]) == ([2], [10])


def test_rounds_that_part_ways_never_read_each_others_states(store):
    """Two rounds of the same number from one store: each has its own state, or on disk, where two are kept, an error."""
    first = store.updated({"ada": np.float32(1)}, 1)
    left, right = first.updated({"ada": np.float32(2)}, 2), first.updated({"ada": np.float32(3)}, 2)
    assert (first["ada"], right["ada"]) == ([1], [3])
    try:
        assert left["ada"] == [2]
    except FileNotFoundError as error:
        assert "'ada'" in str(error)


def test_going_back_to_the_start_forgets_no_new_state(tmp_path):
    """Files of a later round of an abandoned history do not count as newer."""
    start = ClientStates(folder=tmp_path)
    old = start
    for version in range(1, 9):
        old = old.updated({"ada": np.float32(version)}, version)
    new = start
    for version in range(1, 4):
        new = new.updated({"ada": np.float32(-version)}, version)
        assert new["ada"] == [-version]


def test_two_files_per_client_are_kept(tmp_path):
    store = ClientStates(folder=tmp_path)
    for version in range(1, 6):
        store = store.updated({"ada": np.float32(version), "bob": np.float32(-version)}, version)
    assert len(list(tmp_path.rglob("*.npz"))) == 4


def test_a_write_that_fails_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    first = ClientStates(folder=tmp_path).updated({"ada": np.float32(1)}, 1)

    def fail(file, *arrays, **named):
        file.write(b"half")
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fail)
        with pytest.raises(OSError, match="no space"):
            first.updated({"ada": np.float32(2)}, 2)
    assert first["ada"] == [1]
    assert first.updated({"ada": np.float32(3)}, 2)["ada"] == [3]
    assert len(list(tmp_path.rglob("*.npz"))) == 2
