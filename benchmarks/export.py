"""Exports and their native runs: sizes, times, and how far IREE's numbers are from JAX's.

    python benchmarks/export.py [--out results/export.json] [--models mlp cnn ...]

For each model one batch, trained by FedAvg's client with SGD: the export, IREE's compilation of `step`, ten chained steps of the compiled
module in IREE's runtime against ten in JAX, and the time of a step in both. JAX runs with the native kernels where there are any, as a
process does, and on the references, as other machines do. A step's time is the median of `REPEATS`, with all that lies in memory already;
compilation is apart. Differences are the largest over all weights, absolute, and that of the summed loss, relative.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

import fedloom as fl  # before keras
from fedloom.core import step_key
from fedloom.experiment import environment
from fedloom.export._native import inputs_from, outputs_to, read_arrays, write_arrays

import keras  # isort: skip

STEPS, REPEATS, KEY = 10, 7, jax.random.key(0)


def text(units: int, embedding: int, rows: int, length: int):
    """The tutorial's model; with 1024 units, in batches of 8 windows of 100 characters, as it is."""
    keras_model = fl.models.char_gru(embedding=embedding, units=units)
    ids = np.random.default_rng(0).integers(0, 86, (rows, length + 1)).astype(np.int32)
    return keras_model, fl.text.next_character_model(keras_model), 0.1, (ids[:, :-1], ids[:, 1:])


def images(*layers: keras.Layer, rows: int = 20):
    """Ten classes of 28x28."""
    keras_model = keras.Sequential([keras.Input((28, 28, 1)), *layers, keras.layers.Dense(10)])
    model = fl.models.from_keras(keras_model, *fl.models.objective("classification", from_logits=True))
    random = np.random.default_rng(0)
    return (
        keras_model,
        model,
        0.05,
        (random.normal(size=(rows, 28, 28, 1)).astype(np.float32), random.integers(0, 10, rows).astype(np.int32)),
    )


def mlp():
    """The "2NN" of McMahan et al. 2017."""
    layers = keras.layers
    return images(layers.Flatten(), layers.Dense(200, activation="relu"), layers.Dense(200, activation="relu"))


def cnn():
    """The CNN of McMahan et al. 2017."""
    layers = keras.layers
    conv = functools.partial(layers.Conv2D, kernel_size=5, padding="same", activation="relu")
    return images(
        *(conv(32), layers.MaxPooling2D(), conv(64), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(512, activation="relu"))
    )


