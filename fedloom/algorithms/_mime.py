"""Mime and MimeLite: local steps with the state that an optimizer has on the server, so that they mimic centralized training.

Paper: Karimireddy et al. 2020 (arXiv:2008.03606), Algorithm 1, whose symbols are used below. A base optimizer is a pair: U gives the step
from a gradient and the optimizer's state s, V the next state. Clients take steps with U and leave s alone; the server moves s, once a round,
with V and the mean gradient at the weights x that it sent.
Differs from it: means are weighted by client, and a server optimizer may take the place of the plain mean of the y_i.
With care: the name `base_optimizer`, which hyperparameters and saved states go by.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from fedloom import optimizers
from fedloom.core import (
    Algorithm,
    Array,
    Carry,
    ClientOutput,
    ClientWork,
    Contribution,
    MetricSums,
    Model,
    ModelWeights,
    Params,
    Pass,
    Prelude,
    PyTree,
    add_metrics,
    with_hyperparameters,
)

from ._full_gradient import FullGradient, full_gradient_work, no_gradient
from ._training import Schedule, check_schedule, local_step, server_step, start, update_of, LocalState
from ._weights import ClientWeight, resolve_client_weight


class MimeState(NamedTuple):
    weights: ModelWeights  # x
    base_optimizer: PyTree  # s
    server_optimizer: PyTree  # its state


class MimeMessage(NamedTuple):
    weights: ModelWeights  # x
    base_optimizer: PyTree  # s, with the rate of this round
    mean_gradient: Params = ()  # c, the mean of grad f_i(x) over the cohort; Mime only
