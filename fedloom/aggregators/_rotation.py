"""Random rotations of a vector, which spread what is in few of its coordinates over all of them.

After one, the largest coordinate of any vector x is about |x| sqrt(2 log(d) / d), so that a uniform quantizer has a small range.
Papers: Suresh et al. 2017, arXiv:1611.00429, Section 3 (Hadamard); the discrete Fourier transform is used as in TFF.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedloom.core import Key

_FACTOR_BITS = 6  # of log2(d), multiplied by one matrix


class Rotation(NamedTuple):
    """A rotation of vectors; the same key gives the same one."""

    length: Callable[[int], int]  # of a rotated vector of so many elements, which is filled up with zeros
    forward: Callable[[jax.Array, Key], jax.Array]  # of a vector of that length
    backward: Callable[[jax.Array, Key], jax.Array]


def _hadamard(x: jax.Array) -> jax.Array:
    """H x / sqrt(d) for d a power of two; it is its own inverse.

    H of size b c is the Kronecker product of those of size b and c, so x as a tensor is multiplied by a small H along one axis after the
    other. Each product also moves its axis to the end, and after the last they are in order again.
    """
    bits = x.size.bit_length() - 1
    for i in range(0, bits, _FACTOR_BITS):
        h = _matrix(min(_FACTOR_BITS, bits - i))
        x = jnp.matmul(h, x.reshape(len(h), -1), precision=jax.lax.Precision.HIGHEST).T
    return x.reshape(-1) / jnp.sqrt(jnp.float32(x.size))


def _matrix(bits: int) -> np.ndarray:
    """H of size 2^bits (Sylvester)."""
    h = np.ones((1, 1), np.float32)
    for _ in range(bits):
        h = np.block([[h, h], [h, -h]])
    return h


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
