"""Lanes: how many there are, who goes where, and that nothing about their placement shows."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts.lines import assert_close, assert_identical, exact_batches, line_clients, line_model, padded, run
from hypothesis import given, settings
from hypothesis import strategies as st

import fedloom as fl
from fedloom.core import Batch
from fedloom.engine import LocalExecutor, _blocks
from fedloom.engine._cohort import prepare
from fedloom.engine._narrow_products import with_narrow_products_apart
from fedloom.engine._number_of_lanes import CPU_LANES
from fedloom.engine._works import works

SIZES = [3, 1, 9, 40, 0, 1, 5, 2, 8, 1, 17]


def process_with(model=None, batching=padded, optimizer=None, **options):
    algorithm = fl.algorithms.fedavg(model or line_model(), optimizer or optax.adam(0.02))
    return fl.LearningProcess(algorithm, batching=batching, executor=functools.partial(LocalExecutor, **options))


def digest_of_devices(devices):
    """Weights and metrics of two rounds in 4 groups of 2 lanes, as bytes."""
    process = process_with(lanes=2, groups=4, devices=jax.devices()[:devices])
    weights, metrics = run(process, [line_clients(SIZES), line_clients(SIZES[::-1], seed=1)])
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(weights)).hex() + repr(sorted(metrics.items()))


def report_on_devices():
    """For the test below, in a process that has four devices."""
    assert len(jax.devices()) == 4, jax.devices()
    one, two, four = (digest_of_devices(n) for n in (1, 2, 4))
    assert_close(run(process_with(), [line_clients(SIZES)]), run(process_with(lanes=1, groups=1), [line_clients(SIZES)]))
    print("equal" if one == two == four else "different")


def test_devices_change_no_bit():
    """Four devices of the CPU, two, or one, with the same groups of lanes; and by default every device has a group."""
    paths = os.pathsep.join([os.path.dirname(__file__), *(path for path in sys.path if path)])
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = os.environ | {"PYTHONPATH": paths, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import test_lanes; test_lanes.report_on_devices()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "equal"


@pytest.mark.skipif(jax.default_backend() == "cpu", reason="needs a GPU or TPU: there lanes are vectorized by default")
def test_an_accelerator_gives_the_same_sums():
    process = process_with()
    got = run(process, [line_clients(SIZES)])
    assert process._executor.lanes > 1
    assert_close(got, run(process_with(lanes=1, devices=jax.devices("cpu")[:1]), [line_clients(SIZES)]), rtol=1e-3, atol=1e-4)


def model_of(apply, shape):
    return fl.models.from_functions(lambda key: jnp.zeros(shape), apply, lambda y, p: (p - y) ** 2)


@pytest.mark.parametrize(
    ("apply", "shape", "lanes"),
    [
        (lambda w, x: x @ w[:3], 3, CPU_LANES),
        (lambda w, x: x @ w[:3], 2**15 + 1, 1),  # too large for the caches of lanes together
        (lambda w, x: jax.lax.scan(lambda c, row: (c * w[0], row @ w), w[0], x)[1], 3, 1),
        (lambda w, x: jax.jit(lambda v: jnp.convolve(v, w))(x[:, 0])[: len(x)], 3, 1),
    ],
    ids=["small", "large", "loop", "convolution"],
)
def test_the_default_number_of_lanes_follows_from_the_model(apply, shape, lanes):
    process = process_with(model_of(apply, shape), optimizer=optax.sgd(0.01), devices=jax.devices("cpu")[:1])
    process.next(process.initialize(), line_clients([0, 5, 3]))
    assert process._executor.lanes == lanes


@pytest.mark.parametrize("bad", [{"lanes": 0}, {"groups": -1}, {"devices": []}], ids=str)
def test_less_than_one_of_anything_is_an_error(bad):
    ((name, _),) = bad.items()
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        LocalExecutor(fl.algorithms.fedavg(line_model(), optax.sgd(0.1)), fl.aggregators.weighted_mean(), **bad)


@pytest.mark.parametrize("lanes", [2, 5])
def test_batches_of_different_shapes_stand_in_blocks_of_their_own(lanes):
    """A lane whose batch has another shape waits in the middle of its client, and its state waits with it."""
    clients = {client: exact_batches(examples) for client, examples in line_clients([3, 1, 4, 0, 3, 1, 2]).items()}
    assert_close(run(process_with(lanes=lanes), [clients] * 2), run(process_with(lanes=1), [clients] * 2))


def test_arrays_of_blocks_are_used_again_only_when_nobody_reads_them():
    """Many small blocks over several rounds, against new arrays for every block."""
    clients = [line_clients([3, 6, 1, 9, 2] * 8, seed=seed) for seed in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_blocks, "MAX_BATCHES_PER_BLOCK", 6)
        got = run(process_with(lanes=2), clients)
        patch.setattr(_blocks.Buffers, "release", lambda *anything: None)
        want = run(process_with(lanes=2), clients)
    assert_identical(got, want)


class Placed:
    """Where every batch of every client went: (client, step) -> the lane and the row in the whole stream."""

    def __init__(self, sizes, lanes, capacity, groups=1):
        clients = {f"c{i}": {"x": np.full((n, 1), i), "y": np.arange(n)} for i, n in enumerate(sizes)}
        cohort = prepare(clients, fl.data.Batching(size=2, shuffle=False), seed=0, round_number=0, check=lambda batch: None)
        algorithm = fl.algorithms.fedavg(line_model(), optax.sgd(0.1))
        self.at, self.empty, self.contents, self.ends, base = {}, [], {}, {}, 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_blocks, "MAX_BATCHES_PER_BLOCK", capacity * lanes)
            waiting = works(cohort, algorithm.client.passes)
            for block, _ in _blocks.blocks(waiting, _blocks.Buffers(), lanes=lanes, groups=groups):
                if isinstance(block, _blocks.Empty):
                    self.empty.append(block.client)
                    continue
                assert 1 <= block.count <= capacity and not block.holes
                slots = jax.tree.map(lambda column: column.reshape(-1, *column.shape[2:]), block.slots)
                for lane, row in zip(*np.nonzero(slots.works), strict=True):
                    assert row < block.count
                    key = int(slots.client[lane, row]), int(slots.step[lane, row])
                    assert key not in self.at
                    self.at[key] = int(lane), base + int(row)
                    self.contents[key] = Batch(*(np.array(part[lane, row]) for part in slots.batch))
                    self.ends[key] = bool(slots.first[lane, row]), bool(slots.last[lane, row])
                base += block.count


sizes = st.lists(st.integers(0, 9), max_size=14)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(1, 4), st.integers(1, 5), st.integers(1, 2))
def test_every_batch_is_in_one_place_and_lanes_end_together(sizes, lanes, capacity, groups):
    """Each client in one lane, without gaps, flagged where it begins and ends; no lane idles while a client waits."""
    placed = Placed(sizes, lanes, capacity, groups)
    assert placed.empty == [i for i, n in enumerate(sizes) if n == 0]
    batches = {i: -(-n // 2) for i, n in enumerate(sizes) if n}
    assert placed.at.keys() == {(i, k) for i, count in batches.items() for k in range(count)}
    for (client, step), (lane, row) in placed.at.items():
        assert placed.at[client, 0] == (lane, row - step)
        assert placed.ends[client, step] == (step == 0, step == batches[client] - 1)
        batch, real = placed.contents[client, step], min(2, sizes[client] - 2 * step)
        assert batch.real.sum() == real and (batch.x == client).all()
        assert batch.y[:real].tolist() == list(range(2 * step, 2 * step + real))
    rows = [[row for lane, row in placed.at.values() if lane == one] for one in range(lanes * groups)]
    lengths = [max(own, default=-1) + 1 for own in rows]
    assert all(len(own) == length for own, length in zip(rows, lengths, strict=True)), "a lane idles before it is done"
    assert max(lengths) - min(lengths) <= max(batches.values(), default=0)


@pytest.mark.parametrize("differentiate", [False, True])
def test_keeping_narrow_products_apart_changes_no_value(differentiate):
    """Through jit, custom derivatives, loops, branches and literals; alone and vectorized; twice the same inputs."""

    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))

    def loss(w, x):
        z = double(jax.nn.relu(jax.jit(jnp.matmul)(x, w["w"]))) + w["b"]
        z = jax.lax.scan(lambda c, row: (c + row, c * row), jnp.zeros(10), z)[1]
        return jax.lax.cond(z.sum() > 0, lambda: (z**2).mean(), lambda: z.mean() - 3.0), w["b"]

    function = (lambda w, x: jax.grad(loss, has_aux=True)(w, x)) if differentiate else loss
    rng = np.random.default_rng(0)
    w = {"w": rng.normal(size=(2, 150, 10)).astype(np.float32), "b": rng.normal(size=(2, 10)).astype(np.float32)}
    x = rng.normal(size=(2, 4, 150)).astype(np.float32)
    assert_close(jax.jit(jax.vmap(with_narrow_products_apart(function)))(w, x), jax.jit(jax.vmap(function))(w, x), rtol=1e-5)
    assert (
        "optimization_barrier" in str(jax.make_jaxpr(with_narrow_products_apart(function))(*jax.tree.map(lambda a: a[0], (w, x))))
        or not differentiate
    )
