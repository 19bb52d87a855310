"""from_functions: any JAX model (flax, equinox, haiku, or plain functions) as a `Model`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedloom.core import Batch, Key, Model, ModelWeights, Params, PyTree, Ratio

from .._files import replacing
from ._weighting import counts, element_weights, mean

PerElement = Callable[[PyTree, PyTree], jax.Array]
"""(y, prediction) -> one number per example, shape (B,), or per token, (B, T)."""


def from_functions(
    init: Callable[[Key], Params],
    apply: Callable[[Params, PyTree], PyTree],
    loss: PerElement,
    metrics: Mapping[str, PerElement] | None = None,
) -> Model:
    """A model given by its functions.

    Args:
        init: Draws fresh parameters, a tree of float arrays.
        apply: (parameters, x) -> prediction, the same in training and evaluation.
        loss: The loss of every example or token.
        metrics: Further numbers per example or token, reported as their weighted means.

    Returns:
        A `Model` whose trainable weights are the tree that `init` returns.

    Example:
        >>> model = from_functions(lambda key: jnp.zeros(2), lambda p, x: x @ p, lambda y, p: (y - p) ** 2)
        >>> model.init(jax.random.key(0)).trainable.shape
        (2,)

    Raises:
        ValueError: A metric has a name that fedloom uses itself.
    """
    taken = sorted({"loss", "num_examples", "num_batches", "num_tokens"} & (metrics or {}).keys())
    if taken:
        raise ValueError(f"metrics must not have the names {taken}, which fedloom uses itself. Rename them.")
    named = {"loss": loss, **(metrics or {})}

    def measure(params, batch: Batch):
        prediction = apply(params, batch.x)
        values = {name: fn(batch.y, prediction) for name, fn in named.items()}
        weights = {name: element_weights(batch, value.shape) for name, value in values.items()}
        means = {name: mean((values[name] * weights[name]).sum(), weights[name].sum()) for name in named}
        return means["loss"][0], {name: ratio for name, (_, ratio) in means.items()} | counts(batch, weights["loss"])

    def loss_fn(trainable, non_trainable, carry, batch, key):
        value, sums = measure(trainable, batch)
        return value, (sums, non_trainable, carry)

    def weights_from(source: Any) -> ModelWeights:
        expected = jax.eval_shape(init, jax.random.key(0))
        params = source.trainable if isinstance(source, ModelWeights) else source
        if jax.tree.map(jnp.shape, params) != jax.tree.map(lambda leaf: leaf.shape, expected):
            raise ValueError(
                f"The weights must have the tree and shapes that `init` returns, {jax.tree.map(lambda leaf: leaf.shape, expected)}, "
                f"got {jax.tree.map(jnp.shape, params)}."
            )
        return ModelWeights(jax.tree.map(lambda value, leaf: jnp.array(value, leaf.dtype), params, expected), [])

    def assign(target, weights):
        raise TypeError(f"Weights can be assigned to Keras models only, got {type(target).__name__}; use `get_weights`.")

    def save(weights, folder):
        with replacing(folder / "weights.npz") as unfinished:
            np.savez(unfinished, *[np.asarray(leaf) for leaf in jax.tree.leaves(weights.trainable)])
        return folder / "weights.npz"

    zero = Ratio(jnp.float32(0), jnp.float32(0))
    numbers = ("num_examples", "num_batches", "num_tokens")
    return Model(
        init=lambda key: ModelWeights(init(key), []),
        init_carry=lambda: (),
        init_metrics=lambda: {**{name: zero for name in named}, **{name: jnp.float32(0) for name in numbers}},
        loss=loss_fn,
        evaluate=lambda weights, carry, batch: (measure(weights.trainable, batch)[1], carry),
        finish_metrics=lambda sums: {k: v.value() if isinstance(v, Ratio) else float(np.asarray(v)) for k, v in sums.items()},
        check_batch=lambda batch: None,
        as_optax=_optax_only,
        weights_from=weights_from,
        assign=assign,
        save=save,
        names=_names(init),
    )


def _names(init: Callable[[Key], Params]) -> tuple[str, ...]:
    """The path of every parameter, as "layers/0/kernel"; of one that stands alone, "weights"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.eval_shape(init, jax.random.key(0)))
    return tuple(jax.tree_util.keystr(path, simple=True, separator="/") or "weights" for path, _ in leaves)


def _optax_only(optimizer: Any) -> optax.GradientTransformation:
    if optimizer is None:
        raise ValueError("An optimizer is needed, got None. Pass one, such as optax.sgd(0.1).")
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(f"A model made by from_functions needs optax optimizers, got {type(optimizer).__name__}.")
    return optimizer
