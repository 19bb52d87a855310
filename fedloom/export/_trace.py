"""A program as StableHLO: for any batch size, for one, for runtimes other than JAX, and with the kernels of this package.

Free to change: which variants there are. With care: nothing may get into a file that tells of the machine on which it was made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax import export

from fedloom.kernels import TARGETS, native, references

from ._names import is_key, named_leaves, plain, plain_shape
from ._programs import Program
from ._unsupported import explaining, refuse_host_calls

PLATFORMS = ("cpu", "cuda", "tpu")
_FOR_OTHERS = ("tpu",)
"""Whose lowering other runtimes get: it makes no calls of LAPACK or CUDA, and unrolls the generator of random numbers, whose loop IREE 3.13
fails to compile."""


class Traced(NamedTuple):
    """A program that has left Python."""

    program: Program
    inputs: dict[str, jax.ShapeDtypeStruct]  # by name, in order
    outputs: dict[str, jax.ShapeDtypeStruct]
    variants: dict[str, bytes]  # "symbolic", "static", "kernels": serialized `jax.export.Exported`; "stablehlo": a portable artifact
    not_symbolic: str  # why it takes one batch size only; "" if it takes any, or no batch


def trace(program: Program, *, fixed_rows: str = "") -> Traced:
    """Exports a program in all its variants.

    Args:
        program: The program; a group "batch" has the rows of all its arrays first.
        fixed_rows: Why the batch size cannot be left open; "" if it can.

    Raises:
        ValueError: It calls back into Python, depends on the values of arrays, or has an operation that is not portable.
    """
    inputs = _plain_shapes(program.arguments)
    variants, why = {}, ""
    with _without_places(), explaining(program.name):
        results = jax.eval_shape(program.run, *program.arguments.values())
        with references():
            portable = _jitted(program)  # one for all, so that it is traced once
            refuse_host_calls(program.name, portable.trace(*inputs.values()).jaxpr.jaxpr)
            variants["static"] = bytes(_export(portable, inputs, PLATFORMS).serialize())
            variants["stablehlo"] = _export(portable, inputs, _FOR_OTHERS).mlir_module_serialized
            if "batch" in program.arguments:
                symbolic, why = (None, fixed_rows) if fixed_rows else _symbolic(portable, inputs)
                variants |= {"symbolic": symbolic} if symbolic else {}
        if (kernels := _with_kernels(program, inputs)) is not None:
            variants["kernels"] = kernels
    outputs = _plain_shapes(dict(zip(program.results, results, strict=True)))
    return Traced(program, inputs, outputs, variants, why)


def _plain_shapes(groups: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: plain_shape(leaf) for group, tree in groups.items() for name, leaf in named_leaves(group, tree).items()}


def _jitted(program: Program) -> Any:
    """The program with one argument and one result for every array, to be compiled."""
    leaves, structure = jax.tree.flatten(tuple(program.arguments.values()))

    def run(*arrays):
        given = [jax.random.wrap_key_data(array) if is_key(leaf) else array for array, leaf in zip(arrays, leaves, strict=True)]
        return [plain(leaf) for leaf in jax.tree.leaves(program.run(*jax.tree.unflatten(structure, given)))]

    run.__name__ = program.name
    return jax.jit(run, keep_unused=True)  # so that the manifest alone says what a program takes


def _export(jitted: Any, inputs: dict[str, Any], platforms: tuple[str, ...], checks: tuple = ()) -> export.Exported:
    return export.export(jitted, platforms=platforms, disabled_checks=checks)(*inputs.values())


def _symbolic(jitted: Any, inputs: dict[str, Any]) -> tuple[bytes | None, str]:
    """The program for any number of rows; or None, and why there is none."""
    (rows,) = export.symbolic_shape("b")
    shapes = [
        jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype) if name.partition("/")[0] == "batch" else leaf
        for name, leaf in inputs.items()
    ]
    try:
        return bytes(_export(jitted, dict(zip(inputs, shapes, strict=True)), PLATFORMS).serialize()), ""
    except Exception as error:  # of any kind: what a model does with its batch size is its own affair, and one size works
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        return None, next((line for line in lines if line.startswith("Symbolic")), lines[0])


def _with_kernels(program: Program, inputs: dict[str, Any]) -> bytes | None:
    """The program as a process on this CPU runs it, if that is with native kernels."""
    if native().missing:
        return None
    checks = tuple(export.DisabledSafetyCheck.custom_call(f"fedloom_{name}") for name in TARGETS)
    exported = _export(_jitted(program), inputs, PLATFORMS[:1], checks)
    return bytes(exported.serialize()) if "@fedloom_" in exported.mlir_module() else None


@contextlib.contextmanager
def _without_places() -> Iterator[None]:
    """Leaves out of programs in which files and lines they were written."""
    before = jax.config.values["jax_traceback_in_locations_limit"]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)
