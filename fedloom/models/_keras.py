"""from_keras: a Keras model as pure functions.

Losses and metrics become sums over what carries weight; weights keep Keras' own order. Free to change: the checks. With care: `measure`,
which fixes every denominator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import keras
import numpy as np

from fedloom.core import Batch, Model, Ratio
from fedloom.kernels import Operands

from ._batch_shapes import batch_shapes
from ._clone import input_structure, is_rebuildable, layers_of, rebuild, with_fused_layers
from ._keras_weights import assign_weights, fresh_weights, model_saver, weights_from
from ._metrics import additive_metrics, compiled_metrics
from ._optimizer import as_optax
from ._products import fused_call
from ._stateless import StatelessCall
from ._weighting import counts, element_weights, mean


def from_keras(
    keras_model: keras.Model,
    loss: keras.losses.Loss | str | None = None,
    metrics: Sequence[keras.metrics.Metric | str] | None = None,
    *,
    non_trainable: Literal["mean", "keep"] = "mean",
    rnn_state: Literal["reset", "carry"] = "reset",
    masked_loss: bool = True,
    compute: Operands = "float32",
) -> Model:
    """A Keras model as pure functions over its weights; the model itself is never changed.

    Args:
        keras_model: A built Sequential or Functional model with one output; a subclassed one if it has no recurrent layers.
        loss: A Keras loss or its name; None takes the one that the model was compiled with.
        metrics: Keras metrics or their names; None takes those that the model was compiled with. Their variables must be sums that start
            from zero, as those of Keras' own are; one that is not, such as a maximum, is refused.
        non_trainable: What becomes of statistics that training updates, such as BatchNorm's: averaged over clients ("mean"), or as they
            were for ever ("keep"), as TFF does.
        rnn_state: Whether recurrent layers start every batch from zeros ("reset"), or go on from the client's batch before ("carry"), as
            TFF does with `stateful=True`. "carry" needs a model with a fixed batch size, see `with_batch_size`.
        masked_loss: Whether positions that the model masks (`mask_zero`) leave the loss; TFF keeps them in, which False reproduces.
        compute: What the products of Dense, GRU and LSTM layers multiply: "bfloat16" rounds both sides, at about twice the speed on
            processors that have instructions for it. Sums, weights, states, updates, convolutions and everything else stay float32.

    Returns:
        A `Model`; its `loss` is a mean over examples, or over tokens where the model has an output for each.

    Raises:
        TypeError: It is not a Keras model.
        ValueError: It is not built, has several outputs, has no loss, or no layer for a `compute` of "bfloat16"; or keras runs on another
            backend than JAX.

    Example:
        >>> import keras
        >>> model = from_keras(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), loss="mse")
        >>> [w.shape for w in model.init(jax.random.key(0)).trainable]
        [(4, 3), (3,)]
    """
    _check_model(keras_model)
    if non_trainable not in ("mean", "keep"):
        raise ValueError(f'non_trainable must be "mean" or "keep", got {non_trainable!r}.')
    resolved = _resolve_loss(keras_model, loss)
    elementwise, one = _elementwise(resolved, masked_loss)
    outputs = getattr(keras_model, "outputs", None)  # a subclassed model has none
    given = compiled_metrics(keras_model) if metrics is None else metrics
    metric_list = additive_metrics(given, resolved, outputs[0].shape if outputs else None)
    carries = rnn_state == "carry"
    call = StatelessCall(_prepare(keras_model, rnn_state, compute))

    def apply(trainable, frozen, carry, x, key, training):
        with fused_call(compute):
            output, regularization, frozen, carry = call(trainable, frozen, carry if carries else call.zero_state(), x, key, training)
        return output, regularization, frozen, jax.lax.stop_gradient(carry) if carries else ()

    def measure(batch: Batch, output):
        values = elementwise(batch.y, output)
        weight = element_weights(batch, values.shape) * one(batch.y, output)
        loss_value, ratio = mean((values * weight).sum(), weight.sum())
        return loss_value, {"loss": ratio, **counts(batch, weight)} | metric_list.sums(batch.y, output, weight)

    def loss_fn(trainable, frozen, carry, batch, key):
        output, regularization, frozen, carry = apply(trainable, frozen, carry, batch.x, key, training=True)
        loss_value, sums = measure(batch, output)
        return loss_value + regularization, (sums, frozen, carry)

    def evaluate(weights, carry, batch):
        output, _, _, carry = apply(weights.trainable, weights.non_trainable, carry, batch.x, jax.random.key(0), training=False)
        return measure(batch, output)[1], carry

    def init_metrics():
        return {
            "loss": Ratio(jnp.float32(0), jnp.float32(0)),
            **{name: jnp.float32(0) for name in ("num_examples", "num_batches", "num_tokens")},
            **metric_list.init(),
        }

    def finish(sums):
        plain = {name: float(sums[name]) for name in ("num_examples", "num_batches", "num_tokens")}
        return {"loss": sums["loss"].value(), **metric_list.finish(sums), **plain}

    return Model(
        init=lambda key: fresh_weights(keras_model, key),
        init_carry=lambda: call.zero_state() if carries else (),
        init_metrics=init_metrics,
        loss=loss_fn,
        evaluate=evaluate,
        finish_metrics=finish,
        check_batch=_batch_check(keras_model, resolved),
        as_optax=lambda optimizer: as_optax(optimizer, call.trainable, keras_model.optimizer if keras_model.compiled else None),
        weights_from=lambda source: weights_from(keras_model, source),
        assign=assign_weights,
        save=model_saver(keras_model),
        learned=_learned(call) if non_trainable == "mean" else (False,) * len(call.frozen),
        names=tuple(weight.path for weight in keras_model.trainable_weights),
        batch_shapes=batch_shapes(keras_model, resolved),
    )


def _check_model(model: Any) -> None:
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"fedloom needs Keras on JAX, but keras was imported with the backend {keras.backend.backend()!r}. "
            "Import fedloom before keras, or set KERAS_BACKEND=jax."
        )
    if not isinstance(model, keras.Model):
        raise TypeError(f"keras_model must be a keras.Model, got {type(model).__name__}.")
    if not model.built or not model.weights:
        raise ValueError(f"Model {model.name!r} must be built, so that it has weights. Give it an Input, or call it on a batch first.")
    if len(getattr(model, "outputs", None) or [None]) != 1:
        raise ValueError(f"Model {model.name!r} must have one output, got {len(model.outputs)}.")


def _resolve_loss(model: keras.Model, loss: Any) -> Any:
    loss = loss if loss is not None else getattr(model, "loss", None)
    if loss is None:
        raise ValueError(f"A loss is needed, got None for model {model.name!r}, which is not compiled. Pass `loss`, or compile it.")
    loss = keras.losses.get(loss)
    if not callable(loss) or isinstance(loss, list | dict):
        raise ValueError(f"loss must be one Keras loss, its name, or a function of (y, prediction), got {loss!r}.")
    return loss


class _One(keras.losses.Loss):
    """1 for every element, so that Keras itself says which elements a model's mask leaves."""

    def __init__(self, elementwise):
        super().__init__(reduction=None)
        self.elementwise = elementwise

    def call(self, y_true, y_pred):
        return jnp.ones_like(self.elementwise(y_true, y_pred))


