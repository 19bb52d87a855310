"""`fedloom export`: a run's client work as programs that need no Python."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from fedloom.experiment import TASKS, RunConfig, ShakespeareConfig, assemble, config_of, read_config
from fedloom.report import bytes_text

from ._evaluate import model_in
from ._output import say, table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write what a client does as programs that run without Python: StableHLO for CPU, CUDA and TPU, a manifest, and the weights.

    TARGET is a run folder; or a model file or the name of a shipped model, with the settings of --config, or the default ones.

    Example: fedloom export runs/shakespeare-001 --native cpu
    """

    target: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="TARGET")]]  # a run folder, a model file, or a name
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None  # where it goes; by default `export` in the run folder
    native: Literal["cpu"] | None = None  # also compile for IREE's runtime, with a script that trains one batch
    target_cpu: str = "host"  # of --native, as LLVM knows it: x86-64-v3, say; host is this processor
    batch_size: int | None = None  # of the programs of fixed shape; by default that of the settings
    best: bool = False  # of a run, the best model instead of the newest
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE.toml")] = None  # for a model: the settings it is to be trained with
    json: bool = False  # print one line of JSON
    traceback: bool = False  # show where an error came from

    def run(self) -> None:
        """Exports."""
        from fedloom import export, models

        run_module = export.run_module() if self.native else ""  # a missing extra shows before anything is computed
        config, model = self._settings()
        out = self._folder()
        console = Console(stderr=True, quiet=self.json)
        with console.status("reading the data and the model") as status:
            parts = assemble(config)
            state = parts.process.initialize(models.load(model) if model is not None else parts.keras_model)
            status.update("exporting")
            began = time.perf_counter()
            manifest = export.client_work(parts.process, out, state=state, clients=parts.dataset, batch_size=self.batch_size)
            exported = time.perf_counter()
            if self.native:

                def show(name: str) -> None:
                    status.update(f"compiling {name}")

                export.compile_native(out, target=self.native, target_cpu=self.target_cpu, on_program=show)
            compiled = time.perf_counter()
        found: dict[str, Any] = {
            "directory": str(out),
            "algorithm": manifest.algorithm,
            "batch_size": manifest.batch_size,
            "seconds": exported - began,
            "bytes": _bytes_of(out, manifest.files),
            "not_symbolic": {name: info.not_symbolic for name, info in manifest.programs.items() if info.not_symbolic},
        }
        if self.native:
            found["native"] = {
                "directory": str(out / "native"),
                "seconds": compiled - exported,
                "bytes": {path.name: path.stat().st_size for path in sorted((out / "native").glob("*.vmfb"))},
                "run_module": run_module,
            }
        if self.json:
            print(json.dumps(found))
        else:
            _print(found, Console())

    def _settings(self) -> tuple[RunConfig, Path | None]:
        """The settings, and the model file if it is not the one that they name."""
        path = Path(self.target)
        if path.is_dir():
            if self.config is not None:
                raise ValueError(f"config must be left out for a run folder, which has its own, got {str(self.config)!r}.")
            return config_of(path), model_in(path, best=self.best)
        if self.best:
            raise ValueError(f"best is for run folders, and {self.target!r} is none.")
        config = read_config(self.config, TASKS) if self.config is not None else ShakespeareConfig()
        return dataclasses.replace(config, **{"model": self.target}), None

    def _folder(self) -> Path:
        if self.out is not None:
            return self.out
        if not Path(self.target).is_dir():
            raise ValueError(f"out must name the folder to write for a model, got none for {self.target!r}. Add --out FOLDER.")
        return Path(self.target) / "export"


def _bytes_of(out: Path, files: dict[str, Any]) -> dict[str, int]:
    weights = files["weights.safetensors"].bytes
    programs = sum(info.bytes for info in files.values()) - weights
    return {"weights": weights, "programs": programs, "manifest": (out / "manifest.json").stat().st_size}


def _print(found: dict[str, Any], console: Console) -> None:
    sizes = table("", "size")
    for name, size in found["bytes"].items():
        sizes.add_row(name, bytes_text(size))
    for name, size in found.get("native", {}).get("bytes", {}).items():
        sizes.add_row(f"native/{name}", bytes_text(size))
    console.print(sizes)
    for name, why in found["not_symbolic"].items():
        say(f"{name} takes batches of {found['batch_size']} rows only: {why}")
    say(f"written in {found['seconds']:.1f} s: {found['directory']}")
    if "native" in found:
        native = found["native"]
        say(f"compiled in {native['seconds']:.1f} s; train one batch, without Python, with")
        say(f"  IREE_RUN_MODULE={native['run_module']} sh {native['directory']}/train_one_batch.sh")
