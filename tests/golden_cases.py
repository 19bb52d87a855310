"""Reads the golden results of TFF 0.87 in `goldens/`, and builds what each case describes.

A case is an entry of `cases.json` with its arrays in an `.npz`: start weights, every batch as fed, weights and metrics after every round.
Tolerances are the case's own.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
import optax

import fedloom as fl

FOLDER = Path(__file__).parent / "goldens"
ENTRIES: dict[str, dict] = {entry["name"]: entry for entry in json.loads((FOLDER / "cases.json").read_text())["cases"]}


def names(*, kind: str) -> list[str]:
    """The cases of this kind."""
    return [name for name, entry in ENTRIES.items() if entry["kind"] == kind]


class Golden:
    """One case."""

    def __init__(self, name: str):
        self.name, self.entry = name, ENTRIES[name]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        return dict(np.load(FOLDER / self.entry["file"], allow_pickle=False))

    def keras_model(self) -> keras.Model:
        """A model of the case's architecture, with its start weights."""
        spec = self.entry["model"]
        shape = (spec["input"]["batch_size"], *spec["input"]["shape"])
        layers = [getattr(keras.layers, layer["class_name"])(**self._config(layer["config"])) for layer in spec["layers"]]
        model = keras.Sequential([keras.Input(batch_shape=shape, dtype=spec["input"]["dtype"]), *layers])
        model.set_weights(self.weights(0))
        return model

    @staticmethod
    def _config(config: dict) -> dict:
        config = dict(config)
        if "kernel_regularizer" in config:
            config["kernel_regularizer"] = keras.regularizers.L2(**config["kernel_regularizer"]["config"])
        return config

    def loss(self) -> keras.losses.Loss:
        return getattr(keras.losses, self.entry["loss"]["class_name"])(**self.entry["loss"]["config"])

    def metrics(self) -> list[keras.metrics.Metric]:
        """Those that Keras has under the same or another name; counters of tokens are left to `num_tokens`."""
        result = []
        for metric in self.entry["metrics"]:
            config = {k: v for k, v in metric["config"].items() if k not in ("vocab_size", "masked_tokens")}
            if metric["class_name"] == "TokenAccuracy":
                result.append(keras.metrics.SparseCategoricalAccuracy(**config))
            elif hasattr(keras.metrics, metric["class_name"]):
                result.append(getattr(keras.metrics, metric["class_name"])(**config))
        return result

    def optimizer(self, side: str) -> optax.GradientTransformation:
        """The client's or server's optimizer; a schedule is by the optimizer's own step, which for the server is the round."""
        spec = self.entry["algorithm"][f"{side}_optimizer"]
        arguments = {key: value for key, value in spec.items() if key not in ("name", "given")}
        if schedule := self.entry["algorithm"].get(f"{side}_learning_rate_schedule"):
            arguments["learning_rate"] = lambda step: jnp.asarray(schedule, jnp.float32)[step]
        return getattr(fl.optimizers, spec["name"])(**arguments)

    def batches(self, client: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """What the client is fed in every round, in order."""
        count = len(self.entry["clients"][client]["batch_sizes"])
        return [tuple(self.arrays[f"client/{client}/batch/{j}/{part}"] for part in "xy") for j in range(count)]

    def weights(self, r: int) -> list[np.ndarray]:
        """The server's weights after r rounds, in the order of `model.weights`."""
        return [self.arrays[f"weights/{kind}/{i}"][r] for kind, i in self.entry["weights"]["keras_order"]]

    def check(self, group: str, got: Any, want: Any, what: str = "") -> float:
        """Compares within the case's tolerance; returns the largest difference."""
        tolerance = self.entry["float32"][group]
        np.testing.assert_allclose(got, want, rtol=tolerance["rtol"], atol=tolerance["atol"], err_msg=f"{self.name} {what}")
        return float(np.nanmax(np.abs(np.asarray(got, np.float64) - want), initial=0.0))
