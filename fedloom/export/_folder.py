"""The folder of an export: a manifest and the files it lists, written and read as a whole."""

from __future__ import annotations

import gzip
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .._files import explaining_full_disk
from .._version import __version__
from ._manifest import MANIFEST, AnyManifest, ArrayInfo, FolderManifest, ProgramInfo, export_format, file_info, read_manifest
from ._trace import PLATFORMS, Traced


def target_folder(directory: str | Path) -> Path:
    """The folder to be written, which is new, empty, or an export.

    Raises:
        ValueError: It holds something else.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"directory must be a folder, got the file {str(directory)!r}. Name another one.")
    if directory.is_dir() and any(directory.iterdir()) and export_format(directory) is None:
        raise ValueError(
            f"directory must be new, empty or an export, got {str(directory)!r}, which holds something else. Name another folder."
        )
    return directory


def program_files(programs: Sequence[Traced]) -> dict[str, bytes]:
    """A file for each variant of each program, by its path in the folder."""
    return {f"programs/{_file_name(one, kind)}": _packed(kind, content) for one in programs for kind, content in one.variants.items()}


def about(programs: Sequence[Traced], files: Mapping[str, bytes]) -> dict[str, Any]:
    """What every manifest says of these programs, and of all files in the folder."""
    return {
        "fedloom_version": __version__,
        "jax_version": version("jax"),
        "stablehlo_version": _stablehlo_version(programs[0]),
        "platforms": PLATFORMS,
        "programs": {one.program.name: _program_info(one) for one in programs},
        "files": {name: file_info(content) for name, content in files.items()},
    }


def write_folder(directory: Path, files: Mapping[str, bytes], manifest: FolderManifest) -> None:
    """Puts a folder of these files and their manifest in the place of `directory`, whole or not at all."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")
    old = unfinished.with_suffix(".old")
    try:
        with explaining_full_disk(directory):
            for name, content in {**files, MANIFEST: manifest.to_json().encode()}.items():
                path = unfinished / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        if directory.exists():
            directory.rename(old)
        try:
            unfinished.rename(directory)
        except BaseException:
            if old.exists():
                old.rename(directory)
            raise
    finally:
        for leftover in (unfinished, old):
            shutil.rmtree(leftover, ignore_errors=True)


def read_folder(directory: Path, kind: type[AnyManifest]) -> tuple[AnyManifest, dict[str, bytes]]:
    """A manifest of this kind, and the files it lists, each of the hash that it says.

    Raises:
        FileNotFoundError: There is no export, or one of its files is missing.
        ValueError: It is of another kind or version, or damaged.
    """
    manifest = read_manifest(directory, kind)
    files = {}
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise FileNotFoundError(f"{name} is missing in {str(directory)!r}. Copy the folder again, or export anew.")
        content = path.read_bytes()
        if (found := file_info(content)) != expected:
            raise ValueError(
                f"{path} is not what was exported: its SHA-256 is {found.sha256[:12]}..., the manifest says {expected.sha256[:12]}.... "
                "Copy the folder again, or export anew."
            )
        files[name] = content
    lacking = {file for info in manifest.programs.values() for file in info.files.values()} - files.keys()
    raise_if_lacking(directory, lacking)
    return manifest, files


def raise_if_lacking(directory: Path, names: Iterable[str]) -> None:
    """Raises ValueError if the manifest speaks of what is not in it."""
    if lacking := sorted(names):
        raise ValueError(f"The manifest in {str(directory)!r} is damaged: it lacks {', '.join(lacking)}. Export anew.")


def _program_info(traced: Traced) -> ProgramInfo:
    program = traced.program
    open_rows = "symbolic" in traced.variants

    def infos(arrays: dict[str, Any]) -> tuple[ArrayInfo, ...]:
        return tuple(
            ArrayInfo(
                name=name,
                shape=("b", *leaf.shape[1:]) if open_rows and name.partition("/")[0] == "batch" else leaf.shape,
                dtype=leaf.dtype.name,
            )
            for name, leaf in arrays.items()
        )

    return ProgramInfo(
        arguments=tuple(program.arguments),
        results=program.results,
        inputs=infos(traced.inputs),
        outputs=infos(traced.outputs),
        files={kind: f"programs/{_file_name(traced, kind)}" for kind in traced.variants},  # type: ignore[misc]
        not_symbolic=traced.not_symbolic,
    )


def _file_name(traced: Traced, kind: str) -> str:
    return f"{traced.program.name}.mlirbc" if kind == "stablehlo" else f"{traced.program.name}.{kind}.jaxexport.gz"


def _packed(kind: str, content: bytes) -> bytes:
    return content if kind == "stablehlo" else gzip.compress(content, mtime=0)


def _stablehlo_version(traced: Traced) -> str:
    found = re.search(rb"StableHLO_v([0-9.]+)", traced.variants["stablehlo"])
    return found[1].decode() if found else ""
