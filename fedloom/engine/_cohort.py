"""A round's clients, from whatever form users give them in, as streams of checked batches."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fedloom.core import Batch, ClientFailure, Kept, ReadBatches
from fedloom.data import Batching, Examples, as_batch, pooled_batches


class Client(NamedTuple):
    """A client of a cohort. Nothing is read before it is called for."""

    name: str
    batches: ReadBatches
    kept: Callable[[], Kept] = Kept  # what it kept from its last round


Cohort = Iterable[Client]


def prepare(
    clients: Any,
    batching: Batching | None,
    *,
    seed: int,
    round_number: int,
    check: Callable[[Batch], None],
    rereads: bool = False,
) -> list[Client]:
    """A cohort from a mapping of names, or an iterable, of examples by column or of iterables of batches.

    Args:
        clients: E.g. {"ada": {"x": ..., "y": ...}}, a `FederatedDataset`, or a list of lists of (x, y).
        batching: How examples by column become batches; batches are taken as they are.
        seed: Of the process; decides shuffling.
        round_number: From 0.
        check: Raises ValueError on a batch that the model cannot take.
        rereads: Whether the work reads a client's batches more than once; those of an iterator are then kept in memory.

    Raises:
        TypeError: `clients` is neither a mapping nor an iterable.
    """
    return _prepare(*_by_name(clients), batching, seed, round_number, check, rereads)


def _prepare(
    names: list,
    read: Callable[[Any], Any],
    batching: Batching | None,
    seed: int,
    round_number: int,
    check: Callable[[Batch], None],
    rereads: bool,
) -> list[Client]:
    replayed: dict[Any, list] = {}

    def batches(name: Any, part: str = "train") -> Iterator[Batch]:
        with _blaming(str(name), round_number):
            data = replayed[name] if name in replayed else read(name)
            if rereads and isinstance(data, Iterator):
                data = replayed[name] = list(data)
            if not isinstance(data, Mapping):
                raw = map(as_batch, data)
            elif batching is not None:
                raw = batching.batches(data, client=str(name), seed=seed, round_number=round_number)
            else:
                raise ValueError("Examples by column need `batching`: LearningProcess(..., batching=fl.data.Batching(size=8)).")
            for batch in raw:
                check(batch)
                yield batch

    return [Client(str(name), functools.partial(batches, name)) for name in names]


def pair(train: list[Client], test: list[Client]) -> list[Client]:
    """Clients whose batches are in two parts, "train" and "test", from cohorts of the same ids; in the order of `test`.

    Raises:
        ValueError: An id is in one cohort only.
    """
    train_of = {client.name: client.batches for client in train}
    unpaired = {
        "train_clients": train_of.keys() - {client.name for client in test},
        "test_clients": {c.name for c in test} - train_of.keys(),
    }
    for where, ids in unpaired.items():
        if ids:
            raise ValueError(
                f"Every client must be in both train_clients and test_clients, got {len(ids)} in {where} only: {', '.join(sorted(ids)[:3])}"
                f"{', ...' if len(ids) > 3 else ''}. Leave them out with dataset.subset(ids), or give them a part without examples."
            )

    def batches(client: Client, part: str = "train") -> Iterable[Batch]:
        return train_of[client.name]() if part == "train" else client.batches()

    return [client._replace(batches=functools.partial(batches, client)) for client in test]


def pool(clients: Any, size: int, *, round_number: int, check: Callable[[Batch], None]) -> list[Client]:
    """All clients as one that holds everybody's examples, so that small clients fill whole batches; sums over examples are the same.

    Clients given as iterables of batches stay as they are. Arguments as in `prepare`.
    """
    names, read = _by_name(clients)
    if not names:
        return []
    with _blaming(str(names[0]), round_number):
        first = read(names[0])
    if not isinstance(first, Mapping):
        return _prepare(names, read, None, 0, round_number, check, False)

    def examples() -> Iterator[tuple[str, Examples]]:
        yield str(names[0]), first
        for name in names[1:]:
            with _blaming(str(name), round_number):
                data = read(name)
            yield str(name), data

    def batches(part: str = "train") -> Iterator[Batch]:
        with _blaming("(all)", round_number):
            for batch in pooled_batches(examples(), size):
                check(batch)
                yield batch

    return [Client("(all)", batches)]


def _by_name(clients: Any) -> tuple[list, Callable[[Any], Any]]:
    if isinstance(clients, Mapping):
        return list(clients), clients.__getitem__
    if isinstance(clients, Iterable) and not isinstance(clients, str | bytes):
        listed = list(clients)
        return list(range(len(listed))), listed.__getitem__
    raise TypeError(f"clients must be a mapping from id to data, or a list of data, got {type(clients).__name__}.")


@contextlib.contextmanager
def _blaming(client: str, round_number: int) -> Iterator[None]:
    """Names the client in whatever goes wrong while its data is read."""
    try:
        yield
    except ClientFailure:
        raise
    except Exception as error:
        raise ClientFailure(client, round_number, "data", error) from error
