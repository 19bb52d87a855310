"""Central training of the character model on text files: what a federated run starts from.

The work is Keras' own `fit`, an epoch a call, so that every epoch ends in a state from which training can resume.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from fedloom.models import char_gru

from .._files import replacing, write_text
from ._vocabulary import TUTORIAL_VOCAB, encode


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of a central training.

    The texts' last `validation_share` is held out; the rest is cut into windows anew every epoch, at another offset. The learning rate of
    Adam (Kingma and Ba 2015) falls from `learning_rate` to 0 along a half cosine over `epochs`. Training stops early once the validation
    loss has not fallen for `patience` epochs; the weights of the best epoch are kept.
    """

    embedding: int = 256
    units: int = 1024
    dropout: float = 0.25  # before and after the GRU, in [0, 1)
    epochs: int = 20
    batch_size: int = 64
    length: int = 100  # characters per window
    learning_rate: float = 2e-3
    clip_norm: float = 1.0  # global norm of a gradient
    validation_share: float = 0.05  # of each text, its end
    patience: int = 4  # epochs
    seed: int = 0

    def __post_init__(self):
        for name in ("embedding", "units", "epochs", "batch_size", "length", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"PretrainConfig.{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"PretrainConfig.validation_share must lie between 0 and 1, got {self.validation_share}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"PretrainConfig.dropout must be in [0, 1), got {self.dropout}.")


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; losses in nats per character, accuracies as shares of characters."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


