"""Noise on integer counts: at the server once, or at every client a share of it.

Continuous noise in floating point gives away the number below it by its last bits (Mironov 2012). Integers have none.
With care: all of it.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

_WORD_BITS = 31
_TAIL = 12.0  # standard deviations, beyond which a discrete Gaussian has 1e-32 of its mass


def rounded_gaussian(rng: np.random.Generator, std: float, size: int) -> np.ndarray:
    """N(0, std^2) rounded to integers, int64 (size,), of variance std^2 + 1/12 for std of 1 or more.

    An integer count plus this is the rounded sum of the count and a Gaussian: rounding comes after the Gaussian mechanism, and its
    privacy is kept.
    """
    return np.rint(rng.normal(0.0, std, size)).astype(np.int64)


def discrete_gaussian(key: jax.Array, std: float, size: int) -> jax.Array:
    """Independent integers k with probability proportional to exp(-k^2 / (2 std^2)), int32 (size,).

    Canonne, Kamath and Steinke 2020 (arXiv:2004.00010). Drawn by inverting a table of the distribution with 62 random bits each, so in
    total variation a number is off by less than 1e-14. The variance is at most std^2, and hardly less for std of 1 or more.

    Args:
        key: JAX random key.
        std: At least 0; a Python number, as the table is a constant of the program.
        size: How many.
    """
    high, low = (jnp.asarray(words) for words in _thresholds(float(std)))
    bits = jax.random.bits(key, (3, size), jnp.uint32)
    u_high, u_low = bits[0] >> (32 - _WORD_BITS), bits[1] >> (32 - _WORD_BITS)

    def halve(_, ends):
        first, last = ends
        middle = (first + last) // 2
        t_high, t_low = high[middle], low[middle]
        below = (u_high < t_high) | ((u_high == t_high) & (u_low < t_low))
        open_ = first < last
        return jnp.where(open_ & below, middle + 1, first), jnp.where(open_ & ~below, middle, last)

    # |k| is the number of thresholds above u; they fall, so it is found by halving.
    ends = jnp.zeros(size, jnp.int32), jnp.full(size, len(high), jnp.int32)
    first, _ = jax.lax.fori_loop(0, len(high).bit_length(), halve, ends)
    return jnp.where(bits[2] & 1, first, -first)


@functools.lru_cache(maxsize=16)
def _thresholds(std: float) -> tuple[np.ndarray, np.ndarray]:
    """P(|k| >= 1), P(|k| >= 2), ... times 2^62, in two words of 31 bits, uint32."""
    if not 0 <= std < 1e6:
        raise ValueError(f"std must be in [0, 1e6), got {std!r}.")
    k = np.arange(1, math.ceil(_TAIL * std) + 2)
    mass = 2 * np.exp(-((k / std) ** 2) / 2) if std else np.zeros(len(k))
    tails = np.cumsum(mass[::-1])[::-1]
    scaled = [int(tail * 2.0 ** (2 * _WORD_BITS)) for tail in tails / (1 + tails[0])]
    words = [(value >> _WORD_BITS, value & (2**_WORD_BITS - 1)) for value in scaled]
    return np.array([word[0] for word in words], np.uint32), np.array([word[1] for word in words], np.uint32)


def to_modular(counts: jax.Array, bits: int) -> jax.Array:
    """Signed integers modulo 2^bits, uint32: what a secure sum adds up."""
    return jax.lax.bitcast_convert_type(counts.astype(jnp.int32), jnp.uint32) & jnp.uint32(2**bits - 1)


def from_modular(total: np.ndarray, bits: int) -> np.ndarray:
    """A sum of `to_modular`, which may have wrapped around, as signed integers in [-2^(bits-1), 2^(bits-1)), int64."""
    value = np.asarray(total).astype(np.int64) & (2**bits - 1)
    return np.where(value >= 2 ** (bits - 1), value - 2**bits, value)
