"""What every executor promises for every algorithm: the same sums wherever, in whatever order and in whatever pieces the work is done.

To join, add an algorithm to `CASES` or an executor to `EXECUTORS`.
"""

import functools
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts.lines import Compilations, assert_close, assert_identical, exact_batches, line_examples, line_model, padded, run
from oracles import fedavg_numpy

import fedloom as fl
from fedloom.core import Algorithm, ClientFailure
from fedloom.data import Batching, FederatedDataset
from fedloom.engine import LocalExecutor, _blocks, _local

EXECUTORS = {
    "local": "local",
    "one lane": functools.partial(LocalExecutor, lanes=1),
    "lanes": functools.partial(LocalExecutor, lanes=3, groups=2),  # more than fit the cohorts evenly
    "debug": "debug",
}


def gru_model():
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Embedding(5, 3), keras.layers.GRU(4, return_sequences=True), keras.layers.Dense(5)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return fl.models.from_keras(keras.Sequential([keras.Input((4,), dtype="int32"), *layers]), loss, ["accuracy"])


def gru_examples(rng, count):
    text = rng.integers(0, 5, (count, 5))
    return {"x": text[:, :-1], "y": text[:, 1:], "sample_weight": rng.uniform(0.5, 2, (count, 4)).astype(np.float32)}


class Case(NamedTuple):
    algorithm: Callable[[], Algorithm]
    examples: Callable[[np.random.Generator, int], dict]
    sizes: list[int]  # examples per client


CASES = {
    "fedavg": Case(lambda: fl.algorithms.fedavg(line_model(), optax.sgd(0.1)), line_examples, [3, 1, 9, 4, 2, 1, 5, 2, 8, 1, 2]),
    "adaptive": Case(
        lambda: fl.algorithms.fedavg(line_model(), optax.adam(0.02), optax.adam(0.1), client_weight="tokens"), line_examples, [3, 8, 1, 6]
    ),
    "gru": Case(lambda: fl.algorithms.fedavg(gru_model(), optax.sgd(0.5), optax.sgd(1.0, momentum=0.9)), gru_examples, [5, 1, 4]),
}
every_case = pytest.mark.parametrize("name", CASES)
every_executor = pytest.mark.parametrize("executor", EXECUTORS)
# Without jit a recurrent model takes seconds; `test_local_is_debug_compiled` runs it on both and covers the rest.
every_pair = pytest.mark.parametrize(("name", "executor"), [(n, e) for n in CASES for e in EXECUTORS if n != "gru" or e == "local"])


@functools.cache
def process_of(name, executor, batching=padded):
    """Processes hold no state but compiled code, so tests may share them."""
    return fl.LearningProcess(CASES[name].algorithm(), batching=batching, executor=EXECUTORS[executor])


def clients_of(name, sizes=None, seed=0):
    rng = np.random.default_rng(seed)
    return {f"client {i}": CASES[name].examples(rng, n) for i, n in enumerate(sizes or CASES[name].sizes)}


# The same result


@every_pair
def test_the_order_of_clients_does_not_matter(name, executor):
    clients = clients_of(name)
    names = list(clients)
    process = process_of(name, executor)
    assert_close(run(process, [clients] * 2), run(process, [{n: clients[n] for n in names[::-2] + names[-2::-2]}] * 2))


@every_pair
def test_padding_does_not_matter(name, executor):
    """Batches of 4 filled up with rows of weight 0 give what exact batches, the last one smaller, give; counts too."""
    clients = clients_of(name, [3, 8, 7])  # every further size of a batch would be compiled too
    process = process_of(name, executor)
    assert_close(run(process, [clients]), run(process, [{client: exact_batches(examples) for client, examples in clients.items()}]))


@every_case
def test_local_is_debug_compiled(name):
    clients = [clients_of(name), clients_of(name, seed=1)]
    want = run(process_of(name, "debug"), clients)
    for executor in ("local", "lanes"):
        assert_close(run(process_of(name, executor), clients), want)


