"""Text from a recurrent character model, one character after another, its state carried along."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import keras

from fedloom.core import ModelWeights

from ._next_character import check_output
from ._next_token import draw, reader
from ._vocabulary import TUTORIAL_VOCAB, decode, encode, unknown_characters


def generate(
    keras_model: keras.Model,
    prompt: str,
    *,
    length: int = 200,
    temperature: float = 1.0,
    seed: int = 0,
    vocabulary: tuple[str, ...] = TUTORIAL_VOCAB,
) -> str:
    """Continues a prompt.

    Args:
        keras_model: Ids (batch, time) to logits (batch, time, len(vocabulary)), with recurrent layers; of any batch size, stateful or not.
            It is not changed.
        prompt: At least one character, all in the vocabulary.
        length: Characters to add.
        temperature: Divides the logits; below 1 likelier text, above 1 wilder; 0 always takes the likeliest character.
        seed: Decides every draw.
        vocabulary: The characters, by id.

    Returns:
        The prompt and `length` characters more.

    Raises:
        ValueError: The prompt is empty or has other characters, a number is out of range, or the model does not fit the vocabulary.
    """
    _check(keras_model, prompt, length, temperature, vocabulary)
    model = reader(keras_model)
    weights = ModelWeights([w.value for w in keras_model.trainable_weights], [w.value for w in keras_model.non_trainable_weights])

    @jax.jit
    def run(weights, prompt_ids, key):
        def step(carry, step_key):
            logits, state = carry
            drawn = draw(logits, temperature, step_key)
            return model.read(weights, state, drawn[None]), drawn

        start = model.read(weights, model.init_state(), prompt_ids)
        return jax.lax.scan(step, start, jax.random.split(key, length))[1]

    ids = run(weights, jnp.asarray(encode(prompt, vocabulary)), jax.random.key(seed))
    return prompt + decode(jax.device_get(ids), vocabulary)


def _check(keras_model, prompt, length, temperature, vocabulary) -> None:
    if not isinstance(keras_model, keras.Model):
        raise TypeError(f"keras_model must be a keras.Model, got {type(keras_model).__name__}.")
    check_output(keras_model, vocabulary)
    if not prompt:
        raise ValueError("prompt must have at least one character, got an empty text.")
    if unknown := unknown_characters(prompt, vocabulary):
        raise ValueError(f"prompt has characters outside the vocabulary: {', '.join(map(repr, unknown))}. Replace or leave them out.")
    if length < 0:
        raise ValueError(f"length must be at least 0, got {length}.")
    if not temperature >= 0 or temperature == float("inf"):
        raise ValueError(f"temperature must be a number >= 0, got {temperature}.")
