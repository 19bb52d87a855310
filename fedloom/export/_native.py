"""Client work compiled by IREE: modules that its runtime executes, and a shell script that trains a batch with them.

IREE takes the portable artifacts of fixed batch size; nothing of it is loaded before it is needed.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from ._function import load_function
from ._load import PortableClient, load
from ._manifest import FUNCTION, ArrayInfo, export_format
from ._portable import Group

NATIVE = "native"
SCRIPT = "train_one_batch.sh"
_SAMPLE = "What of federated learning, you ask? "


def compile_native(
    directory: str | Path,
    *,
    target: Literal["cpu"] = "cpu",
    target_cpu: str = "host",
    programs: Iterable[str] | None = None,
    batch: Group | None = None,
    on_program: Callable[[str], None] = lambda name: None,
) -> Path:
    """Compiles an export for IREE's runtime, into its folder `native`.

    Beside a module for each program of a client's work lie the arrays that a client begins with, an array file for each group, and
    `train_one_batch.sh`, which takes a step with `iree-run-module` and prints the loss. Of a federated function there are the modules.

    Args:
        directory: An export, of a client's work or of a federated function.
        target: What to compile for; IREE's llvm-cpu.
        target_cpu: As LLVM knows it, such as "x86-64-v3"; "host" is this processor, and the modules then run on those like it only.
        programs: Which to compile; None takes all.
        batch: What the script trains on, from `PortableClient.batch`. None takes a line of text for a model of text and zeros for others,
            so that nobody's data get into the folder. Other batches can be given to the script.
        on_program: Is told each program's name before it is compiled.

    Returns:
        The folder.

    Raises:
        ImportError: IREE is not installed.
        ValueError: The export is damaged, there is no such program, or IREE cannot compile one.
    """
    if target != "cpu":
        raise ValueError(f'target must be "cpu", got {target!r}.')
    directory = Path(directory)
    exported = load_function(directory) if export_format(directory) == FUNCTION else load(directory)
    names = list(exported.programs if programs is None else programs)
    if unknown := sorted(set(names) - exported.programs.keys()):
        raise ValueError(f"programs must be among {', '.join(exported.programs)}, got {', '.join(unknown)}.")
    folder = directory / NATIVE
    unfinished = folder.with_name(f".{NATIVE}.{uuid.uuid4().hex}")
    unfinished.mkdir()
    try:
        for name in names:
            on_program(name)
            _compile(name, directory / exported.programs[name].info.files["stablehlo"], unfinished / f"{name}.vmfb", target_cpu)
        if isinstance(exported, PortableClient):
            _write_inputs(exported, unfinished, batch)
            _write_script(exported, unfinished, names)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def run_module() -> str:
    """The program that executes compiled modules, without Python: `$IREE_RUN_MODULE`, else that of the extra, else one on the PATH.

    Raises:
        ImportError: There is none.
    """
    try:
        from iree import _runtime_libs  # its script of the same name starts Python first
    except ImportError:
        bundled = None
    else:
        bundled = shutil.which("iree-run-module", path=_runtime_libs.__path__[0])
    found = os.environ.get("IREE_RUN_MODULE") or bundled or shutil.which("iree-run-module")
    if not found:
        raise ImportError('iree-run-module is not there: pip install "fedloom[iree]", or name it in the environment as IREE_RUN_MODULE.')
    return found


def inputs_from(file: str, count: int) -> list[str]:
    """What tells `iree-run-module` to read so many arrays from one file."""
    return _of_file("--input", file, count)


def outputs_to(file: str, count: int) -> list[str]:
    """What tells it to write so many results into one file."""
    return _of_file("--output", file, count)


def write_arrays(path: Path, arrays: Iterable[Any]) -> None:
    """Arrays one after the other in a .npy file, as `iree-run-module` reads and writes them."""
    with path.open("wb") as file:
        for array in arrays:
            np.save(file, np.asarray(array))


def read_arrays(path: Path, count: int) -> list[np.ndarray]:
    """So many arrays from such a file."""
    with path.open("rb") as file:
        return [np.load(file) for _ in range(count)]


def _of_file(flag: str, file: str, count: int) -> list[str]:
    return [f"{flag}={'+' if i else '@'}{file}" for i in range(count)]


def _compile(name: str, source: Path, out: Path, target_cpu: str) -> None:
    try:
        from iree.compiler import tools
    except ImportError as error:
        raise ImportError('Compiling client work needs IREE: pip install "fedloom[iree]".') from error
    options = [f"--iree-llvmcpu-target-cpu={target_cpu}"]
    try:
        tools.compile_file(str(source), input_type="stablehlo", target_backends=["llvm-cpu"], output_file=str(out), extra_args=options)
    except tools.CompilerToolError as error:
        first = next((line for line in str(error).splitlines() if "error:" in line), str(error).partition("\n")[0])
        raise ValueError(f"IREE cannot compile the program {name!r}: {first.strip()}") from error


def _write_inputs(client: PortableClient, folder: Path, batch: Group | None) -> None:
    begins_anew = client.programs.get("init_client")
    client_state = begins_anew(client.weights())[0] if begins_anew else {}
    groups: dict[str, Any] = {name: client.start(name) for name in ("weights", "message", "aggregator_state", "carry", "state")}
    groups |= {"client_state": client_state, "batch": _sample(client) if batch is None else batch}
    groups["key"] = jax.random.key_data(jax.random.key(0))
    for name, group in groups.items():
        arrays = list(group.values()) if isinstance(group, dict) else [group]
        if arrays:
            write_arrays(folder / f"{name}.npy", arrays)


def _sample(client: PortableClient) -> Group:
    """A batch of nobody's data."""
    rows, tokens = client.manifest.batch_size, client.manifest.tokenization
    columns = {}
    for array in client.manifest.batch_columns:
        shape, name = (rows, *array.sizes), array.name.removeprefix("batch/")
        if name in ("sample_weight", "real"):
            columns[name] = np.ones(shape, np.float32)
        elif tokens and name in ("x", "y"):
            ids = [tokens.tokens.index(c) if c in tokens.tokens else tokens.unknown for c in _SAMPLE]
            columns[name] = np.resize(np.roll(ids, -(name == "y")), shape).astype(array.dtype)
        else:
            columns[name] = np.zeros(shape, array.dtype)
    return columns


