"""What tests of exports share: small processes of every kind of model, a batch for each, and programs run as JAX runs them live."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import numpy as np
from golden_cases import keras

import fedloom as fl
from fedloom.core import Batch, step_key

ROWS = 4
LENGTH = 24  # so that a batch has more characters than the vocabulary, as real ones have
KEY = jax.random.key(7)


class Case(NamedTuple):
    """A model with a process, and examples that fill one batch."""

    keras_model: keras.Model
    process: fl.LearningProcess
    x: np.ndarray
    y: np.ndarray

    @property
    def batch(self):
        ones = np.ones(len(self.x), np.float32)
        return Batch(self.x, self.y, ones, ones)


def classes():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return loss, [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


def case_of(keras_model, model, x, y, rows=ROWS):
    algorithm = fl.algorithms.fedavg(model, fl.optimizers.sgd(0.1))
    return Case(keras_model, fl.LearningProcess(algorithm, batching=fl.data.Batching(size=rows, shuffle=False)), x, y)


@functools.cache
def mlp():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(5, activation="tanh"), keras.layers.Dropout(0.4), keras.layers.Dense(3)]
    keras_model = keras.Sequential([keras.Input((2,)), *layers])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2)).astype(np.float32)
    return case_of(keras_model, fl.models.from_keras(keras_model, *classes()), x, rng.integers(0, 3, ROWS).astype(np.int32))


@functools.cache
def cnn():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Conv2D(3, 3, activation="relu"), keras.layers.MaxPooling2D(), keras.layers.BatchNormalization()]
    keras_model = keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Flatten(), keras.layers.Dense(3)])
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, 8, 8, 1)).astype(np.float32)
    return case_of(keras_model, fl.models.from_keras(keras_model, *classes()), x, rng.integers(0, 3, ROWS).astype(np.int32))


@functools.cache
def gru(units=12, embedding=6, rows=ROWS, length=LENGTH):
    """The tutorial's model, small or, with 1024 units, as it is."""
    keras.utils.set_random_seed(2)
    keras_model = fl.models.char_gru(embedding=embedding, units=units)
    ids = np.random.default_rng(2).integers(0, 86, (rows, length + 1)).astype(np.int32)
    return case_of(keras_model, fl.text.next_character_model(keras_model), ids[:, :-1], ids[:, 1:], rows)


CASES = {"mlp": mlp, "cnn": cnn, "gru": gru}


def write(case, folder, **options):
    """The export of a case with the weights of its Keras model."""
    process = case.process
    options = {"state": process.initialize(case.keras_model), "batch": (case.x, case.y)} | options
    return fl.export.client_work(process, folder, **options)


def leaves(tree):
    """Arrays in order; those of a group of an export in its own order, for JAX would sort its names."""
    if isinstance(tree, list | tuple) and not hasattr(tree, "_fields"):
        return [leaf for part in tree for leaf in leaves(part)]
    is_group = isinstance(tree, dict) and all(hasattr(value, "shape") for value in tree.values())
    return [np.asarray(leaf) for leaf in (tree.values() if is_group else jax.tree.leaves(tree))]


def assert_same_bits(got, want):
    got, want = leaves(got), leaves(want)
    assert len(got) == len(want) > 0
    for one, other in zip(got, want, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def live(case, steps=2):
    """The message and the local states after begin and each step, as the process' own function computes them, compiled by itself."""
    work, state = case.process.algorithm.client, case.process.initialize(case.keras_model)
    message = case.process.algorithm.broadcast(state.server, jax.numpy.int32(0))
    step = jax.jit(lambda *given: work.step(*given))  # a function of its own, traced anew
    locals_ = [work.begin(message, (), KEY)]
    for k in range(steps):
        locals_.append(step(message, locals_[-1], case.batch, step_key(KEY, k)))
    return message, locals_
