"""Algorithm: a federated algorithm as pure functions, and what each of them promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ._aggregator import Contribution
from ._metrics import MetricSums
from ._model import Model
from ._types import Batch, Key, ModelWeights, PyTree

ServerState = Any
Message = PyTree
LocalState = PyTree


class ClientOutput(NamedTuple):
    """What a client hands back at the end of its round."""

    contribution: Contribution
    metrics: MetricSums


class ClientWork(NamedTuple):
    """One client's round in three pieces, so that the engine owns the loop: it can pack, pad, time, debug or export it.

    A client without batches goes from `begin` straight to `finish`. The keys of a client and of its steps are distinct.
    """

    begin: Callable[[Message, Key], LocalState]
    step: Callable[[Message, LocalState, Batch, Key], LocalState]
    finish: Callable[[Message, LocalState], ClientOutput]


class Algorithm(NamedTuple):
    """A federated algorithm; all state is passed in and handed back.

    A server state that is a NamedTuple with a field `weights` needs none of the functions that have defaults.
    """

    model: Model
    init: Callable[[ModelWeights], ServerState]
    client: ClientWork
    server_update: Callable[[ServerState, PyTree], ServerState]  # (state, aggregated value)
    broadcast: Callable[[ServerState], Message] = lambda state: state.weights  # what a client is sent
    get_weights: Callable[[ServerState], ModelWeights] = lambda state: state.weights
    set_weights: Callable[[ServerState, ModelWeights], ServerState] = lambda state, weights: state._replace(weights=weights)
