"""Writes the exports that later versions must still load: `python tests/export/make_artifact.py`, once for each format version.

The client's work of a linear model y = x @ w + b in two dimensions, squared error, FedAvg with SGD of rate 0.25, from w = (1, -2),
b = 0.5; and, as a federated function, the mean squared distance of the clients' numbers from one of the server's.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

import fedloom as fl

FOLDER = Path(__file__).with_name("artifacts") / "v1"


def main():
    model = fl.models.from_functions(
        lambda key: {"b": jnp.float32(0.5), "w": jnp.array([1.0, -2.0])}, lambda p, x: x @ p["w"] + p["b"], lambda y, p: (y - p) ** 2
    )
    process = fl.LearningProcess(fl.algorithms.fedavg(model, fl.optimizers.sgd(0.25)))
    fl.export.client_work(process, FOLDER / "client_work", batch=(np.ones((4, 2), np.float32), np.ones(4, np.float32)))
    spread = fl.federated(lambda x, centre: fl.core.mean((x - fl.core.broadcast(centre)) ** 2), clients="x")
    fl.export.federated_function(spread, FOLDER / "function", [1.0, 2.0], 3.0)


if __name__ == "__main__":
    main()
