"""Data is read while the device computes, and the time for which it had to wait is measured between bounds."""

import time

import jax.numpy as jnp
import optax
import pytest
from contracts.lines import line_clients, line_model, padded, run
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import fedloom as fl
from fedloom.engine import LocalExecutor, _blocks, _waiting


class Reading(dict):
    """Clients by number, and what happens when one is read."""

    def __init__(self, count, on_read):
        super().__init__({i: examples for i, examples in enumerate(line_clients([4] * count).values())})
        self.on_read = on_read

    def __getitem__(self, client):
        self.on_read(client)
        return super().__getitem__(client)


def test_the_next_client_is_read_while_the_device_works(monkeypatch):
    """A step takes some 50 ms, a read microseconds: when a client is read, the block handed over before is not done yet."""
    monkeypatch.setattr(_blocks, "MAX_BATCHES_PER_BLOCK", 1)
    handed_over, still_at_work = [], []

    def make(*arguments, **options):
        executor = LocalExecutor(*arguments, **options, lanes=1)
        run_block = executor._one

        def remembered(*inputs):
            outputs = run_block(*inputs)
            handed_over.append(outputs[1])
            return outputs

        executor._one = remembered
        return executor

    def predict(weights, x):
        square = jnp.outer(x[:, 0], jnp.ones(700)).T @ jnp.ones((x.shape[0], 700)) + weights[0]
        return x @ weights + 0 * lax.fori_loop(0, 5, lambda i, m: m @ square / 700, square).sum()

    model = fl.models.from_functions(lambda key: jnp.zeros(3), predict, lambda y, p: (p - y) ** 2)
    process = fl.LearningProcess(fl.algorithms.fedavg(model, optax.sgd(0.1)), batching=padded, executor=make)
    state, _ = process.next(process.initialize(), line_clients([4]))  # compiles
    process.next(state, Reading(8, lambda client: still_at_work.append(not handed_over[-1].is_ready())))
    assert sum(still_at_work[2:]) >= 4, "of the 6 clients read after the first block was handed over"


def test_a_slow_read_is_waited_for():
    """40 reads of 10 ms for a model that takes none: the device waits at least 80 % of that, and not longer than the round took."""
    executors = []

    def make(*arguments, **options):
        executors.append(LocalExecutor(*arguments, **options))
        return executors[-1]

    process = fl.LearningProcess(fl.algorithms.fedavg(line_model(), optax.adam(0.02)), batching=padded, executor=make)
    run(process, [line_clients([4])])  # compiles
    began = time.perf_counter()
    run(process, [Reading(40, lambda client: time.sleep(0.01))])
    at_least, at_most = executors[-1].waited
    assert at_least <= at_most and 0.8 * 0.4 < at_most < time.perf_counter() - began


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=5))
def test_the_bounds_enclose_the_truth(waits):
    """With a clock and a device of our own, which waits from the later of its end and the beginning of the wait for the next block."""
    now, done_at, truth = [0.0], [0.0], 0.0

    class Device:
        def is_ready(self):
            return now[0] >= done_at[0]

    def blocks():
        nonlocal truth
        for _, wait in waits:
            truth += max(0.0, now[0] + wait - max(done_at[0], now[0]))
            now[0] += wait
            yield _blocks.Empty(0, full=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_waiting.time, "perf_counter", lambda: now[0])
        watch = _waiting.Watch()
        for (work, _), _ in zip(waits, watch.waits_for(blocks()), strict=True):
            watch.running, done_at[0] = [Device()], now[0] + work
    at_least, at_most = watch.waited
    assert at_least - 1e-9 <= truth <= at_most + 1e-9
    idle_from_the_start = all(work == 0 for work, _ in waits)
    assert not idle_from_the_start or at_least == pytest.approx(at_most)
