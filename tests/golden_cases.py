"""Reads the golden results of TFF 0.87 in `goldens/`, and builds what each case describes.

A case is an entry of `cases.json` with its arrays in an `.npz`: start weights, every batch as fed, weights and metrics after every round.
Tolerances are the case's own.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optax

import fedloom  # noqa: F401  first, so that Keras runs on JAX

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

    def optimizer(self, side: str) -> Any:
        """The client's or server's optimizer; Keras 3's rules are TFF's for those in use here."""
        spec = self.entry["algorithm"][f"{side}_optimizer"]
        schedule = self.entry["algorithm"].get(f"{side}_learning_rate_schedule")
        config = {k: v for k, v in spec.items() if k not in ("name", "given", "initial_preconditioner_value") and v is not None}
        if spec["name"] == "sgd":
            values = np.asarray(schedule if schedule else [config["learning_rate"]], np.float32)
            rate = (lambda step: _at(values, step)) if schedule else float(values[0])
            return optax.sgd(rate, momentum=config.get("momentum"))
        if spec["name"] == "adam":
            return reference_adam(config["learning_rate"], config["beta_1"], config["beta_2"], config["epsilon"])
        if "initial_preconditioner_value" in spec:
            config["initial_accumulator_value"] = spec["initial_preconditioner_value"]
        kinds = {"adamw": keras.optimizers.AdamW, "adagrad": keras.optimizers.Adagrad}
        return kinds[spec["name"]](**config)

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


def reference_adam(rate: float, beta_1: float, beta_2: float, epsilon: float) -> optax.GradientTransformation:
    """TFF's Adam: as Keras', but with the bias correction in float64, since 1 - 0.999^t loses five digits in float32."""
    import jax
    import jax.numpy as jnp

    rates = np.array([rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) for t in range(1, 1000)], np.float32)

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return jnp.int32(0), zeros, zeros

    def update(grads, state, params=None):
        step, mean, square = state
        mean = jax.tree.map(lambda m, g: beta_1 * m + (1 - beta_1) * g, mean, grads)
        square = jax.tree.map(lambda s, g: beta_2 * s + (1 - beta_2) * g**2, square, grads)
        updates = jax.tree.map(lambda m, s: -_at(rates, step) * m / (jnp.sqrt(s) + epsilon), mean, square)
        return updates, (step + 1, mean, square)

    return optax.GradientTransformation(init, update)


def _at(values: np.ndarray, step):
    import jax.numpy as jnp

    return jnp.asarray(values)[step]
