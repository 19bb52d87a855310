"""Compiles the native kernels when a wheel is built or the checkout is installed; `python hatch_build.py` does only that.

A machine without a C++ compiler gets a package without native kernels, which runs on plain JAX: slower, with the same numbers.
`FEDLOOM_NATIVE=require` makes a missing compiler or a failing build an error, `FEDLOOM_NATIVE=skip` leaves the kernels out.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NATIVE = Path("fedloom/kernels/native")
LIBRARY = Path("fedloom/kernels/libkernels.so")
FLAGS = "-std=c++17 -O3 -fPIC -fvisibility=hidden -fno-math-errno -ffp-contract=fast -Wall -Wextra -Wno-psabi -Wno-unused-parameter"

# Best first; the last one runs on every machine of the kind.
INSTRUCTION_SETS = {
    "x86_64": {
        "x86_64_v4_bf16": "-march=x86-64-v4 -mavx512bf16 -mprefer-vector-width=512",
        "x86_64_v4": "-march=x86-64-v4 -mprefer-vector-width=512",
        "x86_64_v3": "-march=x86-64-v3",
        "baseline": "",
    },
    "other": {"baseline": ""},
}


class NoNativeKernels(Exception):
    """Why they cannot be built here."""


def compile_kernels(root: Path) -> Path:
    """Builds the library from its sources; returns where it is.

    Raises:
        NoNativeKernels: There is no compiler, or none that works; the message says more.
    """
    if sys.platform not in ("linux", "darwin"):
        raise NoNativeKernels(f"they are built on Linux and macOS only, and this is {sys.platform}")
    compiler = find_compiler()
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or not spec.submodule_search_locations:
        raise NoNativeKernels("jaxlib, whose headers they need, is not installed")
    headers = Path(spec.submodule_search_locations[0]) / "include"
    machine = platform.machine().lower().replace("amd64", "x86_64")
    sets = {name: flags for name, flags in INSTRUCTION_SETS.get(machine, INSTRUCTION_SETS["other"]).items() if _knows(compiler, flags)}
    library = root / LIBRARY
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder)
        (build / "instruction_sets.h").write_text(f"#define FEDLOOM_INSTRUCTION_SETS(each) {' '.join(f'each({name})' for name in sets)}\n")
        options = [*compiler, *FLAGS.split(), f"-I{build}", f"-I{root / NATIVE}", f"-isystem{headers}"]
        units = [(source, build / f"{source.stem}.o", "") for source in sorted((root / NATIVE).glob("*.cc")) if source.stem != "kernels"]
        units += [
            (root / NATIVE / "kernels.cc", build / f"kernels_{name}.o", f"{flags} -DFEDLOOM_ISA={name}") for name, flags in sets.items()
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda unit: _run([*options, *unit[2].split(), "-c", str(unit[0]), "-o", str(unit[1])]), units))
        unfinished = library.with_suffix(".unfinished")
        _run([*compiler, "-shared", "-pthread", *(str(unit[1]) for unit in units), "-o", str(unfinished)])
        unfinished.replace(library)
    return library


def find_compiler() -> list[str]:
    """The command of a C++ compiler."""
    for candidate in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if candidate and shutil.which(shlex.split(candidate)[0]):
            return shlex.split(candidate)
    raise NoNativeKernels("there is no C++ compiler (c++, g++ or clang++ on PATH, or one named by CXX)")


def _knows(compiler: list[str], flags: str) -> bool:
    """Whether a compiler is new enough for an instruction set."""
    return subprocess.run([*compiler, *flags.split(), "-x", "c++", "-E", os.devnull], capture_output=True, check=False).returncode == 0


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoNativeKernels(f"the compiler failed:\n{shlex.join(command)}\n{done.stderr[-4000:]}")


def _tag() -> str:
    """Any Python 3, this platform: the library knows nothing of Python."""
    return f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, without the build's own requirements
    pass
else:

    class NativeKernels(BuildHookInterface):
        """Adds the library to wheels and editable installs."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict) -> None:
            """Called by hatchling before it gathers files."""
            wish = os.environ.get("FEDLOOM_NATIVE", "try")
            if wish == "skip" or self.target_name != "wheel":
                return
            try:
                library = compile_kernels(Path(self.root))
            except NoNativeKernels as reason:
                if wish == "require":
                    raise
                self.app.display_warning(f"fedloom is built without native kernels: {reason}")
                return
            build_data["artifacts"].append(str(library.relative_to(self.root)))
            build_data["pure_python"] = False
            build_data["tag"] = _tag()


if __name__ == "__main__":
    print(compile_kernels(Path(__file__).parent))
