"""The command line: parse, call, print. Exit code 0, 1 for a failed run, 2 for bad input."""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from fedloom.core import ClientFailure
from fedloom.experiment import ShakespeareConfig

from ._data import Data

_BAD_INPUT = (ValueError, TypeError, KeyError, FileNotFoundError, ConnectionError, ClientFailure)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Fine-tune a pre-trained model on federated data, evaluate it on the way, and keep the result in a run folder.

    Example: fedloom train shakespeare --rounds 10 --cohort-size 5
    """

    task: tyro.conf.Positional[Literal["shakespeare"]] = "shakespeare"  # what to train
    config: Annotated[ShakespeareConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ShakespeareConfig)
    run_dir: Path | None = None  # a new folder for the results; by default the next free runs/shakespeare-NNN
    json: bool = False  # print the result as one line of JSON, and no progress
    traceback: bool = False  # show where an error came from

    def run(self) -> None:
        """Trains."""
        from fedloom.experiment import run_shakespeare, summary
        from fedloom.report import next_run_dir

        run_dir = self.run_dir or next_run_dir("runs", self.task)
        if not self.json:
            Console(stderr=True).print(
                f"Fine-tuning {self.config.model!r} on {self.task}; results go to {run_dir}", highlight=False, soft_wrap=True
            )
        result, _ = run_shakespeare(self.config, run_dir=run_dir, progress=not self.json)
        found = summary(result)
        if self.json:
            print(json.dumps(found))
            return
        console = Console()
        for when in ("before", "after"):
            console.rule(f"text {when} fine-tuning")
            console.print((run_dir / f"text-{when}.txt").read_text(encoding="utf-8"), highlight=False, markup=False)
        console.rule("result")
        points = 100 * (found["accuracy_after"] - found["accuracy_before"])
        verdict = "" if points > 0 else "  [bold red]The model became worse than it was: lower the learning rates.[/]"
        console.print(
            f"held-out accuracy {found['accuracy_before']:.4f} -> {found['accuracy_after']:.4f} ({points:+.1f} points), "
            f"loss {found['loss_before']:.4f} -> {found['loss_after']:.4f}{verdict}",
            highlight=False,
            soft_wrap=True,
        )
        console.print(f"model, metrics and curve: {run_dir}", highlight=False, soft_wrap=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generate:
    """Continue a prompt with a character model.

    Example: fedloom generate runs/shakespeare-001 --prompt "To be, or not" --length 400
    """

    model: tyro.conf.Positional[str] = "dickens"  # a run folder, a model file, or the name of a shipped model
    prompt: str = "What of TensorFlow Federated, you ask? "
    length: int = 300  # characters to add
    temperature: float = 0.5  # 0 always takes the likeliest character
    seed: int = 0
    json: bool = False  # print one line of JSON
    traceback: bool = False  # show where an error came from

    def run(self) -> None:
        """Generates."""
        from fedloom import models, text

        path = Path(self.model)
        keras_model = models.load(path / "model.keras" if path.is_dir() else self.model)
        words = text.generate(keras_model, self.prompt, length=self.length, temperature=self.temperature, seed=self.seed)
        print(json.dumps({"text": words}) if self.json else words)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Train the character model centrally on text files; run again after an interruption, it goes on where it was.

    Example: fedloom pretrain tale.txt carol.txt --out dickens.keras
    """

    files: tyro.conf.Positional[tuple[Path, ...]]  # UTF-8 text
    out: Path  # where the model goes, a .keras file
    embedding: int = 256
    units: int = 1024
    dropout: float = 0.25
    epochs: int = 20
    batch_size: int = 64
    length: int = 100  # characters per window
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    validation_share: float = 0.05  # of each text, its end
    patience: int = 4  # epochs without a lower validation loss before stopping
    seed: int = 0
    json: bool = False  # print the history as one line of JSON, and no progress
    traceback: bool = False  # show where an error came from

    def run(self) -> None:
        """Trains."""
        from fedloom.report import batch_bar, plot_curve
        from fedloom.text import PretrainConfig, pretrain

        names = [f.name for f in dataclasses.fields(PretrainConfig)]
        config = PretrainConfig(**{name: getattr(self, name) for name in names})
        if self.json:
            epochs = pretrain(self.files, self.out, config)
            print(json.dumps([dataclasses.asdict(epoch) for epoch in epochs]))
            return
        bar, on_batch = batch_bar("batch")

        def on_epoch(epoch):
            bar.console.print(
                f"epoch {epoch.epoch + 1:>3}/{config.epochs}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}  "
                f"validation loss {epoch.val_loss:.4f}  accuracy {epoch.val_accuracy:.4f}  {epoch.seconds:.0f} s",
                highlight=False,
                soft_wrap=True,
            )

        with bar:
            epochs = pretrain(self.files, self.out, config, on_batch=on_batch, on_epoch=on_epoch)
        rows = [
            {"round": e.epoch + 1, "loss": e.loss, "accuracy": e.accuracy, "eval_loss": e.val_loss, "eval_accuracy": e.val_accuracy}
            for e in epochs
        ]
        plot_curve(rows, self.out.with_suffix(".png"), title=f"pre-training of {self.out.name}", unit="epoch")
        best = min(epochs, key=lambda epoch: epoch.val_loss)
        print(f"{self.out}: validation loss {best.val_loss:.4f}, accuracy {best.val_accuracy:.4f}, from epoch {best.epoch + 1}")


_COMMANDS = {"train": Train, "generate": Generate, "pretrain": Pretrain, "data": Data}


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line with these arguments, by default the process' own, and returns the exit code. Errors are one paragraph."""
    args = list(sys.argv[1:] if args is None else args)
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            _COMMANDS, prog="fedloom", description="Federated learning on Keras 3 and JAX.", args=args
        )
        command.run()
        return 0
    except KeyboardInterrupt:
        print("fedloom: interrupted", file=sys.stderr)
        return 1
    except Exception as error:
        if "--traceback" in args:
            traceback.print_exc()
        message = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
        print(f"fedloom: {message or type(error).__name__}", file=sys.stderr)
        if "--traceback" not in args:
            print("(--traceback shows where this came from)", file=sys.stderr)
        return 2 if isinstance(error, _BAD_INPUT) else 1
