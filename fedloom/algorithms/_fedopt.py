"""FedAvg with momentum or an adaptive optimizer on the server.

Papers: Hsu et al. 2019 (arXiv:1909.06335) for FedAvgM; Reddi et al. 2021 (arXiv:2003.00295), Algorithm 2, for the others.
Differs from the latter: the rules are those of `fl.optimizers`, with TFF's defaults; FedAdam and FedYogi correct the bias of their moments,
and FedAdagrad has no momentum (beta_1 = 0). For other betas, or another start of v, give `fedavg` the server optimizer itself.
"""

from __future__ import annotations

from typing import Any

from fedloom import optimizers
from fedloom.core import Algorithm, Model

from ._fedavg import fedavg
from ._training import Schedule
from ._weights import ClientWeight


def fedavgm(
    model: Model,
    client_optimizer: Any = None,
    *,
    server_learning_rate: float = 1.0,
    server_momentum: float = 0.9,
    client_weight: ClientWeight = "num_examples",
    client_schedule: Schedule | None = None,
) -> Algorithm:
    """FedAvgM: v <- server_momentum * v + update; x <- x - server_learning_rate * v.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`.
        client_optimizer: As in `fedavg`.
        server_learning_rate: >= 0. With it and momentum b, the weights go 1 / (1 - b) times as far as FedAvg's in the long run.
        server_momentum: In [0, 1]; 0 is FedAvg.
        client_weight: As in `fedavg`.
        client_schedule: As in `fedavg`.

    Returns:
        An `Algorithm`; hyperparameters `server_optimizer.learning_rate` and `server_optimizer.momentum`.

    Raises:
        ValueError: As in `fedavg`, or a number is out of range.
    """
    server_optimizer = optimizers.sgd(server_learning_rate, server_momentum)
    algorithm = fedavg(model, client_optimizer, server_optimizer, client_weight=client_weight, client_schedule=client_schedule)
    return algorithm._replace(name="fedavgm")


def fedadagrad(
    model: Model,
    client_optimizer: Any = None,
    *,
    server_learning_rate: float,
    server_epsilon: float = 1e-7,
    client_weight: ClientWeight = "num_examples",
    client_schedule: Schedule | None = None,
) -> Algorithm:
    """FedAdagrad: the server optimizer is `fl.optimizers.adagrad`.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`.
        client_optimizer: As in `fedavg`.
        server_learning_rate: eta, >= 0.
        server_epsilon: >= 0; the paper's tau, which stands outside the square root there.
        client_weight: As in `fedavg`.
        client_schedule: As in `fedavg`.

    Returns:
        An `Algorithm`; hyperparameters `server_optimizer.learning_rate` and `server_optimizer.epsilon`.

    Raises:
        ValueError: As in `fedavg`, or a number is out of range.
    """
    server_optimizer = optimizers.adagrad(server_learning_rate, epsilon=server_epsilon)
    algorithm = fedavg(model, client_optimizer, server_optimizer, client_weight=client_weight, client_schedule=client_schedule)
    return algorithm._replace(name="fedadagrad")


def fedadam(
    model: Model,
    client_optimizer: Any = None,
    *,
    server_learning_rate: float,
    server_epsilon: float = 1e-7,
    client_weight: ClientWeight = "num_examples",
    client_schedule: Schedule | None = None,
) -> Algorithm:
    """FedAdam: the server optimizer is `fl.optimizers.adam`, with betas 0.9 and 0.999 where the paper's experiments take 0.9 and 0.99.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`.
        client_optimizer: As in `fedavg`.
        server_learning_rate: eta, >= 0.
        server_epsilon: tau, >= 0. Worth tuning as in the paper: the larger, the less adaptive, and updates are smaller than gradients.
        client_weight: As in `fedavg`.
        client_schedule: As in `fedavg`.

    Returns:
        An `Algorithm`; hyperparameters `server_optimizer.learning_rate` and `server_optimizer.epsilon`.

    Raises:
        ValueError: As in `fedavg`, or a number is out of range.
    """
    server_optimizer = optimizers.adam(server_learning_rate, epsilon=server_epsilon)
    algorithm = fedavg(model, client_optimizer, server_optimizer, client_weight=client_weight, client_schedule=client_schedule)
    return algorithm._replace(name="fedadam")


def fedyogi(
    model: Model,
    client_optimizer: Any = None,
    *,
    server_learning_rate: float,
    server_epsilon: float = 1e-3,
    client_weight: ClientWeight = "num_examples",
    client_schedule: Schedule | None = None,
) -> Algorithm:
    """FedYogi: the server optimizer is `fl.optimizers.yogi`, with betas 0.9 and 0.999 where the paper's experiments take 0.9 and 0.99.

    Args:
        model: Loss and metrics as pure functions of `ModelWeights`.
        client_optimizer: As in `fedavg`.
        server_learning_rate: eta, >= 0.
        server_epsilon: tau, >= 0; see `fedadam`.
        client_weight: As in `fedavg`.
        client_schedule: As in `fedavg`.

    Returns:
        An `Algorithm`; hyperparameters `server_optimizer.learning_rate` and `server_optimizer.epsilon`.

    Raises:
        ValueError: As in `fedavg`, or a number is out of range.
    """
    server_optimizer = optimizers.yogi(server_learning_rate, epsilon=server_epsilon)
    algorithm = fedavg(model, client_optimizer, server_optimizer, client_weight=client_weight, client_schedule=client_schedule)
    return algorithm._replace(name="fedyogi")
