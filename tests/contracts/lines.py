"""What contract tests share: linear regression in three dimensions, clients with few examples, and how results are compared."""

import jax
import jax.numpy as jnp
import numpy as np

import fedloom as fl
from fedloom.data import Batching

padded = Batching(size=4, shuffle=False)
LINE = np.array([1.0, -2.0, 0.5])


def line_model(on_trace=lambda: None):
    def predict(params, x):
        on_trace()
        return x @ params["w"] + params["b"]

    def init(key):
        return {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())}

    return fl.models.from_functions(init, predict, lambda y, p: (p - y) ** 2 / 2, {"bias": lambda y, p: p - y})


def line_examples(rng, count):
    x = rng.normal(size=(count, 3)).astype(np.float32)
    y = (x @ LINE + 0.3 + 0.1 * rng.normal(size=count)).astype(np.float32)
    return {"x": x, "y": y, "sample_weight": rng.uniform(0.5, 2, count).astype(np.float32)}


def line_clients(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return {f"client {i}": line_examples(rng, n) for i, n in enumerate(sizes)}


def exact_batches(examples, size=4):
    count = len(examples["y"])
    return [tuple(examples[c][i : i + size] for c in ("x", "y", "sample_weight")) for i in range(0, count, size)]


def run(process, cohorts, start=None):
    """Weights and metrics after rounds with these cohorts."""
    state = process.initialize(start)
    for cohort in cohorts:
        state, metrics = process.next(state, cohort)
    return process.get_weights(state), metrics


def assert_close(got, want, rtol=2e-5, atol=2e-6):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=rtol, atol=atol), got, want)


def assert_identical(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


class Compilations:
    """Counts what XLA compiles while it is active."""

    def __enter__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def _listen(self, event, duration, **kwargs):
        self.count += event == "/jax/core/compile/backend_compile_duration"

    def __exit__(self, *exception):
        jax.monitoring.unregister_event_duration_listener(self._listen)
