"""`fedloom generate` and `fedloom pretrain`: the character model by itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import tyro

from ._evaluate import model_in


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
    best: bool = False  # of a run, the best model instead of the newest
    json: bool = False  # print one line of JSON
    traceback: bool = False  # show where an error came from

    def run(self) -> None:
        """Generates."""
        from fedloom import models, text

        path = Path(self.model)
        keras_model = models.load(model_in(path, best=self.best) if path.is_dir() else self.model)
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
