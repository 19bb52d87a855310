"""An estimate of a quantile of clients' values, from one bit of each client per round.

Paper: Andrew et al. 2021, arXiv:1905.03871, Section 2, whose symbols are used below: C is the estimate, gamma the target, eta_C the
learning rate, and b the share of clients whose value is at most C.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Quantile(NamedTuple):
    """How an estimate is made; from `quantile`."""

    initial: float
    target: float
    learning_rate: float
    multiplier: float
    increment: float
    geometric: bool

    def threshold(self, estimate: jax.Array) -> jax.Array:
        """What is applied: multiplier C + increment, float32 as all here."""
        return jnp.float32(self.multiplier) * estimate + jnp.float32(self.increment)

    def bit(self, value: jax.Array, estimate: jax.Array) -> jax.Array:
        """b_i - 1/2, which a client adds to a sum: of magnitude 1/2 either way, so that noise for it need only hide half a count."""
        return (value <= estimate).astype(jnp.float32) - 0.5

    def share(self, bits: jax.Array, clients: jax.Array | float) -> jax.Array:
        """b, in [0, 1], from the sum of the bits of so many clients."""
        return jnp.clip(bits / jnp.float32(clients) + 0.5, 0, 1)

    def update(self, estimate: jax.Array, share: jax.Array) -> jax.Array:
        """C <- C exp(-eta_C (b - gamma)), or without `geometric` C <- C - eta_C (b - gamma)."""
        step = jnp.float32(self.learning_rate) * (share - jnp.float32(self.target))
        return estimate * jnp.exp(-step) if self.geometric else estimate - step


def quantile(
    initial: float, target: float, learning_rate: float, *, multiplier: float = 1.0, increment: float = 0.0, geometric: bool = True
) -> Quantile:
    """A threshold that follows a quantile of the norms of clients' updates, for `clipping` and `zeroing`.

    The estimate is updated without noise, so it is not private: see `dp_gaussian_adaptive` for one that is.

    Args:
        initial: C of the first round; above 0, unless the update is arithmetic.
        target: gamma, the share of clients at or below C that is aimed at, in (0, 1).
        learning_rate: eta_C, above 0.
        multiplier: What is applied is multiplier C + increment, while C itself is what norms are compared with for the estimate; above 0.
        increment: >= 0, in the unit of the norm.
        geometric: Whether updates multiply C (good over orders of magnitude) or add to it.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> median = quantile(1.0, target=0.5, learning_rate=0.2)
        >>> C = jnp.float32(median.initial)
        >>> bits = sum(median.bit(norm, C) for norm in jnp.array([0.5, 2.0, 3.0, 4.0]))  # one of four is below, so C grows
        >>> round(float(median.update(C, median.share(bits, clients=4))), 4) == round(math.exp(0.2 * 0.25), 4)
        True
    """
    for name, number in (("learning_rate", learning_rate), ("multiplier", multiplier), *([("initial", initial)] if geometric else [])):
        if not 0 < number < math.inf:
            raise ValueError(f"{name} of a quantile must be finite and above 0, got {number!r}.")
    if not 0 < target < 1:
        raise ValueError(f"target of a quantile must be in (0, 1), got {target!r}. It is the share of clients below the estimate.")
    if not 0 <= increment < math.inf:
        raise ValueError(f"increment of a quantile must be finite and at least 0, got {increment!r}.")
    if not math.isfinite(initial):
        raise ValueError(f"initial of a quantile must be finite, got {initial!r}.")
    return Quantile(initial, target, learning_rate, multiplier, increment, geometric)
