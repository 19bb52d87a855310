# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""FedJAX: its federated averaging over `for_each_client`, with the models as plain JAX functions.

    python -m benchmarks.workers.fedjax FOLDER

The algorithm is that of `fedjax.algorithms.fed_avg`, on `ClientDataset`s in memory that are not shuffled again, without its random keys and
norms of updates, and with the loss as the result of a step. Where a client's last batch is smaller, batches are padded to one shape, so
that nothing is compiled twice.

What was tried, on two cores: the pmap backend with a device per core is slower than jit, for the tutorial's model by a third and for
logistic regression eight times. JAX 0.4.30 is faster than 0.5.3 for the tutorial's model and logistic regression, slower for the other two;
newer versions lack what FedJAX 0.0.17 calls. So there are two environments, and each model has the better one.
"""

from __future__ import annotations

from .._turns import Turns, serve

TURNS = Turns()

import argparse  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import fedjax  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from fedjax.core import tree_util  # noqa: E402

from .._workload import Workload  # noqa: E402


def main() -> None:
    """Does rounds until there are no more turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    workload = Workload(parser.parse_args().folder)
    case = workload.case
    apply = APPLY[case["model"]]

    def loss(params, batch):
        log_probabilities = jax.nn.log_softmax(apply(params, batch["x"]))
        losses = -jnp.take_along_axis(log_probabilities, batch["y"][..., None], axis=-1)[..., 0]
        weight = batch.get("weight", jnp.ones(()))
        total, count = (losses * weight).sum(), jnp.broadcast_to(weight, losses.shape).sum()
        return total / jnp.maximum(count, 1), (total, count)

    optimizer = fedjax.optimizers.sgd(case["learning_rate"])
    server = fedjax.optimizers.sgd(1.0)

    def client_init(params, _):
        return {"params": params, "opt_state": optimizer.init(params)}

    def client_step(state, batch):
        grads, sums = jax.grad(loss, has_aux=True)(state["params"], batch)
        opt_state, params = optimizer.apply(grads, state["opt_state"], state["params"])
        return {"params": params, "opt_state": opt_state}, sums

    def client_final(params, state):
        return jax.tree_util.tree_map(lambda a, b: a - b, params, state["params"])

    train = fedjax.for_each_client(client_init, client_step, client_final, with_step_result=True)
    params = [jnp.asarray(weight) for weight in workload.weights()]
    opt_state = server.init(params)

    size = case["batch_size"]

    def prepare(number: int) -> list[tuple[int, fedjax.ClientDataset, bool]]:
        rows = workload.round(number)
        full = all(part.weight is None and len(part.x) % size == 0 for part in rows)
        columns = [{"x": part.x, "y": part.y} if full else part.weighted() for part in rows]
        return [(i, fedjax.ClientDataset(client), full) for i, client in enumerate(columns)]

    def run(cohort: list[tuple[int, fedjax.ClientDataset, bool]]) -> dict[str, Any]:
        nonlocal params, opt_state
        begin = time.perf_counter()
        examples = {client: len(data) for client, data, _ in cohort}
        clients = [
            (
                client,
                data.shuffle_repeat_batch(batch_size=size, num_epochs=1, skip_shuffle=True) if full else data.padded_batch(batch_size=size),
                (),
            )
            for client, data, full in cohort
        ]
        total, results = tree_util.tree_zeros_like(params), []
        for client, delta, steps in train(params, clients):
            total = tree_util.tree_add(total, tree_util.tree_weight(delta, examples[client]))
            results += steps
        mean = tree_util.tree_inverse_weight(total, float(sum(examples.values())))
        opt_state, params = server.apply(mean, opt_state, params)
        jax.block_until_ready(params)
        seconds = time.perf_counter() - begin
        losses, counts = (sum(map(float, column)) for column in zip(*jax.device_get(results), strict=True))
        return {"seconds": seconds, "loss": losses / max(counts, 1)}

    serve(TURNS, prepare, run)


def _gru(params, x):
    embedding, kernel, recurrent, (input_bias, recurrent_bias), out, out_bias = params
    products = jnp.take(embedding, x.T, axis=0) @ kernel + input_bias  # of all steps at once

    def step(h, product):
        z, r, candidate = jnp.split(product, 3, axis=-1)
        hz, hr, hc = jnp.split(h @ recurrent + recurrent_bias, 3, axis=-1)
        z = jax.nn.sigmoid(z + hz)
        h = z * h + (1 - z) * jnp.tanh(candidate + jax.nn.sigmoid(r + hr) * hc)
        return h, h

    _, hidden = jax.lax.scan(step, jnp.zeros((x.shape[0], recurrent.shape[0])), products)
    return hidden.swapaxes(0, 1) @ out + out_bias


def _lstm(params, x):
    embedding, *layers, out, out_bias = params
    hidden = jnp.take(embedding, x.T, axis=0)
    for i in range(0, len(layers), 3):
        kernel, recurrent, bias = layers[i : i + 3]

        def step(carry, product, recurrent=recurrent):
            h, c = carry
            i, f, g, o = jnp.split(product + h @ recurrent, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[0], recurrent.shape[0]))
        _, hidden = jax.lax.scan(step, (zeros, zeros), hidden @ kernel + bias)
    return hidden.swapaxes(0, 1) @ out + out_bias


def _cnn(params, x):
    for kernel, bias in (params[:2], params[2:4]):
        x = jax.nn.relu(jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias)
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(x.reshape(len(x), -1) @ params[4] + params[5])
    return x @ params[6] + params[7]


def _logistic(params, x):
    return x @ params[0] + params[1]


APPLY = {"gru": _gru, "lstm": _lstm, "cnn": _cnn, "logistic": _logistic}


if __name__ == "__main__":
    main()