def _elementwise(loss, masked: bool):
    """Two functions of (y, prediction): the loss of each element, and 1 or 0 for whether it is counted."""
    plain = loss.call if isinstance(loss, keras.losses.Loss) else loss

    def values(y_true, y_pred):
        return plain(keras.ops.cast(y_true, "float32") if not isinstance(y_true, dict) else y_true, y_pred)

    if not masked:
        return values, lambda y_true, y_pred: 1.0
    return values, _One(values)


def _prepare(model: keras.Model, rnn_state: str, compute: str) -> keras.Model:
    """The model to compute with: fused where we have kernels, the state of recurrent layers on or off."""
    if compute not in ("float32", "bfloat16"):
        raise ValueError(f'compute must be "float32" or "bfloat16", got {compute!r}.')
    if rnn_state not in ("reset", "carry"):
        raise ValueError(f'rnn_state must be "reset" or "carry", got {rnn_state!r}.')
    recurrent = [layer for layer in layers_of(model) if isinstance(layer, keras.layers.RNN)]
    if not recurrent:
        prepared = with_fused_layers(model, every_dense=compute == "bfloat16")
        if compute == "bfloat16" and prepared is model:
            raise ValueError(
                f'compute="bfloat16" needs a Sequential or Functional model with a Dense layer, made of Keras\' own layers, got '
                f'{type(model).__name__} {model.name!r}. Write it so, or use the default, compute="float32".'
            )
        return prepared
    if not is_rebuildable(model):
        raise ValueError(f"Model {model.name!r} has recurrent layers, so it must be Sequential or Functional, got {type(model).__name__}.")
    if rnn_state == "reset":
        return rebuild(model, None, stateful=False, fused=True)
    batch_size = model.inputs[0].shape[0]
    if batch_size is None:
        raise ValueError(
            f'rnn_state="carry" needs a model with a fixed batch size, but {model.name!r} takes any. '
            "Use fl.models.with_batch_size(model, n, stateful=True) with the size of your batches."
        )
    return rebuild(model, batch_size, stateful=True, fused=True)


def _learned(call: StatelessCall) -> tuple[bool, ...]:
    """Which non-trainable weights a training step changes, found by tracing one."""
    inputs = getattr(call.model, "inputs", None)
    if not call.frozen or not inputs:
        return (True,) * len(call.frozen)
    changed: list[bool] = []

    def trace(trainable, frozen, x):
        after = call(trainable, frozen, call.zero_state(), x, jax.random.key(0), training=True)[2]
        changed.extend(new is not old for new, old in zip(after, frozen, strict=True))
        return 0

    x = jax.tree.map(lambda t: jax.ShapeDtypeStruct([1 if d is None else d for d in t.shape], t.dtype), input_structure(call.model))
    jax.eval_shape(trace, *[[jax.ShapeDtypeStruct(v.shape, v.dtype) for v in kind] for kind in (call.trainable, call.frozen)], x)
    return tuple(changed)


def _batch_check(model: keras.Model, loss):
    """What can be checked of a batch on the host before JAX would clamp it silently: class labels, and ids of an embedding."""
    by_name = loss is keras.losses.sparse_categorical_crossentropy
    sparse = by_name or (isinstance(loss, keras.losses.SparseCategoricalCrossentropy) and loss.get_config().get("ignore_class") is None)
    classes = model.outputs[0].shape[-1] if sparse and getattr(model, "outputs", None) else None
    first = next((layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)), None)
    ids = getattr(first, "input_dim", None) if isinstance(first, keras.layers.Embedding) else None

    def check(batch: Batch) -> None:
        if isinstance(batch.y, dict) and not batch.y:
            raise ValueError(f"Model {model.name!r} needs labels for its loss, got examples without y. Add the column y.")
        for what, values, limit in (("Labels (y)", batch.y, classes), ("Inputs (x)", batch.x, ids)):
            if limit is None or isinstance(values, dict) or not np.size(values):
                continue
            values = np.asarray(values)
            low, high = values.min(), values.max()
            if low < 0 or high >= limit:
                raise ValueError(
                    f"{what} must lie in [0, {limit}), which is what model {model.name!r} was built for, got values from {low} to {high}. "
                    "Check the vocabulary or the labels against the model."
                )

    return check
