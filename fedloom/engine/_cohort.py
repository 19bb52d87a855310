"""A round's clients, from whatever form users give them in, as streams of checked batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fedloom.core import Batch, ClientFailure, Kept, ReadBatches
from fedloom.data import Batching, ClientBatches, Examples, FederatedDataset, as_batch, pooled_batches


class Client(NamedTuple):
    """A client of a cohort. Nothing is read before it is called for."""

    name: str
    batches: ReadBatches
    kept: Callable[[], Kept] = Kept  # what it kept from its last round
    plan: Callable[[], ClientBatches | Iterable[Batch]] | None = None
    """The batches of "train" in the form that is quickest to read: not copied yet, if they are made of examples by column."""
    check: Callable[[Batch], None] = lambda batch: None  # raises on what `plan` gave, all batches of the client at once


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
    read: Callable[[Any], tuple[Any, np.ndarray | None]],
    batching: Batching | None,
    seed: int,
    round_number: int,
    check: Callable[[Batch], None],
    rereads: bool,
) -> list[Client]:
    replayed: dict[Any, tuple[list, None]] = {}

    def plan(name: Any) -> ClientBatches | Iterator[Batch]:
        with _Blaming(str(name), round_number):
            data, rows = replayed[name] if name in replayed else read(name)
            if not isinstance(data, Mapping):
                if rereads and isinstance(data, Iterator):
                    data = list(data)
                    replayed[name] = data, None
                return checked(name, map(as_batch, data))
            if batching is None:
                raise ValueError("Examples by column need `batching`: LearningProcess(..., batching=fl.data.Batching(size=8)).")
            return batching.plan(data, rows, client=str(name), seed=seed, round_number=round_number)

    def checked(name: Any, raw: Iterable[Batch]) -> Iterator[Batch]:
        with _Blaming(str(name), round_number):
            for batch in raw:
                check(batch)
                yield batch

    def batches(name: Any, part: str = "train") -> Iterable[Batch]:
        planned = plan(name)
        return checked(name, planned) if isinstance(planned, ClientBatches) else planned

    def checked_at_once(name: Any, batch: Batch) -> None:
        with _Blaming(str(name), round_number):
            check(batch)

    of = functools.partial
    return [Client(str(name), of(batches, name), plan=of(plan, name), check=of(checked_at_once, name)) for name in names]


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

    return [client._replace(batches=functools.partial(batches, client), plan=None) for client in test]


def pool(clients: Any, size: int, *, round_number: int, check: Callable[[Batch], None]) -> list[Client]:
    """All clients as one that holds everybody's examples, so that small clients fill whole batches; sums over examples are the same.

    Clients given as iterables of batches stay as they are. Arguments as in `prepare`.
    """
    names, read = _by_name(clients)
    if not names:
        return []
    with _Blaming(str(names[0]), round_number):
        first, own = read(names[0])
    if not isinstance(first, Mapping):
        return _prepare(names, read, None, 0, round_number, check, False)

    def examples() -> Iterator[tuple[str, Examples]]:
        for i, name in enumerate(names):
            with _Blaming(str(name), round_number):
                data, rows = read(name) if i else (first, own)
                columns = data if rows is None else {column: values[rows] for column, values in data.items()}
            yield str(name), columns

    def batches(part: str = "train") -> Iterator[Batch]:
        with _Blaming("(all)", round_number):
            for batch in pooled_batches(examples(), size):
                try:
                    check(batch)
                except ValueError:
                    blame_one()
                    raise
                yield batch

    def blame_one() -> None:
        """Raises for the first client whose own examples the model cannot take."""
        for name, columns in examples():
            with _Blaming(name, round_number):
                for batch in pooled_batches([(name, columns)], size):
                    check(batch)

    return [Client("(all)", batches)]


def _by_name(clients: Any) -> tuple[list, Callable[[Any], tuple[Any, np.ndarray | None]]]:
    """Names, and what reads one: its data, and which rows of them are its own if they are examples by column; None for all."""
    if isinstance(clients, FederatedDataset):
        return list(clients), clients.rows
    if isinstance(clients, Mapping):
        return list(clients), lambda name: (clients[name], None)
    if isinstance(clients, Iterable) and not isinstance(clients, str | bytes):
        listed = list(clients)
        return list(range(len(listed))), lambda name: (listed[name], None)
    raise TypeError(f"clients must be a mapping from id to data, or a list of data, got {type(clients).__name__}.")


class _Blaming:
    """Names the client in whatever goes wrong while its data is read; as a class, it costs a tenth of what `contextmanager` does."""

    def __init__(self, client: str, round_number: int):
        self._client, self._round_number = client, round_number

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, ClientFailure):
            raise ClientFailure(self._client, self._round_number, "data", error) from error
