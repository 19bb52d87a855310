"""A Keras model's weights as `ModelWeights` and back: fresh ones, given ones, into a model, into a file.

With care: the order, trainable and non-trainable each as Keras lists them, on which everything saved depends.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from fedloom.core import ModelWeights

from .._files import replacing
from ._clone import is_rebuildable, rebuild


def fresh_weights(model: keras.Model, key) -> ModelWeights:
    """Weights as the model's initializers draw them, decided by the key alone."""
    if not is_rebuildable(model):
        raise TypeError(f"Fresh weights need a Sequential or Functional model, got {type(model).__name__}; pass weights instead.")
    # Keras draws the seeds of its initializers from Python's global generator; it is put back as it was.
    state = random.getstate()
    try:
        random.seed(int.from_bytes(np.asarray(jax.random.key_data(key)).tobytes(), "little"))
        fresh = rebuild(model, model.inputs[0].shape[0], stateful=None, fused=False)
    finally:
        random.setstate(state)
    return weights_from(fresh, fresh)


def weights_from(model: keras.Model, source: Any) -> ModelWeights:
    """`ModelWeights` from a Keras model, a list of arrays in Keras' order, or `ModelWeights`; shapes are checked against `model`."""
    expected = [tuple(w.shape) for w in model.weights]
    if isinstance(source, ModelWeights):
        kinds = list(zip(source, (model.trainable_weights, model.non_trainable_weights), strict=True))
        for values, variables in kinds:
            _check_shapes([tuple(np.shape(v)) for v in values], [tuple(w.shape) for w in variables], model.name)
        # Copies: on a CPU, JAX may otherwise use a NumPy array where it lies, and see what the user writes there later.
        return ModelWeights(*[[jnp.array(v, dtype=w.dtype) for v, w in zip(*kind, strict=True)] for kind in kinds])
    values = [w.value for w in source.weights] if isinstance(source, keras.Model) else list(source)
    _check_shapes([tuple(np.shape(v)) for v in values], expected, model.name)
    by_id = {id(w): jnp.asarray(v, dtype=w.dtype) for w, v in zip(model.weights, values, strict=True)}
    # Copies, so that training the user's model further, or donating these, touches nothing of the other.
    kinds = (model.trainable_weights, model.non_trainable_weights)
    return ModelWeights(*[[jnp.array(by_id[id(w)], copy=True) for w in kind] for kind in kinds])


def assign_weights(model: keras.Model, weights: ModelWeights) -> None:
    """Puts weights into a Keras model of the same architecture, all or none."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"Weights can be assigned to a keras.Model, got {type(model).__name__}.")
    kinds = list(zip((model.trainable_weights, model.non_trainable_weights), weights, strict=True))
    for targets, values in kinds:
        _check_shapes([tuple(np.shape(v)) for v in values], [tuple(w.shape) for w in targets], model.name)
    for targets, values in kinds:
        for target, value in zip(targets, values, strict=True):
            target.assign(jnp.array(value, copy=True))  # Keras' own training gives its buffers away


def model_saver(model: keras.Model) -> Callable[[ModelWeights, Path], Path]:
    """What writes `model.keras` into a folder: the model as it was given, with the weights given, not compiled."""
    copy = functools.cache(lambda: keras.models.clone_model(model))  # once, and only if needed: it draws weights that nobody wants

    def save(weights: ModelWeights, folder: Path) -> Path:
        assign_weights(copy(), weights)
        with replacing(folder / "model.keras") as unfinished:
            copy().save(unfinished)
        return folder / "model.keras"

    return save


def _check_shapes(got: list[tuple], expected: list[tuple], name: str) -> None:
    if len(got) != len(expected):
        raise ValueError(f"Model {name!r} has {len(expected)} weights, got {len(got)} arrays. Give one per weight, in the model's order.")
    for i, (g, e) in enumerate(zip(got, expected, strict=True)):
        if g != e:
            raise ValueError(f"Weight {i} of model {name!r} must have shape {e}, got {g}. Do both come from the same architecture?")