MODELS = {
    "GRU, 64 units": lambda: text(64, 16, 8, 100),
    "GRU, 1024 units (tutorial)": lambda: text(1024, 256, 8, 100),
    "MLP (2NN)": mlp,
    "CNN (McMahan)": cnn,
}


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "export.json")
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    options = parser.parse_args()
    load = os.getloadavg()[0]
    about = environment() | {"iree": version("iree-base-compiler"), "cores": os.cpu_count(), "load before": round(load, 2)}
    found = {"about": about, "measured": {}}
    for name in options.models:
        keras.utils.set_random_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            found["measured"][name] = measure(Path(folder), *MODELS[name]())
        print(name, json.dumps(found["measured"][name], indent=1), flush=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def measure(folder: Path, keras_model, model, rate: float, example) -> dict:
    """All figures of a model."""
    process = fl.LearningProcess(fl.algorithms.fedavg(model, fl.optimizers.sgd(rate)), batching=fl.data.Batching(size=len(example[0])))
    state, export = process.initialize(keras_model), folder / "export"
    manifest, exporting = timed(lambda: fl.export.client_work(process, export, state=state, batch=example))
    native, compiling = timed(lambda: fl.export.compile_native(export, programs=["step"]))
    client, loading = timed(lambda: fl.export.load(export))
    batch = client.batch(*example)
    programs = sum(info.bytes for name, info in manifest.files.items() if name.startswith("programs/"))
    found = {
        "parameters": sum(int(np.prod(array.shape)) for array in manifest.start["weights"]),
        "seconds": {"export": exporting, "load": loading, "compile step with IREE": compiling},
        "bytes": {
            "weights": manifest.files["weights.safetensors"].bytes,
            "programs": programs,
            "manifest": (export / "manifest.json").stat().st_size,
            "step.vmfb": (native / "step.vmfb").stat().st_size,
        },
    }
    by_kernels, found["seconds"]["JAX step, as in a process"] = jax_steps(client, batch)
    for program in client.programs.values():
        program._kernels = False
    by_references, found["seconds"]["JAX step, references"] = jax_steps(client, batch)
    by_iree = iree_steps(client, native / "step.vmfb", batch, folder)
    found["seconds"]["IREE step"] = iree_seconds(client, native / "step.vmfb", folder)
    pairs = {"JAX against IREE": (by_references, by_iree), "JAX with kernels against without": (by_kernels, by_references)}
    found["differences"] = {
        label: {f"after {k}": difference(one[k - 1], other[k - 1]) for k in (1, STEPS)} for label, (one, other) in pairs.items()
    }
    return found


def timed(run):
    """What it returns, and its seconds."""
    began = time.perf_counter()
    return run(), time.perf_counter() - began


def jax_steps(client, batch):
    """Local states after each step, and the median seconds of a step."""
    message, step = client.message(), client.programs["step"]
    local, states = client.programs["begin"](message, {}, KEY), []
    for k in range(STEPS):
        local = step(message, local, batch, step_key(KEY, k))
        states.append({name: np.asarray(value) for name, value in local.items()})
    seconds = [timed(lambda: jax.block_until_ready(step(message, local, batch, KEY)))[1] for _ in range(REPEATS)]
    return states, float(np.median(seconds))


def iree_steps(client, module: Path, batch, folder: Path):
    """Local states after each step."""
    local = client.programs["begin"](client.message(), {}, KEY)
    write_arrays(folder / "message.npy", client.message().values())
    write_arrays(folder / "batch.npy", batch.values())
    write_arrays(folder / "local.npy", local.values())
    states = []
    for k in range(STEPS):
        write_arrays(folder / "key.npy", [jax.random.key_data(step_key(KEY, k))])
        run = [fl.export.run_module(), *flags(client, module, folder), *outputs_to(str(folder / "local.npy"), len(local))]
        subprocess.run(run, check=True, capture_output=True)
        states.append(dict(zip(local, read_arrays(folder / "local.npy", len(local)), strict=True)))
    return states


def iree_seconds(client, module: Path, folder: Path) -> float:
    """The median of a step in IREE's own benchmark, in seconds."""
    tool = Path(fl.export.run_module()).with_name("iree-benchmark-module")
    run = [str(tool), *flags(client, module, folder), "--benchmark_format=json", f"--benchmark_repetitions={REPEATS}"]
    rows = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)["benchmarks"]
    (median,) = [row for row in rows if row.get("aggregate_name") == "median"]
    return median["real_time"] * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[median["time_unit"]]


def flags(client, module: Path, folder: Path) -> list[str]:
    """The module and its inputs, from the files that `iree_steps` wrote."""
    counts = {"message": len(client.message()), "local": len(client.programs["step"].info.outputs), "batch": 4, "key": 1}
    inputs = [flag for name, count in counts.items() for flag in inputs_from(str(folder / f"{name}.npy"), count)]
    return ["--device=local-task", f"--module={module}", "--function=main", *inputs]


def difference(one: dict, other: dict) -> dict[str, float]:
    """The largest of any weight, and that of the loss, relative to it."""
    weights = [np.abs(one[name] - other[name]).max() for name in one if name.startswith("weights/")]
    loss = abs(float(one["metrics/loss/total"]) / float(other["metrics/loss/total"]) - 1)
    return {"weights": float(max(weights)), "loss": loss}


if __name__ == "__main__":
    main()
