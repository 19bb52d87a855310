"""A round's clients, from whatever form users give them in, as streams of checked batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fedloom.core import Batch, ClientFailure
from fedloom.data import Batching, as_batch


class Client(NamedTuple):
    """A client of a cohort. `batches` starts reading only when called."""

    name: str
    batches: Callable[[], Iterable[Batch]]


Cohort = Iterable[Client]


def prepare(clients: Any, batching: Batching, *, seed: int, round_number: int, check: Callable[[Batch], None]) -> list[Client]:
    """A cohort from a mapping of names, or an iterable, of examples by column or of iterables of batches.

    Args:
        clients: E.g. {"ada": {"x": ..., "y": ...}}, a `FederatedDataset`, or a list of lists of (x, y).
        batching: How examples by column become batches; batches are taken as they are.
        seed: Of the process; decides shuffling.
        round_number: From 0.
        check: Raises ValueError on a batch that the model cannot take.

    Raises:
        TypeError: `clients` is neither a mapping nor an iterable.
    """
    if isinstance(clients, Mapping):
        names, read = list(clients), clients.__getitem__
    elif isinstance(clients, Iterable) and not isinstance(clients, str | bytes):
        listed = list(clients)
        names, read = [str(i) for i in range(len(listed))], lambda name: listed[int(name)]
    else:
        raise TypeError(f"clients must be a mapping from id to data, or a list of data, got {type(clients).__name__}.")

    def client(name: str) -> Client:
        def batches() -> Iterator[Batch]:
            try:
                data = read(name)
                examples = isinstance(data, Mapping)
                raw = batching.batches(data, client=str(name), seed=seed, round_number=round_number) if examples else map(as_batch, data)
                for batch in raw:
                    check(batch)
                    yield batch
            except Exception as error:
                raise ClientFailure(str(name), round_number, "data", error) from error

        return Client(str(name), batches)

    return [client(name) for name in names]
