"""Layers of Keras 2 configs as Keras 3 layers, from an allow-list: nothing in a config is imported or deserialized by name.

A config is untrusted text. Classes come from the tables below and are called directly, with arguments whose keys and
values were checked; what the tables do not have is refused, since a model without it would compute something else.
Free to change: the tables, if Keras 3 computes the same from the same arguments. With care: what `LEFTOVERS` lets pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import keras

MAX_INT = 2**31
MAX_LIST = 32
MAX_BATCH = 2**16  # stateful layers hold batch x units numbers which no file has to contain

BASE = frozenset({"name", "trainable", "dtype", "activity_regularizer"})


def _weights(*names: str) -> str:
    return " ".join(f"{name}_{what}" for name in names for what in ("initializer", "regularizer", "constraint"))


_RNN = (
    "units activation use_bias dropout recurrent_dropout return_sequences return_state go_backwards stateful "
    f"zero_output_for_mask {_weights('kernel', 'recurrent', 'bias')}"
)
_CONV = "kernel_size strides padding data_format dilation_rate activation use_bias"
_POOL = "pool_size strides padding data_format"
_GLOBAL_POOL = "data_format keepdims"
_NORM = f"axis epsilon center scale {_weights('beta', 'gamma')}"

LAYERS: dict[str, frozenset[str]] = {
    name: BASE | frozenset(keys.split())
    for name, keys in {
        "Embedding": f"input_dim output_dim mask_zero {_weights('embeddings')}",
        "GRU": f"{_RNN} recurrent_activation reset_after",
        "LSTM": f"{_RNN} recurrent_activation unit_forget_bias",
        "SimpleRNN": _RNN,
        "Bidirectional": "layer backward_layer merge_mode",
        "TimeDistributed": "layer",
        "Dense": f"units activation use_bias {_weights('kernel', 'bias')}",
        "Conv1D": f"{_CONV} filters groups {_weights('kernel', 'bias')}",
        "Conv2D": f"{_CONV} filters groups {_weights('kernel', 'bias')}",
        "DepthwiseConv2D": f"{_CONV} depth_multiplier {_weights('depthwise', 'bias')}",
        "SeparableConv2D": f"{_CONV} filters depth_multiplier {_weights('depthwise', 'pointwise', 'bias')}",
        "MaxPooling1D": _POOL,
        "MaxPooling2D": _POOL,
        "AveragePooling1D": _POOL,
        "AveragePooling2D": _POOL,
        "GlobalMaxPooling1D": _GLOBAL_POOL,
        "GlobalMaxPooling2D": _GLOBAL_POOL,
        "GlobalAveragePooling1D": _GLOBAL_POOL,
        "GlobalAveragePooling2D": _GLOBAL_POOL,
        "BatchNormalization": f"{_NORM} momentum moving_mean_initializer moving_variance_initializer",
        "LayerNormalization": _NORM,
        "Activation": "activation",
        "ReLU": "max_value negative_slope threshold",
        "LeakyReLU": "negative_slope",
        "ELU": "alpha",
        "PReLU": f"shared_axes {_weights('alpha')}",
        "Softmax": "axis",
        "Dropout": "rate noise_shape seed",
        "SpatialDropout1D": "rate seed",
        "SpatialDropout2D": "rate seed data_format",
        "GaussianNoise": "stddev seed",
        "Masking": "mask_value",
        "Flatten": "data_format",
        "Reshape": "target_shape",
        "Permute": "dims",
        "RepeatVector": "n",
        "Rescaling": "scale offset",
        "ZeroPadding1D": "padding data_format",
        "ZeroPadding2D": "padding data_format",
        "UpSampling1D": "size",
        "UpSampling2D": "size data_format interpolation",
        "Add": "",
        "Subtract": "",
        "Multiply": "",
        "Average": "",
        "Maximum": "",
        "Minimum": "",
        "Concatenate": "axis",
    }.items()
}
for _name_without in ("SpatialDropout1D", "SpatialDropout2D"):  # their constructors do not pass these on
    LAYERS[_name_without] -= {"trainable", "activity_regularizer"}
_INPUT = frozenset({"name", "dtype", "batch_input_shape", "batch_shape"})
MERGES = frozenset({"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"})
_RECURRENT = frozenset({"GRU", "LSTM", "SimpleRNN"})
_WRAPPERS = frozenset({"Bidirectional", "TimeDistributed"})

# Arguments that Keras 3 does not have: key -> the values with which the layer computes the same without it.
_ANYTHING = None
LEFTOVERS: dict[str, tuple[Any, ...] | None] = {
    "batch_input_shape": _ANYTHING,  # becomes the model's input
    "input_dim": _ANYTHING,
    "input_length": _ANYTHING,
    "implementation": _ANYTHING,  # how, not what
    "unroll": _ANYTHING,  # likewise; an unrolled loop also lets a small file ask for much work
    "time_major": (False,),
    "sparse": (False, None),
    "ragged": (False, None),
    "dynamic": (False,),
    "autocast": (True,),
    "renorm": (False,),
    "fused": _ANYTHING,
    "synchronized": (False,),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "optional": (False,),
    "trainable": _ANYTHING,  # of a layer without weights
    "noise_shape": (None,),
    "groups": (1,),  # of convolutions that have none, nor the `kernel` of their parent class
    "kernel_initializer": _ANYTHING,
    "kernel_regularizer": _ANYTHING,
    "kernel_constraint": _ANYTHING,
    "activity_regularizer": (None,),
}
_RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}

# Keras 2's hard_sigmoid is another function than Keras 3's, so it is left out.
ACTIVATIONS = frozenset(
    {"linear", "relu", "elu", "selu", "gelu", "sigmoid", "tanh", "softmax", "softplus", "softsign", "exponential"}
    | {"swish", "silu", "mish"}
)
INITIALIZERS = {
    "Zeros": "",
    "Ones": "",
    "Constant": "value",
    "Identity": "gain",
    "RandomNormal": "mean stddev seed",
    "RandomUniform": "minval maxval seed",
    "TruncatedNormal": "mean stddev seed",
    "VarianceScaling": "scale mode distribution seed",
    "Orthogonal": "gain seed",
    "GlorotNormal": "seed",
    "GlorotUniform": "seed",
    "HeNormal": "seed",
    "HeUniform": "seed",
    "LecunNormal": "seed",
    "LecunUniform": "seed",
}
REGULARIZERS = {"L1": "l1", "L2": "l2", "L1L2": "l1 l2", "OrthogonalRegularizer": "factor mode"}
CONSTRAINTS = {
    "MaxNorm": "max_value axis",
    "MinMaxNorm": "min_value max_value rate axis",
    "NonNeg": "",
    "UnitNorm": "axis",
}
DTYPES = frozenset({"float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16"})
INPUT_DTYPES = {name: name for name in ("float16", "bfloat16", "float32", "bool", "uint8", "int8", "int16", "int32")} | {
    "int64": "int32",  # JAX has 64 bits only on demand, and would warn at every call
    "float64": "float32",
}


def make_input(config: Mapping[str, Any]) -> Any:
    name = name_of(config)
    _refuse_unknown("InputLayer", config, _INPUT)
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    dtype = config.get("dtype") or "float32"
    if dtype not in INPUT_DTYPES:
        raise ValueError(f"input {name!r}: dtype must be one of {sorted(INPUT_DTYPES)}, got {dtype!r:.80}.")
    return keras.Input(batch_shape=batch_shape(shape), dtype=INPUT_DTYPES[dtype], name=name)


def make_layer(class_name: str, config: Mapping[str, Any], allowed: Collection[str] = LAYERS.keys()) -> keras.Layer:
    name = name_of(config)
    if class_name not in allowed:
        raise ValueError(f"layer {name!r} has class {class_name!r}, which cannot be loaded here. {_advice(class_name)}")
    config = {_RENAMED.get((class_name, key), key): value for key, value in config.items()}
    if class_name == "GRU":
        config.setdefault("reset_after", False)  # files without the key are older than the variant
    try:
        _refuse_unknown(class_name, config, LAYERS[class_name])
        arguments = {key: _value(class_name, key, config[key]) for key in LAYERS[class_name] & config.keys()}
        return getattr(keras.layers, class_name)(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer {name!r} ({class_name}): {error}") from error


def _advice(class_name: str) -> str:
    if class_name == "Lambda":
        return "Lambda holds code, and code from a file is never run. Replace it by a built-in layer and save again."
    if class_name in ("Sequential", "Functional", "Model"):
        return "Nested models are not supported. Put its layers into the outer model and save again."
    if class_name in LAYERS:
        return "It cannot be wrapped by the layer that holds it."
    return "Build the model in code and copy its weights, or replace the layer by a built-in one and save again."


def _refuse_unknown(class_name: str, config: Mapping[str, Any], allowed: frozenset[str]) -> None:
    for key in config.keys() - allowed:
        if key not in LEFTOVERS:
            raise ValueError(f"argument {key!r:.80} of {class_name} is unknown. Save the model again without it.")
        harmless = LEFTOVERS[key]
        if harmless is not _ANYTHING and config[key] not in harmless:
            raise ValueError(f"{key}={config[key]!r:.80} does not exist in Keras 3. Save the model without it.")


def _value(class_name: str, key: str, value: object) -> Any:
    if key.endswith("_initializer"):
        return _object(key, value, INITIALIZERS, keras.initializers)
    if key.endswith("_regularizer"):
        return _object(key, value, REGULARIZERS, keras.regularizers)
    if key.endswith("_constraint"):
        return _object(key, value, CONSTRAINTS, keras.constraints)
    if key.endswith("activation"):
        return _activation(key, value)
    if key == "dtype":
        return _policy(value)
    if key in ("layer", "backward_layer"):
        if value is None:
            return None
        wrapped = _RECURRENT if class_name == "Bidirectional" else LAYERS.keys() - _WRAPPERS - MERGES
        return make_layer(*entry_of(value, key), wrapped)
    if key == "axis" and class_name == "BatchNormalization" and isinstance(value, list) and len(value) == 1:
        value = value[0]
    return _plain(key, value)


def _object(key: str, value: object, table: Mapping[str, str], home: Any) -> Any:
    """An instance of one of `table`'s classes, which map to the arguments that they may be given."""
    if value is None:
        return None
    class_name, config = (value, {}) if isinstance(value, str) else entry_of(value, key)
    found = {name.lower(): name for name in table}.get(class_name.replace("_", "").lower())
    if found is None:
        raise ValueError(f"{key} must be one of Keras' own ({', '.join(table)}), got {class_name!r:.80}.")
    allowed = {*table[found].split(), "dtype"}
    if config.keys() - allowed:
        raise ValueError(f"{key}: {found} takes {sorted(allowed)}, got {sorted(config)!r:.200}.")
    return getattr(home, found)(**{name: _plain(f"{key}.{name}", config[name]) for name in config if name != "dtype"})