def pretrain(
    files: Sequence[str | Path],
    out: str | Path,
    config: PretrainConfig | None = None,
    *,
    on_batch: Callable[[int, int, float], None] = lambda done, total, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Trains the character model on text files and writes it to `out`.

    Killed at any time, the same call goes on after the last whole epoch: its state lies in a folder `<out>.training` until the end.

    Args:
        files: UTF-8 text files.
        out: Where the model goes, as a `.keras` file; its history goes beside it with the suffix `.json`.
        config: Settings.
        on_batch: Called after every batch with (batches done, batches per epoch, mean loss of the epoch so far).
        on_epoch: Called after every epoch.

    Returns:
        The epochs, in order.

    Raises:
        FileNotFoundError: A text file is missing.
        ValueError: A text is not UTF-8 or too short, `out` does not end in `.keras`, or the state found belongs to other settings.
    """
    config = config or PretrainConfig()
    out = Path(out)
    if out.suffix != ".keras":
        raise ValueError(f"`out` must end in .keras, got {str(out)!r}.")
    texts = [encode(_read_text(Path(file))) for file in files]
    train, validation = _split(texts, config)
    training = _Training.open(out, config, files, steps=len(_windows(train, config, epoch=0)[0]) // config.batch_size)
    held_out = _windows(validation, config, epoch=None)

    for epoch in range(len(training.epochs), config.epochs):
        if training.is_over():
            break
        start = time.perf_counter()
        x, y = _windows(train, config, epoch=epoch)
        fitted = training.model.fit(
            x, y, batch_size=config.batch_size, shuffle=False, verbose=0, callbacks=[_Report(on_batch, len(x) // config.batch_size)]
        )
        val_loss, val_accuracy = training.model.evaluate(*held_out, batch_size=config.batch_size, verbose=0)
        loss, accuracy = (fitted.history[name][0] for name in ("loss", "accuracy"))
        training.commit(Epoch(epoch, loss, accuracy, val_loss, val_accuracy, time.perf_counter() - start))
        on_epoch(training.epochs[-1])

    training.finish(out)
    return training.epochs


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be UTF-8 text, but byte {error.start} is not. Convert it first.") from error


def _split(texts: list[np.ndarray], config: PretrainConfig) -> tuple[list[np.ndarray], list[np.ndarray]]:
    cuts = [round(len(text) * (1 - config.validation_share)) for text in texts]
    parts = [t[:cut] for t, cut in zip(texts, cuts, strict=True)], [t[cut:] for t, cut in zip(texts, cuts, strict=True)]
    for part, needed in zip(parts, (config.batch_size, 1), strict=True):
        got = sum(max(0, len(text) - 1) // config.length for text in part)
        if got < needed + 1:
            raise ValueError(
                f"The texts are too short: {needed + 1} windows of {config.length} characters are needed, got {got}. "
                "Give more text, or lower `batch_size` or `length`."
            )
    return parts


def _windows(texts: list[np.ndarray], config: PretrainConfig, *, epoch: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Windows x and their next characters y, each (n, length); for a training epoch shuffled, from a random offset, in full batches."""
    rng = np.random.default_rng((config.seed, epoch)) if epoch is not None else None
    pieces = []
    for text in texts:
        offset = int(rng.integers(config.length)) if rng else 0
        starts = np.arange(offset, len(text) - config.length, config.length)
        pieces.append(text[starts[:, None] + np.arange(config.length + 1)])
    windows = np.concatenate(pieces)
    if rng:
        count = sum(max(0, len(text) - 1) // config.length - 1 for text in texts) // config.batch_size * config.batch_size
        windows = rng.permutation(windows)[:count]
    return windows[:, :-1], windows[:, 1:]


class _Report(keras.callbacks.Callback):
    def __init__(self, on_batch, total):
        super().__init__()
        self.on_batch, self.total = on_batch, total

    def on_train_batch_end(self, batch, logs=None):
        self.on_batch(batch + 1, self.total, float((logs or {}).get("loss", float("nan"))))


class _Training:
    """The model, the epochs so far and their folder. `state.json` is replaced last, so it always names files that are whole."""

    def __init__(self, folder: Path, config: PretrainConfig, made_from: dict, model: keras.Model, epochs: list[Epoch]):
        self.folder, self.config, self.made_from, self.model, self.epochs = folder, config, made_from, model, epochs

    @classmethod
    def open(cls, out: Path, config: PretrainConfig, files: Sequence[str | Path], steps: int) -> _Training:
        folder = out.with_name(out.name + ".training")
        made_from = {"config": asdict(config), "files": [Path(f).name for f in files]}
        keras.utils.set_random_seed(config.seed)
        model = char_gru(len(TUTORIAL_VOCAB), embedding=config.embedding, units=config.units, dropout=config.dropout, fused=True)
        schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, decay_steps=config.epochs * steps)
        model.compile(
            keras.optimizers.Adam(schedule, global_clipnorm=config.clip_norm),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        state = folder / "state.json"
        if not state.exists():
            return cls(folder, config, made_from, model, [])
        saved = json.loads(state.read_text())
        if saved["made_from"] != made_from:
            raise ValueError(
                f"{folder} holds a training with other settings or texts: {saved['made_from']}, now {made_from}. "
                "Remove the folder to start anew, or choose another `out`."
            )
        epochs = [Epoch(**epoch) for epoch in saved["epochs"]]
        with np.load(folder / f"{epochs[-1].epoch}.npz", allow_pickle=False) as arrays:
            model.optimizer.build(model.trainable_variables)
            for variable, name in zip(_variables(model), arrays.files, strict=True):
                variable.assign(arrays[name])
        return cls(folder, config, made_from, model, epochs)

    def is_over(self) -> bool:
        return len(self.epochs) - 1 - self._best() >= self.config.patience if self.epochs else False

    def commit(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / f"{epoch.epoch}.npz") as unfinished:
            np.savez(unfinished, *[np.asarray(v) for v in _variables(self.model)])
        write_text(self.folder / "state.json", json.dumps({"made_from": self.made_from, "epochs": [asdict(e) for e in self.epochs]}))
        for file in self.folder.glob("*.npz"):
            if file.stem not in (str(epoch.epoch), str(self._best())):
                file.unlink()

    def finish(self, out: Path) -> None:
        """Writes the best epoch's weights in Keras' own layers, then removes the folder."""
        with np.load(self.folder / f"{self._best()}.npz", allow_pickle=False) as arrays:
            weights = [arrays[name] for name in arrays.files[: len(self.model.trainable_variables)]]
        model = char_gru(len(TUTORIAL_VOCAB), embedding=self.config.embedding, units=self.config.units)
        model.set_weights(weights)
        with replacing(out) as unfinished:
            model.save(unfinished)
        history = {**self.made_from, "best_epoch": self._best(), "epochs": [asdict(e) for e in self.epochs]}
        write_text(out.with_suffix(".json"), json.dumps(history, indent=1))
        shutil.rmtree(self.folder)

    def _best(self) -> int:
        return min(range(len(self.epochs)), key=lambda i: self.epochs[i].val_loss)


def _variables(model: keras.Model) -> list:
    """Everything that decides how training goes on: weights first, then the optimizer's state and the seeds of dropout."""
    return [*model.trainable_variables, *model.optimizer.variables, *model.non_trainable_variables]
