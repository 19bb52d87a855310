"""A Keras model called as a pure function, with nothing kept in its variables.

Keras' variables are of five kinds, and each has its own way here: trainable weights; other weights (frozen ones and statistics); seeds,
which come from a key; RNN state, which is handed in and out; and metrics, which are no part of a call.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import keras

from ._clone import layers_of


class StatelessCall:
    """A model's forward pass: `call(trainable, frozen, rnn_state, x, key, training)`.

    Args:
        model: Its variables lend their shapes and order; their values are neither read nor written.

    Raises:
        ValueError: A variable is of none of the kinds above.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.trainable = list(model.trainable_weights)
        self.frozen = list(model.non_trainable_weights)
        # Keras 3.15 leaves RNN state out of a layer's variables, so that its own `stateless_call` does not carry it.
        layers = [layer for layer in layers_of(model) if getattr(layer, "stateful", False) and getattr(layer, "states", None)]
        self.rnn_states = [state for layer in layers for state in jax.tree.leaves(layer.states, is_leaf=_is_variable)]
        optimizer = getattr(model, "optimizer", None)
        others = [*getattr(model, "metrics_variables", []), *(optimizer.variables if optimizer else [])]
        known = {id(v) for v in [*self.trainable, *self.frozen, *self.rnn_states, *others]}
        self.seeds = [v for v in model.variables if id(v) not in known]
        for seed in self.seeds:
            if tuple(seed.shape) != (2,) or "uint32" not in str(seed.dtype):
                raise ValueError(f"Variable {seed.path!r} is neither a weight, a metric, RNN state nor a seed; remove it from the model.")

    def zero_state(self) -> list[jax.Array]:
        """RNN state before the first batch; empty if no layer keeps any."""
        return [jnp.zeros(v.shape, v.dtype) for v in self.rnn_states]

    def __call__(self, trainable, frozen, rnn_state, x, key, training: bool):
        """Returns (output, regularization loss, frozen weights after, RNN state after)."""
        seeds = [jax.random.key_data(jax.random.fold_in(key, i)) for i in range(len(self.seeds))]
        variables = [*self.trainable, *self.frozen, *self.seeds, *self.rnn_states]
        values = [*trainable, *frozen, *seeds, *rnn_state]
        with keras.StatelessScope(list(zip(variables, values, strict=True)), collect_losses=True) as scope:
            output = self.model(x, training=training)
            regularization = sum(self.model.losses, start=jnp.float32(0))
        frozen, rnn_state = ([scope.get_current_value(v) for v in kind] for kind in (self.frozen, self.rnn_states))
        return output, regularization, frozen, rnn_state


def _is_variable(leaf) -> bool:
    return isinstance(leaf, keras.Variable)
