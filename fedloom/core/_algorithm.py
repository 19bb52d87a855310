"""Algorithm: a federated algorithm as pure functions, and what each of them promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import jax

from ._aggregator import Contribution
from ._metrics import MetricSums
from ._model import Model
from ._types import Batch, Key, ModelWeights, PyTree

ServerState = Any
Message = PyTree
LocalState = PyTree
ClientState = PyTree
"""What a client keeps from one of its rounds to the next; `()` for most algorithms."""


class ReadBatches(Protocol):
    """A client's batches, read anew at every call, in the same order."""

    def __call__(self, part: str = "train") -> Iterable[Batch]:
        """The batches of a part of the client's data; only evaluation of personalized models has parts other than "train"."""
        ...


class ClientOutput(NamedTuple):
    """What a client hands back at the end of its round."""

    contribution: Contribution
    metrics: MetricSums
    state: ClientState = ()  # stays with the client


Step = Callable[[Message, LocalState, Batch, Key], LocalState]


def every_batch(read: ReadBatches) -> Iterable[Batch]:
    """All of a client's batches, once."""
    return read()


class Pass(NamedTuple):
    """One of several passes over a client's batches."""

    step: Step
    batches: Callable[[ReadBatches], Iterable[Batch]] = every_batch  # which ones it sees; runs on the host


class ClientWork(NamedTuple):
    """One client's round in three pieces, so that the engine owns the loop: it can pack, pad, time, debug or export it.

    A client without batches goes from `begin` straight to `finish`. The keys of a client and of its steps are distinct.
    """

    begin: Callable[[Message, ClientState, Key], LocalState]
    step: Step | tuple[Pass, ...]  # for every batch; or one pass over the batches after the other
    finish: Callable[[Message, LocalState], ClientOutput]

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The passes over a client's batches, one for most algorithms."""
        return (Pass(self.step),) if callable(self.step) else self.step


class Prelude(NamedTuple):
    """A first exchange within a round, with the same clients: what it finds goes into the message of the round itself."""

    client: ClientWork  # without client state
    update: Callable[[Message, Contribution], Message]  # (message, weighted mean of the contributions, with the total weight)


class Algorithm(NamedTuple):
    """A federated algorithm; all state is passed in and handed back.

    A server state that is a NamedTuple with a field `weights` needs none of the functions that have defaults. What a sweep varies (rates,
    strengths) is an array in the state, in a dict called `hyperparams`: see `hyperparameters`.
    """

    model: Model
    init: Callable[[ModelWeights], ServerState]
    client: ClientWork
    server_update: Callable[[ServerState, Message, Contribution], tuple[ServerState, dict[str, Any]]]
    """(state, message of the round, aggregate with the total weight) -> next state, and numbers to report."""
    broadcast: Callable[[ServerState, jax.Array], Message] = lambda state, round_number: state.weights  # what a client is sent
    init_client: Callable[[ModelWeights], ClientState] = lambda weights: ()  # of a client that takes part for the first time
    get_weights: Callable[[ServerState], ModelWeights] = lambda state: state.weights
    set_weights: Callable[[ServerState, ModelWeights], ServerState] = lambda state, weights: state._replace(weights=weights)
    prelude: Prelude | None = None
    name: str = ""
    personal: Callable[[ServerState, ClientState], ModelWeights] | None = None
    """The weights that a client uses itself, from what it kept; None: everybody uses the server's."""
