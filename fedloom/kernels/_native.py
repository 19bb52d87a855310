"""The compiled kernels: finding their library, and calling them inside a JAX program.

The library is built with the package (`hatch_build.py`). Without one, or with FEDLOOM_NATIVE=skip in the environment, everything runs on
the references in JAX, with the same numbers up to rounding.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

LIBRARY = Path(__file__).with_name("libkernels.so")
TARGETS = (  # a program calls them with fedloom_ before the name
    *("gru_forward", "gru_backward", "lstm_forward", "lstm_backward", "matmul"),
    *("conv_forward", "conv_input_gradient", "conv_weight_gradient", "max_pool_forward", "max_pool_backward"),
)

_references_only: contextvars.ContextVar[bool] = contextvars.ContextVar("references_only", default=False)


class Native(NamedTuple):
    """Whether there are native kernels here."""

    instruction_set: str  # that they are compiled for, such as "x86_64_v4"; "" if there are none
    threads: int  # that one kernel uses
    missing: str  # why there are none; "" if there are


def native() -> Native:
    """What the kernels run on.

    Example:
        >>> native().threads >= 1
        True
    """
    if _library is None:
        return Native("", 1, _missing)
    return Native(_library.fedloom_instruction_set().decode(), _library.fedloom_threads(), "")


def set_threads(threads: int) -> None:
    """How many threads one kernel uses, from now on. Numbers do not depend on it.

    They begin with one for each core that the process may use, or with FEDLOOM_THREADS of the environment.

    Raises:
        ValueError: `threads` is less than 1.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}.")
    if _library is not None:
        _library.fedloom_set_threads(threads)


@contextlib.contextmanager
def references() -> Iterator[None]:
    """What is traced inside computes on the references in JAX, for programs that are to run where there are no kernels."""
    before = _references_only.set(True)
    try:
        yield
    finally:
        _references_only.reset(before)


def use_instruction_set(name: str) -> bool:
    """Takes the kernels of another instruction set, for tests; False if this machine or this build has none of that name."""
    return _library is not None and bool(_library.fedloom_use_instruction_set(name.encode()))


def native_or(reference: Callable[..., Any], kernel: Callable[..., Any], *arguments: jax.Array) -> Any:
    """`kernel(*arguments)` where the program runs on a CPU and float32 kernels are there, else `reference(*arguments)`."""
    if _library is None or _references_only.get() or any(argument.dtype not in (jnp.float32, jnp.int32) for argument in arguments):
        return reference(*arguments)
    return jax.lax.platform_dependent(*arguments, cpu=kernel, default=reference)


def call(name: str, results: Any, *arguments: jax.Array, in_place: bool = False, **attributes: Any) -> Any:
    """Calls a kernel; `results` are the shapes of what it returns, as of `jax.eval_shape`. One after the other under `vmap`.

    With `in_place`, its first result takes the memory of its first argument, which XLA copies if somebody else needs it.
    """
    aliases = {0: 0} if in_place else None
    kernel = jax.ffi.ffi_call(f"fedloom_{name}", results, vmap_method="sequential", input_output_aliases=aliases)
    return kernel(*arguments, **attributes)


def ids_within(ids: jax.Array | None, rows: jax.Array) -> jax.Array:
    """Ids as kernels take them: int32, each that of one of the rows; empty if there are none."""
    return jnp.zeros((0, 0), jnp.int32) if ids is None else jnp.clip(ids, 0, rows.shape[0] - 1).astype(jnp.int32)


def float32(*shape: int) -> jax.ShapeDtypeStruct:
    """The shape of a result."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get("FEDLOOM_NATIVE") == "skip":
        return None, "FEDLOOM_NATIVE=skip is in the environment"
    if not LIBRARY.exists():
        return None, "the package was built without them, as there was no C++ compiler"
    try:
        library = ctypes.CDLL(str(LIBRARY))
        for name in TARGETS:
            jax.ffi.register_ffi_target(f"fedloom_{name}", jax.ffi.pycapsule(getattr(library, f"fedloom_{name}")), platform="cpu")
    except Exception as error:  # of another platform or an older JAX: whatever it is, there is a reference
        return None, f"they could not be loaded: {error}"
    library.fedloom_instruction_set.restype = ctypes.c_char_p
    library.fedloom_threads.restype = ctypes.c_long
    library.fedloom_set_threads.argtypes = [ctypes.c_long]
    library.fedloom_set_threads(_threads_to_begin_with())
    return library, ""


def _threads_to_begin_with() -> int:
    wish = os.environ.get("FEDLOOM_THREADS")
    if wish:
        if not wish.isdecimal() or int(wish) < 1:
            raise ValueError(f"FEDLOOM_THREADS in the environment must be a whole number of at least 1, got {wish!r}.")
        return int(wish)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_library, _missing = _load()
