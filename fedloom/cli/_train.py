"""`fedloom train` and `fedloom resume`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from fedloom.experiment import (
    TASKS,
    Assembled,
    KerasConfig,
    RunConfig,
    ShakespeareConfig,
    TrainResult,
    assemble,
    config_of,
    plan,
    read_config,
    run_task,
    summary,
)
from fedloom.report import Callback, next_run_dir

from ._output import Failed, note, say
from ._plan import show_plan

Progress = Literal["auto", "live", "plain", "json", "quiet"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Watched:
    """How a run is shown, and who else is told of it."""

    progress: Progress = "auto"  # live in a terminal, plain lines elsewhere, json for machines, quiet for warnings alone
    tensorboard: bool = False  # also write for TensorBoard, in the run folder
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None  # also send to Weights & Biases
    mlflow: Annotated[str | None, tyro.conf.arg(metavar="EXPERIMENT")] = None  # also send to MLflow
    json: bool = False  # print the result as one line of JSON, and no progress
    traceback: bool = False  # show where an error came from

    def _shown(self) -> dict[str, Any]:
        from fedloom.report import trackers

        chosen: list[Callback] = [trackers.TensorBoard()] if self.tensorboard else []
        chosen += [trackers.WandB(self.wandb)] if self.wandb else []
        chosen += [trackers.MLflow(self.mlflow)] if self.mlflow else []
        quiet = self.json and self.progress == "auto"
        return {"progress": "quiet" if quiet else self.progress, "callbacks": chosen}

    def _announce(self, text: str) -> None:
        """A line before the run, but none where machines read."""
        if not self.json and self.progress != "json":
            say(text, error=True)

    def _finish(self, result: TrainResult, run_dir: Path) -> None:
        """Prints what the run came to."""
        found = summary(result)
        if self.json:
            print(json.dumps(found))
        else:
            _print_samples(run_dir)
            _print_result(found, run_dir)
        if result.status == "stopped":
            raise Failed(f"The guard stopped the run. Its best model, of round {result.best_round}, is in {run_dir / 'best'}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Train(_Watched):
    run_dir: Path | None = None  # a new folder for the results; by default the next free one in runs
    dry_run: bool = False  # show the plan, with what it will take, after timing a few batches; and run nothing

    def run(self) -> None:
        """Trains."""
        config: RunConfig = self.config  # type: ignore[attr-defined]
        run_dir = self.run_dir or next_run_dir("runs", config.task)
        parts = assemble(config)
        if self.dry_run:
            _dry_run(parts, as_json=self.json)
            return
        self._announce(f"{_what(parts)}; results go to {run_dir}")
        self._finish(run_task(parts, run_dir, **self._shown()), run_dir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainShakespeare(_Train):
    """Train a model on federated data, evaluate it on the way, and keep the result in a run folder.

    TASK is shakespeare (fine-tune a character model on Shakespeare's characters), keras (any Keras model file on data of your own), or a
    .toml file with the settings below, whatever the task. It comes first. `fedloom train keras --help` shows the settings of that task.

    Example: fedloom train shakespeare --rounds 10 --cohort-size 5
    """

    task: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="TASK")]] = "shakespeare"  # shakespeare, keras, or a .toml file
    config: Annotated[ShakespeareConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ShakespeareConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainKeras(_Train):
    """Train a Keras model of your own on federated data of your own, and keep the result in a run folder.

    Example: fedloom train keras --model digits.keras --data visits.csv --client user_id --inputs age weight --label sick
    """

    task: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="TASK")]] = "keras"  # keras, or a .toml file
    config: Annotated[KerasConfig, tyro.conf.arg(name="")]


_COMMANDS: dict[type[RunConfig], type[_Train]] = {ShakespeareConfig: TrainShakespeare, KerasConfig: TrainKeras}


def train_command(args: Sequence[str]) -> type[_Train]:
    """The command for these arguments after `train`, the first of which may be a task or a file; a file's settings become its defaults.

    Raises:
        ValueError: It is neither, or the file's settings are wrong.
        FileNotFoundError: There is no such file.
    """
    first = args[0] if args and not args[0].startswith("-") else next(iter(TASKS))
    if first in TASKS:
        return _COMMANDS[TASKS[first]]
    if not first.endswith(".toml"):
        raise ValueError(f"TASK must be one of {', '.join(TASKS)} or a .toml file, got {first!r}.")
    config = read_config(Path(first), TASKS)
    own = _COMMANDS[type(config)]
    field = dataclasses.field(default_factory=lambda: config)
    kind = Annotated[type(config), tyro.conf.arg(name="")]
    return dataclasses.make_dataclass(
        own.__name__, [("config", kind, field)], bases=(own,), frozen=True, kw_only=True, namespace={"__doc__": own.__doc__}
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resume(_Watched):
    """Go on with a run that was stopped or killed, from its last checkpoint, to the same result as if it had never stopped.

    Example: fedloom resume runs/shakespeare-001
    """

    run_dir: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")]]  # the run's folder
    rounds: int | None = None  # how many it should have in all, if more than was planned
    guard: Literal["warn", "stop", "rollback", "off"] | None = None  # what the guard does from now on
    anywhere: bool = False  # also with other versions or hardware than it was started with; then the last bits may differ

    def run(self) -> None:
        """Goes on."""
        config = config_of(self.run_dir)
        changes: dict[str, Any] = {} if self.rounds is None else {"rounds": self.rounds}
        if self.guard is not None:
            changes["guard"] = dataclasses.replace(config.guard, action=self.guard)
        parts = assemble(dataclasses.replace(config, **changes))
        self._announce(f"Going on in {self.run_dir}: {_what(parts)}")
        self._finish(run_task(parts, self.run_dir, resume="anywhere" if self.anywhere else True, **self._shown()), self.run_dir)


def _what(parts: Assembled) -> str:
    config = parts.config
    return (
        f"{config.algorithm} of {getattr(config, 'model', 'a model')!r} on {len(parts.dataset):,} clients of "
        f"{getattr(config, 'data', config.task)}, "
        f"{len(config.clients) or config.cohort_size} per round, {config.rounds} rounds"
    )


def _dry_run(parts: Assembled, *, as_json: bool) -> None:
    console = Console(stderr=True, quiet=as_json or not sys.stderr.isatty())
    names = ("cohort_size", "rounds", "initial", "evaluate", "evaluate_every")
    with console.status("timing a few batches"):
        found = plan(parts.process, parts.dataset, **{name: parts.train_arguments[name] for name in names})
    if as_json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        show_plan(found, Console())


def _print_samples(run_dir: Path) -> None:
    path = run_dir / "samples.json"
    if not path.exists():
        return
    samples = json.loads(path.read_text(encoding="utf-8"))
    console = Console()
    for sample in [samples[0], *([samples[-1]] if len(samples) > 1 else [])]:
        console.rule(f"text after round {sample['round']}" if sample["round"] else "text before training")
        console.print(sample["text"], highlight=False, markup=False)


def _print_result(found: dict[str, Any], run_dir: Path) -> None:
    Console().rule("result")
    names = [name.removesuffix("_before") for name in found if name.endswith("_before")]
    shown = [name for name in ("accuracy", "loss") if name in names] + [name for name in names if name not in ("accuracy", "loss")]
    changes = [
        f"{name} {found[f'{name}_before']:.4f} -> {found[f'{name}_after']:.4f}" for name in shown if found[f"{name}_after"] is not None
    ]
    if changes:
        say(f"held-out {', '.join(changes)}")
    say(f"model, metrics and report: {run_dir}")
    note(f"open {run_dir / 'report.html'} in a browser")
