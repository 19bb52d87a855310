"""What every registered algorithm promises, whatever it computes. To join, add it to `fl.algorithms.ALGORITHMS`."""

import functools

import jax
import numpy as np
import pytest
from contracts.lines import Compilations, assert_close, assert_identical, exact_batches, line_clients, line_model, padded

import fedloom as fl
from fedloom.core import ModelWeights
from fedloom.engine import LocalExecutor, _blocks

SIZES = [3, 1, 9, 4, 0, 1, 5, 2, 8, 1]
START = {"w": np.array([0.5, 0.25, -1.0], np.float32), "b": np.float32(0.125)}
every_algorithm = pytest.mark.parametrize("name", fl.algorithms.ALGORITHMS)


@functools.cache
def process_of(name, executor="local"):
    """Processes hold no state but compiled code, so tests may share them."""
    return fl.LearningProcess(fl.algorithms.ALGORITHMS[name](line_model()), batching=padded, executor=executor)


def start(process):
    """The same start for every algorithm that trains the model of the tests; its own for one that brings its model."""
    try:
        return process.initialize(START)
    except ValueError:
        return process.initialize()


def run(process, cohorts, state=None):
    """Weights, what clients keep, and metrics after rounds with these cohorts."""
    state = start(process) if state is None else state
    for cohort in cohorts:
        state, metrics = process.next(state, cohort)
    return state.server, dict(state.clients), metrics


@every_algorithm
def test_local_is_debug_compiled(name):
    cohorts = [line_clients([3, 6, 0]), line_clients([5], seed=1)]
    assert_close(run(process_of(name), cohorts), run(process_of(name, "debug"), cohorts), rtol=1e-4, atol=1e-5)


@every_algorithm
def test_lanes_side_by_side_give_the_same_sums(name):
    """Several groups of lanes that vectorize even several passes; clients that keep states or are reported stay in one lane."""
    cohorts = [line_clients(SIZES), line_clients([5, 12, 1], seed=1)]
    make = functools.partial(LocalExecutor, lanes=3, groups=2)
    process = fl.LearningProcess(fl.algorithms.ALGORITHMS[name](line_model()), batching=padded, executor=make)
    assert_close(run(process, cohorts), run(process_of(name), cohorts), rtol=1e-4, atol=1e-5)


@every_algorithm
def test_the_order_of_clients_does_not_matter(name):
    clients = line_clients(SIZES)
    names = list(clients)
    other = {n: clients[n] for n in names[::-2] + names[-2::-2]}
    assert_close(run(process_of(name), [clients] * 2), run(process_of(name), [other] * 2), rtol=1e-4, atol=1e-5)


@every_algorithm
def test_padding_does_not_matter(name):
    """Batches of 4 filled up with rows of weight 0 give what exact batches, the last one smaller, give; counts too."""
    clients = line_clients([3, 8, 0, 7])  # every further size of a batch would be compiled too
    exact = {client: exact_batches(examples) for client, examples in clients.items()}
    assert_close(run(process_of(name), [clients] * 2), run(process_of(name), [exact] * 2), rtol=1e-4, atol=1e-5)


@every_algorithm
def test_the_size_of_blocks_changes_no_bit(name, monkeypatch):
    cohorts = [line_clients([5, 0, 40, 1, 9])] * 2
    want = run(process_of(name), cohorts)
    monkeypatch.setattr(_blocks, "MAX_BATCHES_PER_BLOCK", 24)  # 3 rows of 8 lanes
    assert_identical(run(process_of(name), cohorts), want)


@every_algorithm
def test_a_client_that_is_not_finite_is_as_if_it_had_not_been_asked(name):
    """But for the counts: the others' round, and it keeps what it had."""
    clients = line_clients([3, 9, 4])
    spoilt = clients | {"spoilt": {**clients["client 1"], "x": np.full((9, 3), np.nan, np.float32)}}
    server, kept, metrics = run(process_of(name), [spoilt])
    want_server, want_kept, _ = run(process_of(name), [clients])
    assert metrics["num_nonfinite_clients"] == 1
    assert_close(server, want_server, rtol=1e-5, atol=1e-6)
    blank = [np.asarray(leaf) for leaf in jax.tree.leaves(process_of(name).kept_by(start(process_of(name)), "spoilt"))]
    assert_close(kept.pop("spoilt", blank), blank)
    assert_close(kept, want_kept, rtol=1e-5, atol=1e-6)