@every_pair
def test_the_size_of_blocks_changes_no_bit(name, executor, monkeypatch):
    """Borders of blocks fall inside clients, between them, and around clients without data."""
    if executor == "debug":
        pytest.skip("it has no blocks")
    sizes = [5, 0, 9, 1, *CASES[name].sizes, 0]
    results = []
    for capacity in (1, 3, 16):
        monkeypatch.setattr(_blocks, "MAX_BATCHES_PER_BLOCK", capacity)
        results.append(run(process_of(name, executor), [clients_of(name, sizes)] * 2))
    assert_identical(results[1], results[0])
    assert_identical(results[2], results[0])


def test_a_block_holds_no_more_bytes_than_it_may(monkeypatch):
    """Large batches go in small blocks, at least one by one; the result is the same to the bit."""
    taken = []
    original = _blocks.Buffers.take
    monkeypatch.setattr(_blocks.Buffers, "take", lambda *a: taken.append(original(*a)) or taken[-1])
    process, clients = process_of("fedavg", "one lane"), clients_of("fedavg")
    batch_bytes = 4 * 4 * (3 + 1 + 1 + 1)  # 4 rows of x, y, weight and real in float32
    results = []
    for limit, most in ((2**20, 64), (2.5 * batch_bytes, 2), (1, 1)):
        monkeypatch.setattr(_blocks, "MAX_BYTES_PER_BLOCK", int(limit))
        results.append(run(process, [clients]))
        assert {slots.step.size for slots in taken} == {most}
        taken.clear()
    assert_identical(results[1], results[0])
    assert_identical(results[2], results[0])


@every_executor
@pytest.mark.parametrize("number", [1, 7, 8, 9, 16, 17])
def test_any_number_of_clients_gives_the_mean_of_all(number, executor):
    """Partial sums over 8 clients are added up with none lost and none counted twice, as the NumPy oracle says."""
    clients = clients_of("fedavg", [1 + i % 3 for i in range(number)])
    start = {"w": np.array([0.5, 0.25, -1.0], np.float32), "b": np.float32(0.125)}
    cohort = [exact_batches(examples) for examples in clients.values()]
    ((w, b), want) = next(fedavg_numpy.fedavg([start["w"], start["b"]], [cohort], 0.1))
    got, metrics = run(process_of("fedavg", executor), [clients], start)
    assert_close(got.trainable, {"w": w, "b": b})
    assert metrics["num_clients"] == number
    for metric, value in want.items():
        assert metrics[metric] == pytest.approx(value, rel=2e-5), metric


@every_executor
@pytest.mark.parametrize("empty", [[0], [2], [4], [0, 1], [1, 2, 4], list(range(5))], ids=str)
def test_clients_without_data_add_nothing(empty, executor):
    """First, in the middle, last, several, all; an empty client is counted and changes nothing else."""
    sizes = [0 if i in empty else 3 + 2 * i for i in range(5)]
    process = process_of("fedavg", executor)
    everybody = clients_of("fedavg", sizes)
    got, metrics = run(process, [everybody])
    others = {client: examples for client, examples in everybody.items() if len(examples["y"])}
    want, want_metrics = run(process, [others])
    assert_close(got, want, rtol=1e-6)
    assert metrics["num_clients"] == 5
    assert metrics["accepted"] == (len(empty) < 5)
    by_number = {"num_clients": 0, "bytes_up": 0, "bytes_down": 0}
    assert_close(metrics | by_number, want_metrics | by_number)


def dropout_process(executor, seed=0):
    import keras

    model = fl.models.from_keras(keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)]), "mae")
    return fl.LearningProcess(
        fl.algorithms.fedavg(model, optax.sgd(0.1)), batching=Batching(size=2), executor=EXECUTORS[executor], seed=seed
    )


