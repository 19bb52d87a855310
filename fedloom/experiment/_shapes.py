"""What follows from the shapes of a round alone, known before anyone has trained."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedloom.core import Aggregator, Algorithm, ClientWork, PyTree, ServerState, first_kept, root_key


class RoundShapes(NamedTuple):
    """Of one client of a round."""

    value: PyTree  # of its contribution: the shapes, as `jax.ShapeDtypeStruct`
    keeps: bool  # whether it keeps anything until its next round
    needs_report: bool  # whether its part of the sums is not enough to close the round
    bytes_up: int  # what it sends, encoded; in a prelude too
    bytes_down: int  # what it is sent


def round_shapes(algorithm: Algorithm, aggregator: Aggregator, server: ServerState) -> RoundShapes:
    """Traces a client without data; nothing is computed."""

    def message():
        return algorithm.broadcast(server, jnp.int32(0))

    def value(work: ClientWork, client_state):
        return work.finish(message(), work.begin(message(), client_state, root_key(0))).contribution.value

    own = jax.eval_shape(lambda: value(algorithm.client, algorithm.init_client(algorithm.get_weights(server))))
    kept = jax.eval_shape(lambda: first_kept(algorithm, aggregator, algorithm.get_weights(server), own))
    keeps = bool(jax.tree.leaves(kept))
    up, down = aggregator.bytes_up(own) if aggregator.bytes_up else size_in_bytes(own), size_in_bytes(jax.eval_shape(message))
    if prelude := algorithm.prelude:
        up, down = up + size_in_bytes(jax.eval_shape(lambda: value(prelude.client, ()))), 2 * down
    return RoundShapes(own, keeps, keeps or aggregator.reduce == "stack", up, down)


def size_in_bytes(tree: Any) -> int:
    """Of a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))
