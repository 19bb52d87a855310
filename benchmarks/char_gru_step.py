"""Seconds per 8x100 batch of the tutorial's model in the local executor, against the same executor with Keras' own GRU.

    python benchmarks/char_gru_step.py [--clients 4 --repeats 5]

Both sides run in turn in one process, on the same batches, from the same weights; their losses must agree. Compiling is left out. Prints
the median and range of each side in milliseconds per batch, and the median ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time

import jax
import numpy as np
import optax

import fedloom as fl  # before keras

import keras  # isort: skip

BATCHES_PER_CLIENT, ROWS, LENGTH, VOCABULARY = 5, 8, 100, 86


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    keras_model = fl.models.char_gru()
    rng = np.random.default_rng(0)
    ids = rng.integers(VOCABULARY, size=(arguments.clients, BATCHES_PER_CLIENT, ROWS, LENGTH + 1)).astype(np.int32)
    clients = [[(batch[:, :-1], batch[:, 1:]) for batch in client] for client in ids]

    sides = {"fused": _process(keras_model, fused=True), "keras": _process(keras_model, fused=False)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(arguments.repeats + 1):
        losses = {}
        for name, process in sides.items():
            state = process.initialize(keras_model)
            start = time.perf_counter()
            state, metrics = process.next(state, clients)
            jax.block_until_ready(process.get_weights(state))
            if repeat:  # the first compiles
                times[name].append(1e3 * (time.perf_counter() - start) / (arguments.clients * BATCHES_PER_CLIENT))
            losses[name] = metrics["loss"]
        np.testing.assert_allclose(losses["fused"], losses["keras"], rtol=1e-5)
    for name, values in times.items():
        print(f"{name}: {statistics.median(values):.1f} ms per batch ({min(values):.1f} to {max(values):.1f})")
    ratios = [k / f for f, k in zip(times["fused"], times["keras"], strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); loss {losses['fused']:.6f} on both sides")
    print(f"{os.cpu_count()} cores, {platform.machine()}, jax {jax.__version__}, keras {keras.__version__}, fedloom {fl.__version__}")


def _process(keras_model: keras.Model, *, fused: bool) -> fl.LearningProcess:
    from fedloom.models import _clone

    swap = _clone.FusedGRU
    try:
        if not fused:
            _clone.FusedGRU = keras.layers.GRU
        model = fl.models.from_keras(keras_model, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    finally:
        _clone.FusedGRU = swap
    return fl.LearningProcess(fl.algorithms.fedavg(model, optax.sgd(0.1)))


if __name__ == "__main__":
    main()