@every_algorithm
@pytest.mark.parametrize("batches_before", [0, 2], ids=["at once", "in the middle"])
def test_a_client_that_fails_is_as_if_it_had_not_been_asked(name, batches_before):
    clients = {client: list(padded.batches(examples, client=client)) for client, examples in line_clients([3, 9, 2, 5]).items()}

    class Failing:
        def __iter__(self):
            yield from clients["client 1"][:batches_before]
            raise OSError("gone")

    process = process_of(name)
    outcome = process.run_round(start(process), {**clients, "client 1": Failing()}, leave_out_failing=True)
    others = {client: batches for client, batches in clients.items() if client != "client 1"}
    want_server, want_kept, _ = run(process, [others])
    assert_close(outcome.state.server, want_server, rtol=1e-5, atol=1e-6)
    kept = dict(outcome.state.clients)
    blank = [np.asarray(leaf) for leaf in jax.tree.leaves(process.kept_by(start(process), "client 1"))]
    assert_close(kept.pop("client 1", blank), blank)
    assert_close(kept, want_kept, rtol=1e-5, atol=1e-6)
    assert [failure["client"] for failure in outcome.failures] == ["client 1"] and outcome.num_reports == 3


@every_algorithm
@pytest.mark.parametrize(
    "clients", [{}, {"empty": {"x": np.zeros((0, 3), np.float32), "y": np.zeros(0, np.float32)}}], ids=["nobody", "empty"]
)
def test_a_round_without_data_changes_nothing(name, clients):
    process = process_of(name)
    before, _ = process.next(start(process), line_clients([3, 2]))
    after, metrics = process.next(before, clients)
    assert metrics["accepted"] == 0
    assert_identical(after.server, before.server)


@every_algorithm
def test_states_keep_their_types_and_weights_their_shapes(name):
    process = process_of(name)
    before = start(process)
    after, _ = process.next(before, line_clients([3, 2]))
    kinds = [
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), jax.tree.map(jax.numpy.asarray, s.server))
        for s in (before, after)
    ]
    assert kinds[0] == kinds[1]
    weights = process.get_weights(after)
    assert isinstance(weights, ModelWeights)
    expected = jax.eval_shape(process.model.init, jax.random.key(0))
    assert jax.tree.map(lambda leaf: leaf.shape, weights) == jax.tree.map(lambda leaf: leaf.shape, expected)
    assert_identical(process.get_weights(process.set_weights(before, weights)), weights)


@every_algorithm
def test_new_rounds_cohorts_and_hyperparameters_compile_nothing(name):
    process = fl.LearningProcess(fl.algorithms.ALGORITHMS[name](line_model()), batching=padded)
    state = start(process)
    with Compilations() as first:
        state, _ = process.next(state, line_clients([3, 0, 9]))
        state, _ = process.next(state, line_clients([3, 0, 9]))
    assert first.count > 0, "or this test would see nothing"
    with Compilations() as later:
        for sizes in ([1], [0, 30, 2, 5], [4, 4, 4]):
            state = process.set_hparams(state, {k: 0.9 * v for k, v in process.get_hparams(state).items()})
            state, _ = process.next(state, line_clients(sizes))
    assert later.count == 0


@every_algorithm
def test_every_hyperparameter_can_be_set(name):
    process = process_of(name)
    state = start(process)
    values = {hparam: value / 2 + 0.01 for hparam, value in process.get_hparams(state).items()}
    assert values or name == "kmeans", "an algorithm without a rate to set"
    changed = process.get_hparams(process.set_hparams(state, values))
    assert changed == pytest.approx(values)
    with pytest.raises(ValueError, match="no hyperparameter nonsense here; these can be set"):
        process.set_hparams(state, {"nonsense": 1.0})


@every_algorithm
def test_going_on_from_a_saved_state_gives_the_same_bits(name, tmp_path):
    process = process_of(name)
    middle = process.next(start(process), line_clients([3, 9]))[0]
    process.save(middle, tmp_path / "state")
    loaded = process.load(tmp_path / "state")
    cohorts = [line_clients([3, 9, 2], seed=2)]
    assert_identical(run(process, cohorts, loaded), run(process, cohorts, middle))
