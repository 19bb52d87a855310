"""Keras 2 model configs as Keras 3 models: the graph of Sequential and Functional models, built by calling checked layers.

A config is untrusted text; `_legacy_layers` says which layers and arguments may come out of one. Free to change: anything that keeps a
config from reaching Keras unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras

from ._legacy_layers import MERGES, batch_shape, entry_of, make_input, make_layer, name_of

MAX_LAYERS = 2000  # and as many calls of them: building is slow enough for a small file to keep a machine busy


def model_from_config(config: object) -> keras.Model:
    """Builds a Keras 3 model, with fresh weights, from the decoded `model_config` of a Keras 2 file.

    Args:
        config: `{"class_name": "Sequential" | "Functional" | "Model", "config": {...}}`, as `json.loads` gives it.

    Raises:
        ValueError: A layer, an argument or a connection is not on the allow-list.
    """
    class_name, model = entry_of(config, "model_config")
    if class_name == "Sequential":
        return _sequential({"name": "sequential", "layers": model} if isinstance(model, list) else model)
    if class_name in ("Functional", "Model"):
        return _functional(model)
    raise ValueError(
        f"the model's class must be Sequential or Functional, got {class_name!r:.80}. "
        "Build a subclassed model in code and copy its weights."
    )


def _sequential(config: Mapping[str, Any]) -> keras.Model:
    entries = [entry_of(entry, "a layer") for entry in _layer_list(config)]
    class_name, first = entries[0]
    if class_name == "InputLayer":
        inputs, entries = make_input(first), entries[1:]
    else:
        shape = first.get("batch_input_shape", config.get("build_input_shape"))
        if shape is None:
            raise ValueError("the Sequential model has no input shape. Call it once and save it again.")
        inputs = keras.Input(batch_shape=batch_shape(shape), dtype="float32")
    return keras.Sequential([inputs, *(make_layer(*entry) for entry in entries)], name=name_of(config))


class _Call(NamedTuple):
    """One use of a layer; its `sources` are (layer name, number of that layer's call, position in its outputs)."""

    layer: str
    number: int
    sources: list[tuple[str, int, int]]
    arguments: dict[str, Any]


def _functional(config: Mapping[str, Any]) -> keras.Model:
    tensors: dict[tuple[str, int], list[Any]] = {}
    layers: dict[str, Callable[..., Any]] = {}
    pending: list[_Call] = []
    for entry in _layer_list(config):
        class_name, layer_config = entry_of(entry, "a layer")
        name = name_of(layer_config)
        if name in layers or (name, 0) in tensors:
            raise ValueError(f"layer names must be unique, got {name!r} twice.")
        if class_name == "InputLayer":
            tensors[name, 0] = [make_input(layer_config)]
            continue
        layers[name] = make_layer(class_name, layer_config)
        calls = [_call(name, number, node) for number, node in enumerate(_list(entry.get("inbound_nodes"), name))]
        if any(len(call.sources) != 1 for call in calls) and class_name not in MERGES:
            raise ValueError(f"layer {name!r} ({class_name}) takes several tensors; only merging layers may.")
        pending += calls
    if len(pending) > MAX_LAYERS:
        raise ValueError(f"a model may call its layers {MAX_LAYERS} times, got {len(pending)}.")

    while pending:
        waiting = []
        for call in pending:
            if all(source[:2] in tensors for source in call.sources):
                inputs = [_tensor(tensors, source) for source in call.sources]
                output = layers[call.layer](inputs[0] if len(inputs) == 1 else inputs, **call.arguments)
                tensors[call.layer, call.number] = list(output) if isinstance(output, list | tuple) else [output]
            else:
                waiting.append(call)
        if len(waiting) == len(pending):
            raise ValueError(f"layer {waiting[0].layer!r} is connected to layers that do not exist, or to itself.")
        pending = waiting

    inputs = [_tensor(tensors, source) for source in _ends(config, "input_layers")]
    outputs = [_tensor(tensors, source) for source in _ends(config, "output_layers")]
    return keras.Model(_one_or_all(inputs), _one_or_all(outputs), name=name_of(config))


def _call(layer: str, number: int, node: object) -> _Call:
    sources, arguments = [], {}
    for connection in _list(node, layer):
        match connection:
            case [str(source), int(call), int(position)]:
                pass
            case [str(source), int(call), int(position), dict(given)]:
                arguments |= {key: value for key, value in given.items() if value is not None}
            case _:
                raise ValueError(f"layer {layer!r}: expected [name, call, position, {{}}], got {connection!r:.80}.")
        sources.append((source, call, position))
    if not sources:
        raise ValueError(f"layer {layer!r} is called without an input.")
    if arguments.keys() - {"training"} or not isinstance(arguments.get("training", False), bool):
        raise ValueError(f"layer {layer!r} is called with {sorted(arguments)}; only a boolean `training` is supported.")
    return _Call(layer, number, sources, arguments)


def _tensor(tensors: Mapping[tuple[str, int], list[Any]], source: tuple[str, int, int]) -> Any:
    name, call, position = source
    outputs = tensors.get((name, call), [])
    if not 0 <= position < len(outputs):
        raise ValueError(f"output {position} of call {call} of layer {name!r} is used, but does not exist.")
    return outputs[position]


def _ends(config: Mapping[str, Any], key: str) -> list[tuple[str, int, int]]:
    ends = config.get(key)
    if isinstance(ends, list) and ends and isinstance(ends[0], str):
        ends = [ends]
    return _call(key, 0, ends).sources


def _one_or_all(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _layer_list(config: Mapping[str, Any]) -> list[Any]:
    layers = config.get("layers")
    if not isinstance(layers, list) or not 1 <= len(layers) <= MAX_LAYERS:
        raise ValueError(f"a model must list between 1 and {MAX_LAYERS} layers, got {layers!r:.80}.")
    return layers


def _list(value: object, layer: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"layer {layer!r}: inbound_nodes must be lists of connections, got {value!r:.80}.")
    return value
