"""`fedloom evaluate`: how good a model is, on all held-out data together and client by client."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from fedloom.experiment import TASKS, RunConfig, ShakespeareConfig, TaskEvaluation, assemble, config_of, evaluate_task, read_config

from ._output import say, table

if TYPE_CHECKING:
    import keras

_COUNTS = ("num_examples", "num_batches", "num_tokens")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate the model of a run, or a model file, on held-out clients: all together, each by itself, and fitted to each.

    TARGET is a run folder, whose model is compared with the one that it started from; or a model file or the name of a shipped model, which
    is evaluated on Shakespeare, or on the data of --config.

    Example: fedloom evaluate runs/shakespeare-001 --personalize
    """

    target: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="TARGET")]] = "dickens"  # a run folder, a model file, or a name
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE.toml")] = None  # for a model: whose data to evaluate on
    clients: int | None = None  # held-out clients; 0 takes all; by default as many as the settings say
    best: bool = False  # of a run, the best model instead of the newest
    personalize: bool = False  # also fit the model to each client's training data before testing it there
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None  # keep the table of clients there
    json: bool = False  # print one line of JSON
    traceback: bool = False  # show where an error came from

    def run(self) -> None:
        """Evaluates."""
        config, models = self._models()
        if self.clients is not None:
            config = dataclasses.replace(config, evaluate_clients=self.clients)
        parts = assemble(config)
        console = Console(stderr=True, quiet=self.json)
        with console.status("evaluating"):
            found = evaluate_task(
                parts, {name: model or parts.keras_model for name, model in models.items()}, personalization=self.personalize
            )
        if self.csv is not None:
            with self.csv.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(found.clients[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(found.clients)
        if self.json:
            print(json.dumps({"central": found.central, "clients": found.spread, "personalized": found.personalized}))
        else:
            _print(found, Console())
            if self.csv is not None:
                say(f"written: {self.csv}")

    def _models(self) -> tuple[RunConfig, dict[str, keras.Model | None]]:
        """The settings, and the models by name; None is the one that the settings name."""
        from fedloom import models

        path = Path(self.target)
        if path.is_dir():
            if self.config is not None:
                raise ValueError(f"config must be left out for a run folder, which has its own, got {str(self.config)!r}.")
            return config_of(path), {"start": None, "best" if self.best else "trained": models.load(model_in(path, best=self.best))}
        if self.best:
            raise ValueError(f"best is for run folders, and {self.target!r} is none.")
        config = read_config(self.config, TASKS) if self.config is not None else ShakespeareConfig()
        return config, {"model": models.load(self.target)}


def model_in(run_dir: Path, *, best: bool = False) -> Path:
    """The model file of a run.

    Raises:
        FileNotFoundError: It has none yet.
    """
    path = run_dir / "best" / "model.keras" if best else run_dir / "model.keras"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path.relative_to(run_dir)} in {str(run_dir)!r}: it is no run folder, or the run has not evaluated yet."
        )
    return path


def _print(found: TaskEvaluation, console: Console) -> None:
    names = list(found.central)
    together = table("all examples together", *names)
    for metric in found.central[names[0]]:
        values = [found.central[name][metric] for name in names]
        if all(isinstance(value, int | float) for value in values):
            together.add_row(metric, *(f"{value:,.0f}" if metric in _COUNTS else f"{value:.4f}" for value in values))
    console.print(together)
    each = table(f"each of {len(found.clients)} clients", "mean", "lowest tenth", "median", "highest tenth")
    for key, values in found.spread.items():
        each.add_row(key, *(f"{values[name]:.4f}" for name in ("mean", "lowest_tenth", "median", "highest_tenth")))
    console.print()
    console.print(each)
    if found.personalized:
        console.print()
        _print_personalized(found.personalized, console)


def _print_personalized(found: dict[str, Any], console: Console) -> None:
    number = next(iter(found.values()))["baseline"]["num_clients"]
    fitted = table(f"fitted to each of {number} clients with training data", "before", "after", "gain", "lose")
    for metric, by_name in found.items():
        after = by_name["fine-tuned"]
        share = [f"{after[name]:.0%}" for name in ("share_gaining", "share_losing")]
        fitted.add_row(metric, f"{by_name['baseline']['mean']:.4f}", f"{after['mean']:.4f}", *share)
    console.print(fitted)
