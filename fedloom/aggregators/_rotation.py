"""Random rotations of a vector, which spread what is in few of its coordinates over all of them.

After one, the largest coordinate of any vector x is about |x| sqrt(2 log(d) / d), so that a uniform quantizer has a small range.
Papers: Suresh et al. 2017, arXiv:1611.00429, Section 3 (Hadamard); the discrete Fourier transform is used as in TFF.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedloom.core import Key


class Rotation(NamedTuple):
    """A rotation of vectors; the same key gives the same one."""

    length: Callable[[int], int]  # of a rotated vector of so many elements, which is filled up with zeros
    forward: Callable[[jax.Array, Key], jax.Array]  # of a vector of that length
    backward: Callable[[jax.Array, Key], jax.Array]


def _hadamard(x: jax.Array) -> jax.Array:
    """H x / sqrt(d) by the fast Walsh-Hadamard transform; d a power of two. It is its own inverse."""
    d, half = x.size, 1
    while half < d:
        x = x.reshape(-1, 2, half)
        x = jnp.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]], axis=1)
        half *= 2
    return x.reshape(d) / jnp.sqrt(jnp.float32(d))


def _signs(x: jax.Array, key: Key) -> jax.Array:
    return jax.random.rademacher(key, x.shape, jnp.float32)


def _phases(x: jax.Array, key: Key) -> jax.Array:
    return jnp.exp(1j * jax.random.uniform(key, (x.size // 2,), maxval=2 * jnp.pi))


def _packed(x: jax.Array) -> jax.Array:
    """Two halves of a real vector as real and imaginary part."""
    return jax.lax.complex(*x.reshape(2, -1))


def _unpacked(z: jax.Array) -> jax.Array:
    return jnp.concatenate([z.real, z.imag])


ROTATIONS = {
    "hadamard": Rotation(
        lambda size: 1 << max(0, size - 1).bit_length(),
        lambda x, key: _hadamard(_signs(x, key) * x),
        lambda y, key: _signs(y, key) * _hadamard(y),
    ),
    "dft": Rotation(
        lambda size: size + size % 2,
        lambda x, key: _unpacked(jnp.fft.fft(_phases(x, key) * _packed(x), norm="ortho")),
        lambda y, key: _unpacked(_phases(y, key).conj() * jnp.fft.ifft(_packed(y), norm="ortho")),
    ),
}
