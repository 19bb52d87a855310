"""Tasks: what can be run from settings alone, without Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fedloom.report import Callback, RunInfo

from ._assemble import Assembled
from ._config import RunConfig, read_config, write_config
from ._keras_task import KerasConfig, assemble_keras
from ._shakespeare import ShakespeareConfig, assemble_shakespeare
from ._train import TrainResult, train

TASKS: dict[str, type[RunConfig]] = {"shakespeare": ShakespeareConfig, "keras": KerasConfig}
CONFIG_FILE = "config.toml"  # in a run folder


def assemble(config: RunConfig) -> Assembled:
    """All that a run of these settings needs.

    Raises:
        ValueError: A setting does not fit the data or the model.
        FileNotFoundError: There is no such model or data.
    """
    if isinstance(config, ShakespeareConfig):
        return assemble_shakespeare(config)
    if isinstance(config, KerasConfig):
        return assemble_keras(config)
    raise TypeError(f"config must be that of a task, one of {', '.join(TASKS)}, got {type(config).__name__}.")


def run_task(parts: Assembled, run_dir: Path, *, resume: bool | Literal["anywhere"] = False, **shown: Any) -> TrainResult:
    """A run of assembled settings, with `config.toml` in its folder, from which it can be resumed and repeated.

    Args:
        parts: From `assemble`.
        run_dir: As in `train`.
        resume: As in `train`.
        shown: `progress` and `callbacks` of `train`.
    """
    callbacks = (_KeepConfig(parts.config), *parts.callbacks, *shown.pop("callbacks", ()))
    # The process tells of privacy and algorithm what came of these settings.
    settings = {name: value for name, value in vars(parts.config).items() if name not in ("privacy", "algorithm")}
    noise = {name: getattr(parts.config.privacy, name) for name in ("noise_multiplier", "clip")} if parts.process.privacy else {}
    return train(
        parts.process,
        parts.dataset,
        run_dir=run_dir,
        resume=resume,
        config={"task": parts.config.task, **settings, **noise},
        callbacks=callbacks,
        **parts.train_arguments,
        **shown,
    )


def config_of(run_dir: Path) -> RunConfig:
    """The settings of the run in a folder.

    Raises:
        FileNotFoundError: There is no run of a task in it.
        ValueError: Its settings cannot be read.
    """
    path = run_dir / CONFIG_FILE
    if not path.is_file():
        what = "was started from Python: go on with it there, by fl.train(..., resume=True)" if (run_dir / "config.json").is_file() else ""
        raise FileNotFoundError(f"There is no {CONFIG_FILE} in {str(run_dir)!r}, so it {what or 'is not the folder of a run'}.")
    return read_config(path, TASKS)


class _KeepConfig(Callback):
    """Writes the settings before anything else."""

    def __init__(self, config: RunConfig):
        self._config = config

    def on_start(self, run: RunInfo) -> None:
        if run.run_dir:
            write_config(self._config, run.run_dir / CONFIG_FILE)


def summary(result: TrainResult) -> dict[str, Any]:
    """What a run came to, for a machine: held-out metrics before and after."""
    first, last = result.history[0], result.history[-1]
    names = [name.removeprefix("eval_") for name in first if name.startswith("eval_") and not name.startswith("eval_num_")]
    return {
        "run_dir": str(result.run_dir),
        "status": result.status,
        "rounds": last["round"],
        "best_round": result.best_round,
        **{f"{name}_before": first[f"eval_{name}"] for name in names},
        **{f"{name}_after": last.get(f"eval_{name}") for name in names},
    }
