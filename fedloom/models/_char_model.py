"""The character model of the reference job: Embedding, GRU, Dense, as in TFF's text-generation tutorial."""

from __future__ import annotations

import keras

from ._recurrent import FusedGRU


def char_gru(
    vocabulary_size: int = 86, *, embedding: int = 256, units: int = 1024, dropout: float = 0.0, fused: bool = False
) -> keras.Model:
    """Next-character model: ids (batch, time) to logits (batch, time, vocabulary_size).

    Args:
        vocabulary_size: Number of characters.
        embedding: Width of the character embedding.
        units: Width of the GRU.
        dropout: Share of activations dropped before and after the GRU, in training only; in [0, 1). It adds no weights.
        fused: Whether to use the fused GRU layer, for training here; a model for others should hold Keras' own.

    Returns:
        A stateless Sequential model for any batch size and length, with fresh weights.
    """
    gru = FusedGRU if fused else keras.layers.GRU
    drop = [keras.layers.Dropout(dropout)] if dropout else []
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(vocabulary_size, embedding, name="embedding"),
            *drop,
            gru(units, return_sequences=True, name="gru"),
            *[keras.layers.Dropout(dropout) for _ in drop],
            keras.layers.Dense(vocabulary_size, name="logits"),
        ],
        name="char_gru",
    )
