"""What a client counts for in a mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from fedloom.core import MetricSums

ClientWeight = Literal["num_examples", "uniform", "tokens"] | Callable[[MetricSums], jax.Array]
"""By examples seen, repeats counted and padding not; 1 for every client that saw any; by summed sample weights; or a function."""

_BY_NAME: dict[str, Callable[[MetricSums], jax.Array]] = {
    "num_examples": lambda sums: sums["num_examples"],
    "uniform": lambda sums: (sums["num_examples"] > 0).astype(jnp.float32),
    "tokens": lambda sums: sums["num_tokens"],
}


def resolve_client_weight(client_weight: ClientWeight) -> Callable[[MetricSums], jax.Array]:
    """The function from a client's summed metrics to its weight, shape (), float32.

    Raises:
        ValueError: The name is not known.
    """
    if not callable(client_weight) and client_weight not in _BY_NAME:
        raise ValueError(
            f"client_weight must be one of {sorted(_BY_NAME)} or a function of a client's summed metrics, got {client_weight!r}."
        )
    weigh = client_weight if callable(client_weight) else _BY_NAME[client_weight]
    return lambda sums: jnp.asarray(weigh(sums), jnp.float32)
