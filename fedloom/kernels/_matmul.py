"""Products of matrices: native on CPUs, where they are some 10 % faster than XLA's, and take bfloat16 operands at twice that rate.

Free to change: anything that keeps the numbers. With care: `product`, in which the gradients of all other kernels end.
"""

from __future__ import annotations

import functools
import math
from typing import cast

import jax
import jax.numpy as jnp

from ._native import call, float32, native_or
from ._operands import Operands, current_operands, multiply


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a @ b`, with operands as `operands` says.

    Args:
        a: Any number of rows in any number of dimensions; (..., depth).
        b: A matrix; (depth, columns).

    Returns:
        The product; (..., columns).
    """
    rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
    return cast(jax.Array, _matmul(rows, b, current_operands())).reshape(*a.shape[:-1], b.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _matmul(a, b, kind):
    return product(a, b, kind)


def _forward(a, b, kind):
    return product(a, b, kind), (a, b)


def _backward(kind, residuals, grad):
    a, b = residuals
    return product(grad, b, kind, right_transposed=True), product(a, grad, kind, left_transposed=True)


_matmul.defvjp(_forward, _backward)


def product(
    left: jax.Array,
    right: jax.Array,
    kind: Operands,
    *,
    left_transposed: bool = False,
    right_transposed: bool = False,
    head: jax.Array | None = None,
) -> jax.Array:
    """The product of two matrices; it has no gradient of its own.

    Args:
        left: (rows, depth); (depth, rows) if `left_transposed`.
        right: (depth, columns); (columns, depth) if `right_transposed`.
        kind: What is multiplied.
        left_transposed: Whether `left` is taken transposed.
        right_transposed: Whether `right` is taken transposed.
        head: First rows of a transposed left side, as many fewer of `left` are used: states shifted by a step need no copy.

    Returns:
        (rows, columns), float32.
    """
    shape = (left.shape[1 if left_transposed else 0], right.shape[0 if right_transposed else 1])

    def reference(head, left, right):
        if head.size:
            left = jnp.concatenate([head, left[: right.shape[0] - head.shape[0]]])
        left, right = left.T if left_transposed else left, right.T if right_transposed else right
        return multiply(left, right, kind)

    def kernel(head, left, right):
        sides = {"left_transposed": left_transposed, "right_transposed": right_transposed}
        return call("matmul", float32(*shape), head, left, right, **sides, bfloat16=kind == "bfloat16")

    return native_or(reference, kernel, jnp.zeros((0, 0)) if head is None else head, left, right)
