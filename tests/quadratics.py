"""Three clients that disagree: f_i(x) = a_i |x - c_i|^2 / 2 in the plane, for which every algorithm can be done on paper.

Curvatures, centres and sizes are all different, so that no error hides behind a symmetry.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np

import fedloom as fl
from fedloom.core import Batch

CLIENTS = ["ada", "bob", "cy"]
A = np.array([0.5, 2.0, 5.0])  # a_i
C = np.array([[3.0, -1.0], [-2.0, 0.5], [10.0, 7.0]])  # c_i
N = np.array([1, 4, 2])  # examples
START = np.array([0.5, -4.0])


def gradients(x):
    """Of every client at x: a_i (x - c_i)."""
    return A[:, None] * (x - C)


def mean(values):
    """Over clients, by their examples."""
    return np.average(values, axis=0, weights=N)


def model():
    """A weight in the plane; an example is a centre as x and its curvature as y."""
    return fl.models.from_functions(lambda key: jnp.zeros(2), lambda x, c: x - c, lambda a, error: a * (error**2).sum(-1) / 2)


def padded(x, y, sample_weight=None, rows=4):
    """A batch filled up to so many rows, so that all tests share a shape and the compiled code."""
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    fill = [np.concatenate([column, np.zeros((rows - len(y), *np.shape(column)[1:]))]).astype(np.float32) for column in (x, y, weight)]
    return Batch(*fill, np.float32(np.arange(rows) < len(y)))


def clients(names=tuple(CLIENTS), steps=1):
    """For each, `steps` batches that all hold its `n_i` examples."""
    indices = {name: CLIENTS.index(name) for name in names}
    return {name: [padded(np.tile(C[i], (N[i], 1)), np.full(N[i], A[i]))] * steps for name, i in indices.items()}


def mixed_clients(rng, count=3):
    """Clients of one to three batches of one to four random centres and curvatures, and one without data."""

    def client():
        sizes = rng.integers(1, 5, size=rng.integers(1, 4))
        return [padded(rng.normal(size=(n, 2)), rng.uniform(0.5, 2, n), rng.uniform(0.5, 2, n)) for n in sizes]

    return {**{str(i): client() for i in range(count)}, "empty": []}


@functools.cache
def process_of(make, *args, **kwargs):
    """A process with `make(model, *args, **kwargs)`; it holds no state but compiled code, so tests share it."""
    return fl.LearningProcess(make(model(), *args, **kwargs))


def run(process, cohorts, start=START, **hparams):
    """Weights after rounds with these cohorts, and the metrics of the last; hyperparameters have __ for a dot."""
    state = process.set_hparams(process.initialize(np.float32(start)), {name.replace("__", "."): value for name, value in hparams.items()})
    for cohort in cohorts:
        state, metrics = process.next(state, cohort)
    return np.asarray(process.get_weights(state).trainable), metrics
