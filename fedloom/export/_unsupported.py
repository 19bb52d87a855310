"""What cannot leave Python, said in words of the model rather than of JAX's inside."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend

_HOST_CALLS = {"pure_callback", "io_callback", "debug_callback", "debug_print"}


def refuse_host_calls(name: str, jaxpr: Any) -> None:
    """Raises ValueError at the first operation that runs Python."""
    for equation in jaxpr.eqns:
        if (operation := equation.primitive.name) in _HOST_CALLS:
            raise ValueError(
                f"Program {name!r} calls back into Python ({operation}), which is not there where it will run. Take the call out of the "
                "model, loss, metrics or algorithm: pure_callback, io_callback, jax.debug.print and the like."
            )
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                refuse_host_calls(name, getattr(inner, "jaxpr", inner))


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, jax.extend.core.ClosedJaxpr | jax.extend.core.Jaxpr)


@contextlib.contextmanager
def explaining(name: str) -> Iterator[None]:
    """Says which program cannot be exported, and why, where JAX would show a trace of its own inside."""
    try:
        yield
    except jax.errors.JAXTypeError as error:
        raise ValueError(
            f"Program {name!r} has shapes, or Python code, that depend on the values of arrays: {_first_line(error)} Write it with "
            "jnp.where or jax.lax.cond, and with shapes that follow from shapes."
        ) from error
    except ValueError as error:
        if "custom call" not in str(error):
            raise
        calls = ", ".join(sorted(set(re.findall(r"custom_call @(\w+)", str(error))))) or "one"
        raise ValueError(
            f"Program {name!r} has custom calls that other runtimes do not know: {calls}. Use an operation made of JAX's own instead."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
