"""Where every random number starts: root -> round -> client -> step, so that no result depends on placement, blocks or restarts."""

from __future__ import annotations

import jax

from ._types import Key

_AGGREGATE = 2**32 - 1  # no client has this index


def root_key(seed: int) -> Key:
    """The key of a whole run."""
    return jax.random.key(seed)


def round_key(root: Key, round_number: int | jax.Array) -> Key:
    """The key of a round, counted from 0."""
    return jax.random.fold_in(root, round_number)


def client_key(round_: Key, index: int | jax.Array) -> Key:
    """The key of the client at this place in the cohort."""
    return jax.random.fold_in(round_, index)


def step_key(client: Key, step: int | jax.Array) -> Key:
    """The key of one local step, counted from 0."""
    return jax.random.fold_in(client, step)


def aggregate_key(round_: Key) -> Key:
    """The key of the server's half of the aggregation."""
    return jax.random.fold_in(round_, _AGGREGATE)
