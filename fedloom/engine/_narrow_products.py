"""Keeps XLA from computing the gradient of a narrow weight matrix in its slow form.

For predictions x w, JAX writes the gradient of w as (g^T x)^T. XLA folds the transposition into the product, x^T g, whose rows are as short
as w's: for a last layer with ten outputs that takes a CPU three times as long. A barrier between the two keeps them apart. Values are the
same up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend.core import Literal

_NARROW = 32  # columns of the weights, up to which it was seen to help
_LONG = 128  # rows, from which on
_CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"}


def with_narrow_products_apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of trees of arrays; it may be vectorized, but not differentiated, as custom derivatives are dissolved."""

    def rewritten(*args):
        leaves, structure = jax.tree.flatten(args)
        closed, shape = jax.make_jaxpr(lambda *flat: function(*jax.tree.unflatten(structure, flat)), return_shape=True)(*leaves)
        return jax.tree.unflatten(jax.tree.structure(shape), _evaluate(closed.jaxpr, closed.consts, leaves))

    return rewritten


def _evaluate(jaxpr: Any, consts: Any, args: Any) -> list[Any]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    for equation in jaxpr.eqns:
        given = [one.val if isinstance(one, Literal) else values[one] for one in equation.invars]
        results = _apply(equation, given)
        values.update(zip(equation.outvars, results, strict=True))
    return [one.val if isinstance(one, Literal) else values[one] for one in jaxpr.outvars]


def _apply(equation: Any, given: list[Any]) -> list[Any]:
    primitive, params = equation.primitive, equation.params
    inner = params.get("jaxpr", params.get("call_jaxpr")) if primitive.name in _CALLS else None
    if inner is not None:
        return _evaluate(inner.jaxpr, inner.consts, given)
    result = primitive.bind(*given, **params)
    if primitive.name == "dot_general" and _is_narrow(equation.outvars[0].aval.shape):
        result = lax.optimization_barrier(result)
    return list(result) if primitive.multiple_results else [result]


def _is_narrow(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and shape[0] <= _NARROW and shape[1] >= _LONG
