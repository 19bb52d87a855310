"""The largest of each window of an image, where windows lie side by side, and its gradient: native on CPUs.

XLA scatters the gradient element by element.
"""

from __future__ import annotations

import functools
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._native import call, float32, native_or


def max_pool2d(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    """The largest number of each window, channel by channel; rows and columns that fill no window are left out.

    The gradient goes to the first of those that are largest, as in JAX.

    Args:
        x: Images; (images, rows, columns, channels).
        window: Its rows and columns, which are also its steps; not larger than the image.

    Returns:
        (images, rows / window rows, columns / window columns, channels), rounded down.
    """
    return cast(jax.Array, _max_pool2d(x, tuple(window)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool2d(x, window):
    def native(x):
        images, rows, columns, channels = x.shape
        return call("max_pool_forward", float32(images, rows // window[0], columns // window[1], channels), x, window=np.array(window))

    return native_or(functools.partial(_reference, window=window), native, x)


def _forward(x, window):
    return _max_pool2d(x, window), x


def _backward(window, x, grad):
    def native(x, grad):
        return call("max_pool_backward", float32(*x.shape), x, grad, window=np.array(window))

    def reference(x, grad):
        return jax.vjp(functools.partial(_reference, window=window), x)[1](grad)[0]

    return (native_or(reference, native, x, grad),)


_max_pool2d.defvjp(_forward, _backward)


def _reference(x, window):
    step = (1, *window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, step, step, "VALID")
