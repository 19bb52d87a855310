"""fl.federated beside drjax: time and memory of one federated function as the number of clients grows.

    pip install drjax
    python benchmarks/federated_language.py

Each client has 64 examples of 64 numbers and takes 10 steps of gradient descent on a linear model; the server has the mean of the weights.
drjax computes with all clients' data in one array; fl.federated reads one client after the other. Every measurement is a process of its
own: seconds of the second call, with the same shapes as the first, and peak memory above that of the imports. The results must agree.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "federated_language.json"
CLIENTS = (100, 1_000, 10_000, 100_000)
EXAMPLES, FEATURES, STEPS = 64, 64, 10


def client(number):
    """A client's data, made when it is asked for."""
    import numpy as np

    rng = np.random.default_rng(number)
    x = rng.standard_normal((EXAMPLES, FEATURES), dtype=np.float32)
    return {"x": x, "y": x @ np.ones(FEATURES, np.float32)}


def train(weights, data):
    """Gradient descent on one client."""
    import jax
    import jax.numpy as jnp

    def loss(w):
        return jnp.mean((data["x"] @ w - data["y"]) ** 2) / 2

    return jax.lax.fori_loop(0, STEPS, lambda _, w: w - 0.1 * jax.grad(loss)(w), weights)


def with_fedloom(number):
    """A function that runs a round."""
    import numpy as np

    import fedloom as fl

    @fl.federated
    def round_(weights, data: fl.core.Clients):
        return fl.core.mean(fl.core.map(train, fl.core.broadcast(weights), data))

    names = [str(i) for i in range(number)]
    clients = fl.data.FederatedDataset({name: EXAMPLES for name in names}, lambda name: client(int(name)))
    return lambda: np.asarray(round_(np.zeros(FEATURES, np.float32), clients))


def with_drjax(number):
    """A function that runs a round."""
    import drjax
    import jax
    import numpy as np

    @drjax.program(placements={"clients": number})
    def round_(weights, data):
        return drjax.reduce_mean(drjax.map_fn(train, (drjax.broadcast(weights), data)))

    compiled = jax.jit(round_)

    def run():
        data = jax.tree.map(lambda *leaves: np.stack(leaves), *(client(i) for i in range(number)))
        return np.asarray(compiled(np.zeros(FEATURES, np.float32), data))

    return run


def measure(system, number):
    """In this process: seconds, memory in MB, and the mean of the weights."""
    run = {"fedloom": with_fedloom, "drjax": with_drjax}[system](number)
    import jax

    jax.devices()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    began = time.perf_counter()
    weights = run()
    seconds = time.perf_counter() - began
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"system": system, "clients": number, "seconds": round(seconds, 3), "memory_mb": round(memory), "mean": float(weights.mean())}


def main():
    """All measurements, system after system for each number of clients."""
    rows = []
    for number in CLIENTS:
        for system in ("fedloom", "drjax"):
            done = subprocess.run([sys.executable, __file__, system, str(number)], stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
