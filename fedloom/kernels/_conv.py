"""Convolutions of images, with bias and relu in the same pass, and their two gradients: native on CPUs.

XLA's own gradients of a convolution are very slow on CPUs inside a compiled loop, such as ours over batches: outside of loops it rewrites
convolutions into the one layout that it has fast kernels for, inside it does not, and runs what JAX derives as plain loops (as of jaxlib
0.10). So the references below write the gradients in that layout for CPUs, and leave them to JAX elsewhere.

Free to change: anything that keeps the numbers, which `tests/kernels/test_conv.py` holds to those of `lax.conv_general_dilated`.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._native import call, float32, native_or


class _Shape(NamedTuple):
    """What is the same for all calls of a layer, beside the shapes of its arrays."""

    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]  # of rows and of columns, before and after
    relu: bool


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    strides: tuple[int, int] = (1, 1),
    padding: Literal["valid", "same"] = "valid",
    relu: bool = False,
) -> jax.Array:
    """A convolution (a correlation, as everywhere in machine learning) plus bias, and relu of that if asked for.

    Args:
        x: Images; (images, rows, columns, channels).
        kernel: (kernel rows, kernel columns, channels, filters).
        bias: (filters,).
        strides: Steps of the window, down and across.
        padding: Whether windows stay inside the image, or zeros around it keep its size (divided by the strides, rounded up).
        relu: Whether what is below 0 becomes 0.

    Returns:
        (images, rows, columns, filters), with fewer rows and columns as strides and padding have it.
    """
    rows, columns = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding.upper())
    shape = _Shape((strides[0], strides[1]), ((int(rows[0]), int(rows[1])), (int(columns[0]), int(columns[1]))), relu)
    return cast(jax.Array, _conv2d(x, kernel, bias, shape))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _conv2d(x, kernel, bias, shape):
    return native_or(functools.partial(_reference, shape=shape), functools.partial(_native, shape=shape), x, kernel, bias)


def _forward(x, kernel, bias, shape):
    y = _conv2d(x, kernel, bias, shape)
    return y, (x, kernel, bias, y)


def _backward(shape, residuals, grad):
    # Two calls, so that a first layer's images, whose gradient nobody wants, cost nothing.
    dx = native_or(functools.partial(_reference_dx, shape=shape), functools.partial(_native_dx, shape=shape), *residuals, grad)
    dweights = native_or(
        functools.partial(_reference_dweights, shape=shape), functools.partial(_native_dweights, shape=shape), *residuals, grad
    )
    return dx, *dweights


_conv2d.defvjp(_forward, _backward)


def _native(x, kernel, bias, shape):
    out = jax.eval_shape(functools.partial(_reference, shape=shape), x, kernel, bias)
    return call("conv_forward", float32(*out.shape), x, kernel, bias, **_attributes(shape))


def _native_dx(x, kernel, bias, y, grad, shape):
    return call("conv_input_gradient", float32(*x.shape), grad, y, kernel, **_attributes(shape))


def _native_dweights(x, kernel, bias, y, grad, shape):
    return tuple(call("conv_weight_gradient", [float32(*kernel.shape), float32(*bias.shape)], x, grad, y, **_attributes(shape)))


def _attributes(shape):
    (top, _), (left, _) = shape.padding
    return {"strides": np.array(shape.strides), "padding": np.array([top, left]), "relu": shape.relu}


def _reference(x, kernel, bias, shape):
    y = _convolve(x, kernel, shape.strides, shape.padding) + bias
    return jax.nn.relu(y) if shape.relu else y


def _reference_dx(x, kernel, bias, y, grad, shape):
    def fast_on_cpus(grad):
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        padding = [
            (taps - 1 - low, size - 1 - (out - 1) * stride + low)
            for taps, size, out, stride, (low, _) in zip(kernel.shape, x.shape[1:], y.shape[1:], shape.strides, shape.padding, strict=False)
        ]
        return _convolve(grad, flipped, (1, 1), padding, lhs_dilation=shape.strides)

    def by_jax(grad):
        return jax.linear_transpose(lambda x: _convolve(x, kernel, shape.strides, shape.padding), x)(grad)[0]

    return lax.platform_dependent(_through_relu(y, grad, shape), cpu=fast_on_cpus, default=by_jax)


def _reference_dweights(x, kernel, bias, y, grad, shape):
    def fast_on_cpus(grad):
        padding = [
            (low, taps + (out - 1) * stride - size - low)
            for taps, size, out, stride, (low, _) in zip(kernel.shape, x.shape[1:], y.shape[1:], shape.strides, shape.padding, strict=False)
        ]
        d_kernel = _convolve(x.transpose(3, 1, 2, 0), grad.transpose(1, 2, 0, 3), (1, 1), padding, rhs_dilation=shape.strides)
        return d_kernel.transpose(1, 2, 0, 3)

    def by_jax(grad):
        return jax.linear_transpose(lambda kernel: _convolve(x, kernel, shape.strides, shape.padding), kernel)(grad)[0]

    grad = _through_relu(y, grad, shape)
    return lax.platform_dependent(grad, cpu=fast_on_cpus, default=by_jax), grad.sum((0, 1, 2))


def _convolve(x, kernel, strides, padding, **dilation):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **dilation)


def _through_relu(y, grad, shape):
    return jnp.where(y > 0, grad, 0) if shape.relu else grad