def test_randomness_does_not_depend_on_the_executor_and_differs_over_seeds():
    """Fresh weights, shuffling and dropout come from the seed of the process."""
    clients = clients_of("fedavg", [3, 4])
    local = dropout_process("local")
    trained = run(local, [clients])[0]
    for executor in ("one lane", "lanes", "debug"):
        assert_close(run(dropout_process(executor), [clients])[0], trained)
    start = local.get_weights(local.initialize())
    other = dropout_process("local", seed=1)
    assert not np.allclose(other.get_weights(other.initialize()).trainable[0], start.trainable[0])
    assert not np.allclose(run(other, [clients], start)[0].trainable[0], trained.trainable[0])


def digest():
    """Of the final bytes of two rounds with dropout and shuffling from fresh weights."""
    weights, metrics = run(dropout_process("local", seed=5), [clients_of("fedavg", [3, 0, 7])] * 2)
    content = b"".join(np.asarray(w).tobytes() for w in weights.trainable) + repr(sorted(metrics.items())).encode()
    return hashlib.sha256(content).hexdigest()


def test_a_run_repeats_bit_by_bit():
    """In this interpreter, and in another one, in which Python hashes strings otherwise."""
    here = digest()
    assert here == digest()
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", "import test_executors; print(test_executors.digest())"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), paths]), "PYTHONHASHSEED": "123"}
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1]
    assert here == there


# What it costs


def test_new_cohorts_and_the_rounds_after_the_first_compile_nothing():
    """The number of clients, their sizes, and which are empty are data."""
    traces = []
    model = line_model(lambda: traces.append(1))
    process = fl.LearningProcess(fl.algorithms.fedavg(model, optax.adam(0.1), optax.adam(0.1)), batching=padded)
    state = process.initialize({"w": np.array([1.0, 2.0, 3.0]), "b": 4.0})
    with Compilations() as first:
        state, _ = process.next(state, clients_of("fedavg", [3, 0, 9]))
        process.evaluate(state, clients_of("fedavg", [3, 0, 9]))
    assert first.count > 0 and traces, "or this test would see nothing"
    before = len(traces)
    with Compilations() as later:
        for sizes in ([1], [0, 30, 2, 5], list(range(20)), [80], [4, 4]):
            state, _ = process.next(state, clients_of("fedavg", sizes))
            process.evaluate(state, clients_of("fedavg", sizes))
    assert (len(traces), later.count) == (before, 0)


