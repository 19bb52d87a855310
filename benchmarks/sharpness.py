"""The sharpness of the shipped model's loss on clients of TFF's Shakespeare: which step of plain SGD is too long for them.

    python benchmarks/sharpness.py FOLDER [CLIENT ...]

FOLDER holds `shakespeare_train.h5` and `shakespeare_test.h5`. Prints, for the first batches of 8x100 characters of each client, the largest
eigenvalue of the Hessian, by power iteration, and 2 over it: gradient descent with a longer step than that diverges along its eigenvector
(for a quadratic; for a network it oscillates or jumps).
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp

import fedloom as fl

CLIENTS = ("ALL_S_WELL_THAT_ENDS_WELL_CELIA", "MUCH_ADO_ABOUT_NOTHING_OTHELLO")
BATCHES, ITERATIONS = 2, 25


def main(folder: str, clients: tuple[str, ...]) -> None:
    """Measures and prints."""
    keras_model = fl.models.load("dickens")
    model = fl.text.next_character_model(keras_model)
    weights = model.weights_from(keras_model)
    train, _ = fl.data.shakespeare("tff", path=folder)
    windows = train.map(fl.text.CharWindows(100, remainder="drop"))
    batching = fl.data.Batching(size=8, shuffle=False, max_batches=BATCHES, remainder="drop")
    for client in clients:
        for i, batch in enumerate(batching.batches(windows[client], client=client)):
            largest = _largest_eigenvalue(
                lambda p, batch=batch: model.loss(p, weights.non_trainable, (), batch, jax.random.key(0))[0], weights
            )
            print(f"{client} batch {i}: largest eigenvalue {largest:.1f}, longest stable step {2 / largest:.2f}")


def _largest_eigenvalue(loss, weights) -> float:
    @jax.jit
    def iterate(v):
        v = [leaf / jnp.sqrt(_dot(v, v)) for leaf in v]
        product = jax.grad(lambda p: _dot(jax.grad(loss)(p), v))(weights.trainable)
        return _dot(v, product), product

    v = [jax.random.normal(jax.random.key(i), w.shape) for i, w in enumerate(weights.trainable)]
    for _ in range(ITERATIONS):
        value, v = iterate(v)
    return float(value)


def _dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(a, b, strict=True))


if __name__ == "__main__":
    main(sys.argv[1], tuple(sys.argv[2:]) or CLIENTS)
