"""Measurements of updates on their way, for finding out why training goes wrong; nothing is changed."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from fedloom.core import Aggregator, same_bound


def measured() -> Aggregator:
    """A stage that reports what passes through it, as TFF's `add_debug_measurements`; first in a chain, it sees updates as made.

    Measurements:
        client_norm_mean, client_norm_std: Of the L2 norms of clients' values, all clients of the round counted alike.
        server_norm, server_max, server_min: L2 norm, largest and smallest element of what comes out of the stages after this one.
    """

    def encode(state, contribution, key):
        norm = optax.tree.norm(contribution.value).astype(jnp.float32)
        return contribution._replace(tally={"norm": norm, "norm_squared": norm**2, "clients": jnp.float32(1)})

    def decode(state, total, key):
        clients = jnp.maximum(total.tally["clients"], 1)
        mean = total.tally["norm"] / clients
        variance = jnp.maximum(total.tally["norm_squared"] / clients - mean**2, 0)
        measurements = {
            "client_norm_mean": mean,
            "client_norm_std": jnp.sqrt(variance),
            "server_norm": optax.tree.norm(total.value),
            "server_max": optax.tree.max(total.value),
            "server_min": -jnp.asarray(optax.tree.max(optax.tree.scale(-1, total.value))),
        }
        return total, state, measurements

    return Aggregator(lambda value: (), encode, decode, name="measured", bound=same_bound)