def _write_script(client: PortableClient, folder: Path, names: list[str]) -> None:
    """If all that it runs is compiled."""
    if {"begin", "finish", *(one.program for one in client.manifest.passes)} <= set(names):
        script = folder / SCRIPT
        script.write_text(_script(client), encoding="utf-8", newline="\n")
        script.chmod(0o755)


def _count(arrays: Iterable[ArrayInfo], group: str) -> int:
    return sum(array.name.partition("/")[0] == group for array in arrays)


def _script(client: PortableClient) -> str:
    """begin, a step of each pass on the batch, finish; metrics come out as text."""
    programs = client.manifest.programs

    def call(name: str, files: dict[str, str]) -> str:
        """A line per group; `files` are those that are not in the folder of the script."""
        info = programs[name]
        lines = [f'"$run" --device=local-task --module="$here/{name}.vmfb" --function=main']
        for group in info.arguments:
            lines += _words(inputs_from(files.get(group, f"$here/{group}.npy"), _count(info.inputs, group)))
        for group in info.results:
            count = _count(info.outputs, group)
            lines += ["--output=- " * count] if group == "metrics" else _words(outputs_to(f"$work/{group}.npy", count))
        return " \\\n  ".join(line.strip() for line in lines if line.strip())

    local = {"local": "$work/local.npy", "batch": "$batch"}
    steps = "\n".join(f"{call(one.program, local)} >&2" for one in client.manifest.passes)
    finish = call("finish", local)
    metrics = " ".join(array.name.removeprefix("metrics/") for array in programs["finish"].outputs if array.name.startswith("metrics/"))
    return f"""#!/bin/sh
# A client's round of one batch, without Python: begin, step, finish of {client.manifest.algorithm}. Prints the metrics before the step.
#   {SCRIPT} [BATCH.npy [FOLDER]]
# BATCH.npy holds the arrays of a batch one after the other, in the order of the manifest; by default it is batch.npy beside this script.
# FOLDER gets what the client sends (value.npy, weight.npy) and where it ended (local.npy). IREE_RUN_MODULE names IREE's runtime.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
run=${{IREE_RUN_MODULE:-iree-run-module}}
batch=${{1:-$here/batch.npy}}
command -v "$run" >/dev/null || {{ echo 'iree-run-module is not on the PATH: name it in IREE_RUN_MODULE' >&2; exit 127; }}
if [ $# -gt 1 ]; then work=$2; mkdir -p "$work"; else work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; fi
{call("begin", {})} >&2
{steps}
{finish} > "$work/metrics.txt"
awk -v names='{metrics}' '
  BEGIN {{ split(names, name, " ") }}
  /=/ {{ i += 1; value = substr($0, index($0, "=") + 1); base = name[i]
        if (sub(/\\/total$/, "", base)) total = value
        else if (sub(/\\/weight$/, "", base)) print base, (value > 0 ? total / value : 0)
        else print base, value }}' "$work/metrics.txt"
"""


def _words(flags: list[str]) -> list[str]:
    return [" ".join(f'"{flag}"' for flag in flags)]
