"""manifest.json: all that a program must know to run a client's work, and to find out whether the folder is whole.

With care: everything. Readers in other languages depend on it, and a change that they would not understand needs a new `FORMAT_VERSION`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

CLIENT_WORK, FUNCTION = "fedloom client work", "fedloom federated function"  # the formats
LOADERS = {CLIENT_WORK: "load", FUNCTION: "load_function"}
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"

_FileName = Annotated[str, StringConstraints(pattern=r"^(programs/)?[A-Za-z0-9_][A-Za-z0-9_.]*$")]  # nothing outside the folder
_Size = Annotated[int, Field(ge=0)]
Variant = Literal["symbolic", "static", "kernels", "stablehlo"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArrayInfo(_Part):
    """An array that goes into a program or comes out."""

    name: str
    shape: tuple[_Size | Literal["b"], ...]  # "b": the rows of a batch, which come first
    dtype: str

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape; of an array of a batch, that of one row."""
        return tuple(size for size in self.shape[self.name.startswith("batch/") :] if size != "b")


class StoredArray(_Part):
    """An array that a client is given, and where it lies."""

    name: str  # among the inputs of programs
    tensor: str  # in weights.safetensors
    shape: tuple[_Size, ...]
    dtype: str
    model_name: str = ""  # of a trainable weight, in the model: "dense/kernel"


class ProgramInfo(_Part):
    """A program: flat, one argument and one result for each array."""

    arguments: tuple[str, ...]  # groups of arrays that go in, in order; a group may be empty
    results: tuple[str, ...]
    inputs: tuple[ArrayInfo, ...]  # the arrays of all arguments, in order
    outputs: tuple[ArrayInfo, ...]
    files: dict[Variant, _FileName]
    not_symbolic: str = ""  # why it takes one batch size only


class PassInfo(_Part):
    """A pass over the client's batches."""

    program: str
    batches: str  # "every", or the name of the function that chooses them, which does not leave Python


class FileInfo(_Part):
    """What a file must be."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    bytes: _Size


class Tokenization(_Part):
    """How text becomes ids: each character is the place of it in `tokens`, and one that is not among them has the id `unknown`."""

    kind: Literal["characters"] = "characters"
    tokens: tuple[str, ...]
    unknown: int = 0


class FolderManifest(_Part):
    """What is in the folder of any export."""

    format: str
    format_version: Literal[1] = FORMAT_VERSION
    fedloom_version: str
    jax_version: str
    stablehlo_version: str
    platforms: tuple[str, ...]  # on which the variants "symbolic" and "static" run
    programs: dict[str, ProgramInfo]
    files: dict[_FileName, FileInfo]

    def to_json(self) -> str:
        """The content of the file: a line for each entry, and for each that an entry holds by name."""

        def lines(content: dict[str, Any]) -> str:
            return ",\n".join(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items())

        def entry(value: Any) -> str:
            return f"{{\n{lines(value)}\n}}" if isinstance(value, dict) and value else json.dumps(value, ensure_ascii=False)

        content = self.model_dump(mode="json")
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {entry(value)}" for key, value in content.items()) + "\n}\n"


class Manifest(FolderManifest):
    """What is in the folder of a client's work."""

    format: Literal["fedloom client work"] = "fedloom client work"  # type: ignore[assignment]
    algorithm: str
    aggregator: str
    batch_size: Annotated[int, Field(ge=1)]  # of all variants but "symbolic"
    hyperparameters: dict[str, float]  # by name; as arrays they are in the message, under hyperparams
    passes: tuple[PassInfo, ...]
    prelude_passes: tuple[PassInfo, ...] = ()  # of an exchange before the round itself
    start: dict[str, tuple[StoredArray, ...]]  # by group: weights, message, aggregator_state, carry, state
    tokenization: Tokenization | None = None

    @property
    def batch_columns(self) -> tuple[ArrayInfo, ...]:
        """The arrays of a batch, in order."""
        return tuple(array for array in self.programs["evaluate"].inputs if array.name.partition("/")[0] == "batch")


class FunctionManifest(FolderManifest):
    """What is in the folder of a federated function."""

    format: Literal["fedloom federated function"] = "fedloom federated function"  # type: ignore[assignment]
    name: str
    places: dict[str, Literal["server", "clients"]]  # of each argument
    passes: _Size  # over the clients


AnyManifest = TypeVar("AnyManifest", bound=FolderManifest)


def export_format(directory: Path) -> str | None:
    """What kind of export lies there, of whatever version and however damaged the rest of its manifest may be; None if there is none."""
    path = directory / MANIFEST
    content = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return next((one for one in LOADERS if f'"{one}"' in content), None)


def read_manifest(directory: Path, kind: type[AnyManifest]) -> AnyManifest:
    """The manifest of an export of this kind.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is that of another kind or version, or damaged.
    """
    expected = kind.model_fields["format"].default
    path = directory / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {MANIFEST} in {str(directory)!r}, so it holds no export. Make one with fl.export.client_work."
        )
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}. Copy the folder again, or export anew.") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != expected:
        hint = f" Load it with fl.export.{LOADERS[found]}." if found in LOADERS else ""
        raise ValueError(f"{path} is not the manifest of such an export: its `format` must be {expected!r}, got {found!r}.{hint}")
    if (version := content.get("format_version")) != FORMAT_VERSION:
        raise ValueError(
            f"{path} has the format version {version!r}, written by fedloom {content.get('fedloom_version')}; this fedloom reads version "
            f"{FORMAT_VERSION}. Load it with that fedloom, or export anew with this one."
        )
    try:
        return kind.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path} is damaged: {where}: {first['msg']}. Copy the folder again, or export anew.") from error


def file_info(content: bytes) -> FileInfo:
    """What a file of this content must be."""
    return FileInfo(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