def _activation(key: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value in ACTIVATIONS):
        return value
    if value == "hard_sigmoid":
        raise ValueError(f"{key}: hard_sigmoid has slope 1/6 in Keras 3 and had 1/5. Train with sigmoid instead.")
    raise ValueError(f"{key} must be one of {sorted(ACTIVATIONS)}, got {value!r:.80}.")


def _policy(value: object) -> str:
    name = entry_of(value, "dtype")[1].get("name") if isinstance(value, Mapping) else value
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {sorted(DTYPES)}, got {name!r:.80}. Save the model in float32.")
    return str(name)


def _plain(key: str, value: object) -> Any:
    """A number, text, or list of these; bounded, because Keras and XLA compute sizes from them."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, str) and len(value) <= 200):
        return value
    if isinstance(value, int) and abs(value) < MAX_INT:
        return value
    if isinstance(value, list) and len(value) <= MAX_LIST:
        return [_plain(key, item) for item in value]
    raise ValueError(f"{key} must be a number below {MAX_INT}, short text or a short list of these, got {value!r:.80}.")


def batch_shape(value: object) -> tuple[int | None, ...]:
    shape = value if isinstance(value, list) else []
    sizes = [size for size in shape if size is not None]
    if not 1 <= len(shape) <= MAX_LIST or not all(type(size) is int and 0 < size < MAX_INT for size in sizes):
        raise ValueError(f"the input's batch shape must be a list of positive integers and nulls, got {value!r:.80}.")
    if shape[0] is not None and shape[0] > MAX_BATCH:
        raise ValueError(f"the input's batch size must be at most {MAX_BATCH}, got {shape[0]}.")
    return tuple(shape)


def entry_of(value: object, what: str) -> tuple[str, Any]:
    match value:
        case {"class_name": str(class_name), "config": dict() | list() as config}:
            if isinstance(config, dict) or class_name == "Sequential":
                return class_name, config
    raise ValueError(f"{what} must be a mapping with a class_name and a config, got {value!r:.80}.")


def name_of(config: Mapping[str, Any]) -> str:
    name = config.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise ValueError(f"models and layers must have a name of 1 to 200 characters, got {name!r:.80}.")
    return name
