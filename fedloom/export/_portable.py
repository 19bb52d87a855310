"""A program of an export as a function of named arrays."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from fedloom.kernels import native

from .._version import __version__
from ._manifest import ArrayInfo, FolderManifest, ProgramInfo, StoredArray, Variant
from ._names import is_key

Group = dict[str, jax.Array]
"""Arrays by name without that of the group: of `message/weights/trainable/0`, `weights/trainable/0`. A group that is one array is it."""


class PortableProgram:
    """A program of an export: `program(message, local, batch, key)`, with a `Group` or one array for each of `info.arguments`.

    It gives a group for its result, or a tuple of them for several, in the order of `info.results`.

    Attributes:
        info: Names, shapes and types.
    """

    def __init__(self, name: str, info: ProgramInfo, files: Mapping[str, bytes], batch_size: int | None, kernels: bool):
        self.info = info
        self._name, self._batch_size, self._kernels = name, batch_size, kernels
        self._files = {variant: files[file] for variant, file in info.files.items()}

    def __call__(self, *arguments: Any) -> Any:
        """Runs it.

        Raises:
            TypeError: The number of arguments is wrong.
            ValueError: An argument lacks an array, has one too many, or one of another shape or type.
        """
        if len(arguments) != len(self.info.arguments):
            raise TypeError(f"{self._name} takes {', '.join(self.info.arguments)}, got {len(arguments)} arguments.")
        leaves, rows = self._flatten(dict(zip(self.info.arguments, arguments, strict=True)))
        outputs = self._compiled(self.variant(rows))(*leaves)
        groups = [group_of(name, self.info.outputs, outputs) for name in self.info.results]
        return groups[0] if len(groups) == 1 else tuple(groups)

    def variant(self, rows: int | None = None) -> Variant:
        """Which of its variants runs on a batch of so many rows.

        Raises:
            ValueError: There is none.
        """
        if rows in (None, self._batch_size):
            return "kernels" if self._kernels and "kernels" in self._files and jax.default_backend() == "cpu" else "static"
        if "symbolic" not in self._files:
            raise ValueError(
                f"{self._name} takes batches of {self._batch_size} rows, got one of {rows}: {self.info.not_symbolic} "
                "Bring it to that size with `batch`, or export for another one."
            )
        return "symbolic"

    @functools.lru_cache(maxsize=8)  # noqa: B019  as many as there are variants, for as long as there is the program
    def _compiled(self, variant: Variant):
        exported = export.deserialize(bytearray(gzip.decompress(self._files[variant])))
        if len(exported.in_avals) != len(self.info.inputs) or len(exported.out_avals) != len(self.info.outputs):
            raise ValueError(f"The program {self._name!r} does not fit the manifest: it takes {len(exported.in_avals)} arrays.")
        return jax.jit(exported.call)

    def _flatten(self, given: dict[str, Any]) -> tuple[list[jax.Array], int | None]:
        by_name = {name: leaf for group, value in given.items() for name, leaf in named(group, value).items()}
        expected = {array.name: array for array in self.info.inputs}
        if by_name.keys() != expected.keys():
            missing, unknown = sorted(expected.keys() - by_name.keys()), sorted(by_name.keys() - expected.keys())
            raise ValueError(
                f"{self._name} needs the arrays that the manifest names; missing: {', '.join(missing) or 'none'}, unknown: "
                f"{', '.join(unknown) or 'none'}."
            )
        rows: int | None = None
        leaves = []
        for name, array in expected.items():
            leaf = as_array(array, by_name[name])
            if name.partition("/")[0] == "batch":
                rows = leaf.shape[0] if rows is None else rows
                fits = leaf.shape == (rows, *array.sizes)
            else:
                fits = leaf.shape == array.sizes
            if not fits:
                raise ValueError(f"{name} of {self._name} must have the shape {_shown(array)}, got {list(leaf.shape)}.")
            leaves.append(leaf)
        return leaves, rows


def portable_programs(manifest: FolderManifest, files: Mapping[str, bytes], batch_size: int | None = None) -> dict[str, PortableProgram]:
    """The programs of a manifest, by name.

    Args:
        manifest: Of the folder.
        files: Of the folder, by path.
        batch_size: Of all variants but that for any; None if there are no batches.
    """
    kernels = not native().missing and manifest.fedloom_version == __version__
    return {name: PortableProgram(name, info, files, batch_size, kernels) for name, info in manifest.programs.items()}


def named(group: str, value: Any) -> dict[str, Any]:
    """The arrays of a group by their full names."""
    return {f"{group}/{name}": leaf for name, leaf in value.items()} if isinstance(value, Mapping) else {group: value}


def group_of(group: str, arrays: Iterable[Any], values: Iterable[Any]) -> Any:
    """The arrays of a group, by their names without its own; or the one that is the group."""
    own = {array.name: value for array, value in zip(arrays, values, strict=True) if array.name.partition("/")[0] == group}
    return own[group] if group in own else {name.removeprefix(f"{group}/"): value for name, value in own.items()}


def as_array(array: ArrayInfo | StoredArray, value: Any) -> jax.Array:
    """A value in the type of an array of the manifest; random keys as their data."""
    value = jax.random.key_data(value) if is_key(value) else value
    dtype = jnp.dtype(array.dtype)
    found = jnp.result_type(value)
    if found != dtype and not (np.ndim(value) == 0 and not hasattr(value, "dtype")) and not jnp.can_cast(found, dtype, "same_kind"):
        raise ValueError(f"{array.name} must be of the type {array.dtype}, got {found}.")
    return jnp.asarray(value, dtype)


def _shown(array: ArrayInfo) -> str:
    return f"[{', '.join(map(str, array.shape))}]"
