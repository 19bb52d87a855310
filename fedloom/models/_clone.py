"""Rebuilding a Keras model: for another batch size, with or without RNN state, with fused layers. The weights stay the same."""

from __future__ import annotations

import warnings

import keras

from . import _convolution, _products, _recurrent

FUSED = _recurrent.FUSED | _convolution.FUSED | _products.FUSED

# Where those layers of Keras live that are made of their configuration and weights alone; preprocessing layers, for one, keep more.
_COPIED = tuple(
    f"keras.src.{place}."
    for place in (
        *(f"layers.{kind}" for kind in ("activations", "convolutional", "core", "merging", "pooling", "regularization", "reshaping")),
        *("layers.normalization.batch_normalization", "models"),
    )
)


def with_batch_size(model: keras.Model, batch_size: int | None, *, stateful: bool | None = None) -> keras.Model:
    """The same model, with the same weights, for another fixed batch size.

    Args:
        model: A built Sequential or Functional model.
        batch_size: Rows of every batch from now on; None accepts any, which a stateful model cannot.
        stateful: Whether recurrent layers keep their state from one call to the next; None leaves that as it is.

    Returns:
        A new, uncompiled model; RNN state starts from zeros.

    Raises:
        TypeError: The model is neither Sequential nor Functional, so it cannot be rebuilt.
        ValueError: `batch_size` is not at least 1.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, or None for any, got {batch_size}.")
    copy = rebuild(model, batch_size, stateful=stateful, fused=False)
    copy.set_weights(model.get_weights())
    return copy


def rebuild(model: keras.Model, batch_size: int | None, *, stateful: bool | None, fused: bool) -> keras.Model:
    """A model of the same architecture and weight order, with fresh weights; `fused` swaps in layers with kernels of our own."""
    if not is_rebuildable(model):
        raise TypeError(
            f"The model must be built and Sequential or Functional to be rebuilt, got {type(model).__name__} {model.name!r}. "
            "Write it with the functional API, or build it by calling it on a batch."
        )
    keeps_state = any(getattr(layer, "stateful", False) for layer in layers_of(model)) if stateful is None else stateful
    if batch_size is None and keeps_state:
        raise ValueError(f"Stateful recurrent layers need a fixed batch_size, got None for model {model.name!r}.")

    def clone_layer(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.RNN) and stateful is not None:
            config["stateful"] = stateful
        if isinstance(layer, keras.layers.Bidirectional):
            for name in ("layer", "backward_layer"):
                inner = getattr(layer, "forward_layer" if name == "layer" else name)
                config[name] = keras.saving.serialize_keras_object(clone_layer(inner))
        kind = type(layer)
        return (FUSED.get(kind, kind) if fused else kind).from_config(config)

    # JAX has no int64 unless asked, and Keras would warn at every call.
    inputs = keras.tree.map_structure(
        lambda t: keras.Input(batch_shape=(batch_size, *t.shape[1:]), dtype="int32" if t.dtype == "int64" else t.dtype, name=t.name),
        input_structure(model),
    )
    return keras.models.clone_model(model, input_tensors=inputs, clone_function=clone_layer, recursive=_is_nested(model))


def is_rebuildable(model: keras.Model) -> bool:
    """Whether `rebuild` can make this model anew: it is a built Sequential or Functional one."""
    functional = any(kind.__name__ == "Functional" for kind in type(model).__mro__)  # Keras has no public name for it
    return (functional or isinstance(model, keras.Sequential)) and model.built and bool(model.inputs)


def with_fused_layers(model: keras.Model, *, every_dense: bool) -> keras.Model:
    """A model without recurrent layers, rebuilt with fused ones; the model itself where that gains nothing or might not be the same.

    A Dense layer gains if it is large, or always with `every_dense`.
    """
    layers = layers_of(model)
    same = all(f"{type(layer).__module__}.".startswith(_COPIED) for layer in layers)
    gains = any(
        type(layer) in _convolution.FUSED or _products.is_large(layer) or (every_dense and type(layer) is keras.layers.Dense)
        for layer in layers
    )
    if not (gains and same and is_rebuildable(model)):
        return model
    try:
        with warnings.catch_warnings(action="ignore"):  # about what cannot be copied, which the next line answers
            return rebuild(model, None, stateful=None, fused=True)
    except (NotImplementedError, TypeError, ValueError):  # such as an activation of the user's own, which Keras does not find by name
        return model


def input_structure(model: keras.Model):
    """The symbolic input of a Sequential or Functional model: a tensor, or a list or dict of them, as it is called with."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input  # a Sequential's `input` need not be there yet


def layers_of(layer: keras.Layer) -> list[keras.Layer]:
    """A layer and every layer inside it."""
    inner = list(getattr(layer, "layers", [])) or [
        part for name in ("layer", "forward_layer", "backward_layer") if isinstance(part := getattr(layer, name, None), keras.Layer)
    ]
    return [layer, *[deep for part in inner for deep in layers_of(part)]]


def _is_nested(model: keras.Model) -> bool:
    return any(isinstance(layer, keras.Model) for layer in model.layers)
