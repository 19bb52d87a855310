"""The step from a text to its next token: the model's state and logits, and a draw from these."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import keras

from fedloom.core import Carry, Generation, Key, ModelWeights
from fedloom.models import StatelessCall, rebuild


class Reader(NamedTuple):
    """A recurrent model of one text at a time."""

    init_state: Callable[[], Carry]  # before the first token
    read: Callable[[ModelWeights, Carry, jax.Array], tuple[jax.Array, Carry]]
    """(weights, state, ids (time,)) -> logits (tokens,) of what comes next, state after these ids."""


def reader(keras_model: keras.Model) -> Reader:
    """The model for one text at a time, its state carried along.

    Args:
        keras_model: Ids (batch, time) to logits (batch, time, tokens), with recurrent layers; it is not changed, and its weights are not
            taken.

    Raises:
        TypeError: The model is neither Sequential nor Functional.
        ValueError: It has no recurrent layer.
    """
    call = StatelessCall(rebuild(keras_model, 1, stateful=True, fused=True))
    if not call.rnn_states:
        raise ValueError(f"Model {keras_model.name!r} has no recurrent layer whose state could carry the text so far.")

    def read(weights, state, ids):
        # Inference draws nothing, so any key will do.
        output, _, _, state = call(weights.trainable, weights.non_trainable, state, ids[None], jax.random.key(0), training=False)
        return output[0, -1], state

    return Reader(call.zero_state, read)


def draw(logits: jax.Array, temperature: float | jax.Array, key: Key) -> jax.Array:
    """A token by the probabilities softmax(logits / temperature), or the likeliest one at temperature 0.

    Args:
        logits: Shape (tokens,).
        temperature: Shape (), >= 0.
        key: Of this draw.

    Returns:
        Its id, int32 of shape ().

    Example:
        >>> draw(jnp.array([0.0, 9.0, 1.0]), 0.0, jax.random.key(0)).item()
        1
    """
    drawn = jax.random.categorical(key, logits / jnp.where(jnp.equal(temperature, 0), 1, temperature))
    return jnp.where(jnp.equal(temperature, 0), jnp.argmax(logits), drawn).astype(jnp.int32)


def generation(keras_model: keras.Model, tokens: tuple[str, ...]) -> Generation:
    """The same as a step that a program outside Python can take.

    Args:
        keras_model: As for `reader`.
        tokens: The text of each token, by id.

    Raises:
        TypeError: The model is neither Sequential nor Functional.
        ValueError: It has no recurrent layer.
    """
    model = reader(keras_model)

    def step(weights, state, token, temperature, key):
        logits, state = model.read(weights, state, token[None])
        return draw(logits, temperature, key), state

    return Generation(tokens, model.init_state, step)
