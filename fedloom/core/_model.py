"""Model: what an algorithm knows of a model, as pure functions over its weights.

It lives here rather than in `models` because algorithms and the engine take one without knowing which library it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

from ._metrics import MetricSums
from ._types import Batch, Key, ModelWeights, PyTree

Carry = PyTree
"""Recurrent state handed from one batch of a client to the next, or `()`."""


class Generation(NamedTuple):
    """Text from a model that predicts the next token, a step at a time."""

    tokens: tuple[str, ...]  # the text of each, by id
    init_state: Callable[[], Carry]  # before the first token of a text
    step: Callable[[ModelWeights, Carry, jax.Array, jax.Array, Key], tuple[jax.Array, Carry]]
    """(weights, state, id of a token of the text, temperature, key) -> id of a token that may follow, state with the given one in it; ids
    are int32 of shape (), and so is the temperature, as float32; 0 always takes the likeliest token."""


class Model(NamedTuple):
    """A model with its loss and metrics.

    A loss is a mean over what carries weight: rows that are padding and tokens of weight 0 count neither above nor below the line.
    """

    init: Callable[[Key], ModelWeights]  # fresh weights
    init_carry: Callable[[], Carry]  # what a client's first batch starts from
    init_metrics: Callable[[], MetricSums]  # sums over no batch
    loss: Callable[
        [list[jax.Array], list[jax.Array], Carry, Batch, Key], tuple[jax.Array, tuple[MetricSums, list[jax.Array], Carry]]
    ]  # (trainable, non_trainable, carry, batch, key) -> loss to differentiate, (sums of this batch, non_trainable, carry)
    evaluate: Callable[[ModelWeights, Carry, Batch], tuple[MetricSums, Carry]]  # as `loss`, but in inference mode
    finish_metrics: Callable[[MetricSums], dict[str, float]]  # sums -> values
    check_batch: Callable[[Batch], None]  # on host arrays; ValueError says what the model cannot take
    as_optax: Callable[[Any], optax.GradientTransformation]  # an optimizer of the model's own library, or None: its default
    weights_from: Callable[[Any], ModelWeights]  # a model of its own library, arrays in its order, or `ModelWeights`: checked
    assign: Callable[[Any, ModelWeights], None]  # puts weights into a model of its own library
    save: Callable[[ModelWeights, Path], Path]  # (weights, folder): writes a file of its own library, whole or not at all; returns its path
    learned: tuple[bool, ...] = ()  # for each non-trainable weight: whether clients send back what they learned of it
    names: tuple[str, ...] = ()  # of each trainable weight, in the order of `jax.tree.leaves`: "dense_1/kernel"
    batch_shapes: Callable[[int], Batch] | None = None  # (rows) -> `jax.ShapeDtypeStruct`s, of a model that knows what it is fed
    generation: Callable[[], Generation] | None = None  # of a model of text


def non_trainable_update(model: Model, before: list[jax.Array], after: list[jax.Array]) -> list[jax.Array]:
    """Before minus after, of the non-trainable weights that clients send back."""
    return [w0 - w for w0, w, sent in zip(before, after, model.learned, strict=True) if sent]


def apply_non_trainable(model: Model, weights: list[jax.Array], update: list[jax.Array]) -> list[jax.Array]:
    """Non-trainable weights minus a mean of `non_trainable_update`s."""
    updates = iter(update)
    return [w - next(updates) if sent else w for w, sent in zip(weights, model.learned, strict=True)]