@pytest.mark.parametrize("executor", ["one lane", "debug"])
@pytest.mark.parametrize("batches_per_client", [1, 50])
def test_batches_are_read_as_the_work_goes_on(batches_per_client, executor):
    """However large the cohort or a client, the batches read and not yet worked on are bounded by a few blocks."""
    lock, pulled, done, ahead = threading.Lock(), 0, 0, []

    def count():
        nonlocal done
        with lock:
            done += 1

    def predict(w, x):
        jax.debug.callback(count)
        return x @ w

    def client():
        nonlocal pulled
        for _ in range(batches_per_client):
            with lock:
                pulled += 1
                ahead.append(pulled - done)
            yield np.ones((2, 3), np.float32), np.ones(2, np.float32)

    model = fl.models.from_functions(lambda key: jnp.zeros(3), predict, lambda y, p: (p - y) ** 2)
    # With one lane a callback is called once per batch.
    executor = "debug" if executor == "debug" else EXECUTORS["one lane"]
    process = fl.LearningProcess(fl.algorithms.fedavg(model, optax.sgd(0.1)), executor=executor)
    total = 450
    _, metrics = process.next(process.initialize(), (client() for _ in range(total // batches_per_client)))
    assert metrics["num_batches"] == pulled == done == total
    capacity = 0 if executor == "debug" else _blocks.MAX_BATCHES_PER_BLOCK
    assert max(ahead) <= (_local.BLOCKS_IN_FLIGHT + 1) * capacity + 2


def test_the_local_executor_waits_before_it_hands_over_more_blocks(monkeypatch):
    """A callback, as above, makes XLA run at once; here a stand-in for the device, which finishes a block only when it is waited for."""

    class Token:
        def block_until_ready(self):
            outstanding.remove(self)

        def is_ready(self):
            return self not in outstanding

    def run_block(*arguments):
        lane, _, report = original(*arguments)
        outstanding.append(Token())
        most.append(len(outstanding))
        return lane, outstanding[-1], report

    process, outstanding, most = process_of("fedavg", "one lane"), [], []
    process.next(process.initialize(), clients_of("fedavg", [1]))
    original = process._executor._one
    monkeypatch.setattr(process._executor, "_one", run_block)
    process.next(process.initialize(), clients_of("fedavg", [1200, 3, 80]))
    small = _blocks.MAX_BATCHES_PER_BLOCK // 4
    assert len(most) == 1 + -(-(300 + 1 + 20 - small) // _blocks.MAX_BATCHES_PER_BLOCK)
    assert max(most) == _local.BLOCKS_IN_FLIGHT + 1


# What goes in, and what stays as it was


@every_executor
def test_clients_come_in_many_forms(executor):
    process = process_of("fedavg", executor)
    examples = clients_of("fedavg", [3, 6, 1])
    batches = {client: list(padded.batches(columns, client=client)) for client, columns in examples.items()}
    want = run(process, [examples])
    for form in (
        FederatedDataset.from_dict(examples),
        list(examples.values()),
        iter(examples.values()),
        {i: columns for i, columns in enumerate(examples.values())},
        {client: {name: column.tolist() for name, column in columns.items()} for client, columns in examples.items()},
        batches,
        list(batches.values()),
        (iter(own) for own in batches.values()),
        {client: iter(own) for client, own in batches.items()},
    ):
        assert_identical(run(process, [form]), want)
    exact = {client: exact_batches(columns) for client, columns in examples.items()}
    want = run(process, [exact])
    for form in (
        {client: tuple(own) for client, own in exact.items()},
        [[list(batch) for batch in own] for own in exact.values()],
        [[dict(zip(("x", "y", "sample_weight"), batch, strict=True)) for batch in own] for own in exact.values()],
        [[tuple(map(jnp.asarray, batch)) for batch in own] for own in exact.values()],
    ):
        assert_identical(run(process, [form]), want)


@every_executor
@pytest.mark.parametrize("clients", [None, 5, "KING"])
def test_anything_else_is_no_cohort(clients, executor):
    process = process_of("fedavg", executor)
    with pytest.raises(TypeError, match="clients must be a mapping from id to data, or a list"):
        process.next(process.initialize(), clients)


@every_pair
def test_the_old_state_and_the_users_weights_stay_valid(name, executor):
    """Nothing of the user's is donated to XLA: the same round again from the same state gives the same."""
    process = process_of(name, executor)
    mine = jax.tree.map(jnp.array, process.get_weights(process.initialize()))
    copy = jax.tree.map(np.array, mine)
    before = process.initialize(mine)
    for sizes in ([2, 0], [0, 2]):
        clients = clients_of(name, sizes)
        after, metrics = process.next(before, clients)
        process.evaluate(before, clients)
        again, metrics_again = process.next(before, clients)
        assert_identical((process.get_weights(again), metrics_again), (process.get_weights(after), metrics))
        assert_identical(process.get_weights(before), copy)
        assert_identical(mine, copy)
        assert before.round_number == 0 and after.round_number == 1
        assert not np.array_equal(jax.tree.leaves(process.get_weights(after))[0], jax.tree.leaves(copy)[0])


@every_case
def test_evaluation_is_the_same_on_every_executor_in_every_batch_size_and_form(name):
    """It is one mean over all examples, weighted; here against the loss of the first step with all examples in one batch."""
    process, clients = process_of(name, "local"), clients_of(name)
    state = process.initialize()
    want = process.evaluate(state, clients)
    joined = {column: np.concatenate([examples[column] for examples in clients.values()]) for column in ("x", "y", "sample_weight")}
    _, in_one_batch = process.next(state, [[joined]])
    for got in (
        {metric: in_one_batch[metric] for metric in want},
        process_of(name, "local" if name == "gru" else "debug").evaluate(state, clients),
        process.evaluate(state, clients, batch_size=5),
        process.evaluate(state, [exact_batches(examples) for examples in clients.values()]),
        process.evaluate(state, FederatedDataset.from_dict(clients)),
    ):
        assert_close({**got, "num_batches": 0}, {**want, "num_batches": 0})


# Failures


@every_executor
def test_a_reader_that_fails_is_named(executor):
    """Client, round and stage; the cause is there; and the process goes on with its next call."""

    def read(client):
        if client == "bob":
            raise OSError("disk on fire")
        return clients_of("fedavg", [3])["client 0"]

    process = process_of("fedavg", executor)
    state, _ = process.next(process.initialize(), clients_of("fedavg", [3]))
    with pytest.raises(ClientFailure, match="'bob' failed in round 1 at stage 'data': disk on fire") as caught:
        process.next(state, FederatedDataset({"ada": 3, "bob": 3, "cy": 3}, read))
    assert (caught.value.client, caught.value.round_number, caught.value.stage) == ("bob", 1, "data")
    assert isinstance(caught.value.__cause__, OSError)
    _, metrics = process.next(state, FederatedDataset({"ada": 3, "cy": 3}, read))
    assert metrics["num_clients"] == 2


@every_executor
def test_a_generator_that_fails_in_the_middle_is_named(executor):
    def batches():
        yield from exact_batches(line_examples(np.random.default_rng(0), 80))
        raise RuntimeError("connection lost")

    process = process_of("fedavg", executor)
    with pytest.raises(ClientFailure, match="'1' failed in round 0 at stage 'data': connection lost"):
        process.next(process.initialize(), [[], batches()])


@every_executor
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (4, 5, r"Labels \(y\) must lie in \[0, 5\).*from 1 to 5"),
        (4, -1, r"Labels \(y\) must lie in \[0, 5\).*from -1 to 1"),
        (5, 4, r"Inputs \(x\) must lie in \[0, 5\).*from 0 to 5"),
    ],
)
def test_labels_and_ids_that_the_model_does_not_have_are_refused(x, y, message, executor):
    """JAX alone would clamp or drop them silently."""
    process = process_of("gru", executor)
    bad = {"x": np.array([[0, 1, 2, x]]), "y": np.array([[1, 1, 1, y]])}
    with pytest.raises(ClientFailure, match=message) as caught:
        process.next(process.initialize(), clients_of("gru") | {"bob": bad})
    assert (caught.value.client, caught.value.stage) == ("bob", "data")
    assert isinstance(caught.value.__cause__, ValueError)


def wrong_at(step):
    """Batches of which one has 2 features instead of 3."""
    batches = exact_batches(line_examples(np.random.default_rng(0), 12))
    x, *rest = batches[step]
    return [*batches[:step], (x[:, :2], *rest), *batches[step + 1 :]]


@pytest.mark.parametrize("step", [0, 2])
def test_the_debug_executor_names_the_step(step):
    process = process_of("fedavg", "debug")
    with pytest.raises(ClientFailure) as caught:
        process.next(process.initialize(), clients_of("fedavg", [3]) | {"bob": wrong_at(step)})
    assert (caught.value.client, caught.value.round_number, caught.value.stage) == ("bob", 0, f"step {step}")


def test_the_local_executor_names_the_first_batch_that_the_model_cannot_take():
    process = process_of("fedavg", "local")
    with pytest.raises(ClientFailure) as caught:
        process.next(process.initialize(), {"bob": wrong_at(1)})
    assert (caught.value.client, caught.value.round_number, caught.value.stage) == ("bob", 0, "step 1")
    assert caught.value.__cause__ is not None


def test_an_unknown_executor_is_an_error():
    with pytest.raises(ValueError, match=r"executor must be one of \['debug', 'local'.*got 'gpu'"):
        fl.LearningProcess(CASES["fedavg"].algorithm(), executor="gpu")
