"""A character model with the loss and the metric that everybody uses for it."""

from __future__ import annotations

import functools
from typing import Literal

import keras

from fedloom.core import Model
from fedloom.models import from_keras, with_batch_size

from ._next_token import generation
from ._vocabulary import TUTORIAL_VOCAB


def next_character_model(
    keras_model: keras.Model,
    *,
    carry_batch_size: int | None = None,
    compute: Literal["float32", "bfloat16"] = "float32",
    vocabulary: tuple[str, ...] = TUTORIAL_VOCAB,
) -> Model:
    """`from_keras` with cross-entropy on logits, in nats per character, and accuracy, the share of characters predicted right.

    Args:
        keras_model: Ids (batch, time) to logits (batch, time, len(vocabulary)).
        carry_batch_size: Rows of a batch, if RNN state is to be carried over a client's batches, as in TFF's tutorial; None starts every
            batch from zeros.
        compute: What products multiply, as in `from_keras`.
        vocabulary: The characters, by id.

    Raises:
        ValueError: The model's output does not fit the vocabulary.
    """
    check_output(keras_model, vocabulary)
    rnn_state: Literal["reset", "carry"] = "carry" if carry_batch_size else "reset"
    model = from_keras(
        with_batch_size(keras_model, carry_batch_size, stateful=True) if carry_batch_size else keras_model,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        rnn_state=rnn_state,
        compute=compute,
    )
    return model._replace(generation=functools.cache(lambda: generation(keras_model, vocabulary)))  # costs a copy of the model


def check_output(keras_model: keras.Model, vocabulary: tuple[str, ...] = TUTORIAL_VOCAB) -> None:
    """Raises ValueError if the model's output is not one logit per character of the vocabulary."""
    shape = keras_model.outputs[0].shape if getattr(keras_model, "outputs", None) else ()
    if len(shape) != 3 or shape[-1] != len(vocabulary):
        raise ValueError(
            f"Model {keras_model.name!r} must give logits of shape (batch, time, {len(vocabulary)}) for a vocabulary of {len(vocabulary)} "
            f"characters, got {tuple(shape)}. Use the vocabulary it was trained with."
        )
