"""Whether products round what they multiply to bfloat16: a matter of the whole model, so it is said once, around it.

Sums, and all that goes in and comes out, stay float32.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp

Operands = Literal["float32", "bfloat16"]

_operands: contextvars.ContextVar[Operands] = contextvars.ContextVar("operands", default="float32")


@contextlib.contextmanager
def operands(kind: Operands) -> Iterator[None]:
    """What the kernels that are traced inside multiply; their gradients do the same.

    Example:
        >>> import jax.numpy as jnp
        >>> from fedloom.kernels import matmul
        >>> a = jnp.full((1, 1), 1 + 2**-9)
        >>> with operands("bfloat16"):
        ...     print(matmul(a, a))
        [[1.]]
    """
    before = _operands.set(kind)
    try:
        yield
    finally:
        _operands.reset(before)


def current_operands() -> Operands:
    """What `operands` says here; "float32" if nothing does."""
    return _operands.get()


def multiply(left: jax.Array, right: jax.Array, kind: Operands) -> jax.Array:
    """`left @ right` in JAX, with operands as they are or rounded; float32."""
    if kind == "bfloat16":
        left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
    return jnp.matmul(left, right, preferred_element_type=jnp.float32)
