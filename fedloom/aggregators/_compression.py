"""What lossy compressions share: error feedback, and how much was lost.

Paper of error feedback: Stich et al. 2018, arXiv:1809.07599, Algorithm 1; Karimireddy et al. 2019, arXiv:1901.09847, Algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from fedloom.core import Contribution, Measurements, Params


def compress(contribution: Contribution, lossy: Callable[[Params], Params]) -> Contribution:
    """What a client sends: C(v), or with a memory e, C(v + e), after which e is what C left out.

    So over all rounds of a client, what it sent plus its memory is the sum of its values. A client of weight 0 has nothing to add: with a
    memory, it sends zeros and keeps its memory.

    Args:
        contribution: Its `memory` has the tree of its value, or none for compression without error feedback.
        lossy: C, from a value to what the server gets of it.
    """
    value, memory = contribution.value, contribution.memory
    if not jax.tree.leaves(memory):
        sent = lossy(value)
        return contribution._replace(value=sent, tally=_loss(value, sent))
    takes_part = contribution.weight > 0
    owed = optax.tree.add(value, memory)
    sent = optax.tree.where(takes_part, lossy(owed), optax.tree.zeros_like(owed))
    left = optax.tree.where(takes_part, optax.tree.sub(owed, sent), memory)
    owed = optax.tree.where(takes_part, owed, sent)
    return contribution._replace(value=sent, memory=left, tally=_loss(owed, sent))


def relative_error(total: Contribution) -> Measurements:
    """sum_i |sent_i - owed_i|^2 / sum_i |owed_i|^2 over the clients of a round; 0 if there was nothing to send."""
    error, norm = total.tally["squared_error"], total.tally["squared_norm"]
    return {"relative_error": error / jnp.where(norm > 0, norm, 1)}


def _loss(owed: Params, sent: Params) -> dict[str, jax.Array]:
    return {"squared_error": _squared_norm(optax.tree.sub(sent, owed)), "squared_norm": _squared_norm(owed)}


def _squared_norm(value: Params) -> jax.Array:
    return jnp.asarray(optax.tree.norm(optax.tree.cast(value, jnp.float32), squared=True), jnp.float32)
