"""From settings that every task has to a process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optax

from fedloom import algorithms, privacy
from fedloom.aggregators import dp_gaussian_fixed
from fedloom.core import Algorithm, Model
from fedloom.data import Batching, FederatedDataset, fixed
from fedloom.report import Callback

from ._config import RunConfig
from ._process import LearningProcess

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
class Assembled:
    """All that a run of some settings needs."""

    config: RunConfig
    keras_model: keras.Model  # with the weights that the run starts from
    process: LearningProcess
    dataset: FederatedDataset  # the clients to draw from, prepared
    held_out: FederatedDataset
    callbacks: tuple[Callback, ...] = ()  # the task's own

    @property
    def train_arguments(self) -> dict[str, Any]:
        """What `train` is to be called with, besides the process, the data, the folder and the way to show progress."""
        config = self.config
        return {
            "cohort_size": len(config.clients) or config.cohort_size,
            "rounds": config.rounds,
            "initial": self.keras_model,
            "sampling": fixed(config.clients) if config.clients else config.sampling,
            "evaluate": self.held_out,
            "evaluate_every": config.evaluate_every,
            "best_by": config.best_by,
            "guard": config.guard,
            "failures": config.failures,
            "checkpoints": config.checkpoints,
        }


def make_process(config: RunConfig, model: Model, dataset: FederatedDataset) -> LearningProcess:
    """The process that these settings describe.

    Raises:
        ValueError: The privacy asked for does not go with the sampling or the number of clients.
    """
    batching = Batching(
        size=config.batch_size,
        epochs=config.epochs,
        max_batches=config.max_batches or None,
        remainder=config.remainder,
        shuffle=config.shuffle,
    )
    private: dict[str, Any] = {}
    if config.privacy.noise_multiplier:
        aggregator = dp_gaussian_fixed(config.privacy.noise_multiplier, config.cohort_size, config.privacy.clip)
        private = {"aggregator": aggregator, "privacy": _budget(config, len(dataset))}
    return LearningProcess(
        _algorithm(config, model),
        batching=batching,
        executor=config.executor,
        seed=config.seed,
        client_metrics=config.client_metrics,
        **private,
    )


def choose_clients(config: RunConfig, train_set: FederatedDataset, held_out: FederatedDataset) -> tuple[FederatedDataset, FederatedDataset]:
    """Those to draw from, and those to evaluate on."""
    train_set = train_set.subset(config.clients) if config.clients else train_set.filter_sizes(at_least=config.min_examples)
    held_out = held_out.filter_sizes(at_least=1)
    if 0 < config.evaluate_clients < len(held_out):
        held_out = held_out.sample(config.evaluate_clients, seed=config.seed)
    return train_set, held_out


def client_optimizer(config: RunConfig) -> optax.GradientTransformation:
    """What clients train with."""
    return _OPTIMIZERS[config.client_optimizer](config.client_learning_rate)


def _algorithm(config: RunConfig, model: Model) -> Algorithm:
    client = client_optimizer(config)
    server = _OPTIMIZERS[config.server_optimizer](config.server_learning_rate)
    weight: dict[str, Any] = {"client_weight": config.client_weight}
    match config.algorithm:
        case "fedavg":
            return algorithms.fedavg(model, client, server, **weight)
        case "fedprox":
            return algorithms.fedprox(model, client, server, proximal_strength=config.proximal_strength, **weight)
        case "fedsgd":
            return algorithms.fedsgd(model, server, **weight)
        case "mimelite":
            return algorithms.mimelite(model, client, server, **weight)


def _budget(config: RunConfig, population: int) -> privacy.Budget:
    known = {"poisson": privacy.Poisson, "uniform": privacy.FixedSize}
    if config.sampling not in known or config.clients:
        drawn = "clients are named" if config.clients else f"sampling is {config.sampling!r}"
        raise ValueError(f'privacy needs sampling="poisson" or "uniform", for which there is an accountant, but {drawn}.')
    sampling = known[config.sampling](config.cohort_size, population)
    delta = config.privacy.delta or 0.1 / population
    spent = config.privacy.epsilon
    if spent is None:
        # A hair more than all rounds need, so that rounding does not refuse the last one.
        spent = privacy.epsilon(sampling, config.privacy.noise_multiplier, config.rounds, delta) * (1 + 1e-9)
    return privacy.Budget(epsilon=spent, delta=delta, sampling=sampling)
