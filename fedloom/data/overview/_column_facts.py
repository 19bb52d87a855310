"""What is known of a column: its types, the shape of an example, its range, put together client by client.

Free to change: what is asked of a column. With care: that no column whatever makes it fail.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ._shorten import spread

Unit = Literal["", "characters", "bytes", "mixed"]
Shape = tuple[int | None, ...]

_LENGTHS: tuple[tuple[type, Unit], ...] = ((str, "characters"), (bytes, "bytes"))


@dataclass(frozen=True)
class Column:
    """A column, as the clients have it that were read and are not empty.

    `types` are dtypes, for objects the types of what they are; more than one if clients or examples differ. `shape` is that of one
    example, None in it where examples differ, and None itself if they differ in rank. `low` and `high` are the range of its
    values, for text and bytes of their lengths, as `unit` says; None if there is none, or types are mixed. `missing` counts NaN,
    NaT and None; `clients` those that have the column.
    """

    name: str
    types: tuple[str, ...]
    shape: Shape | None
    low: Any = None
    high: Any = None
    unit: Unit = ""
    missing: int = 0
    clients: int = 1


class ColumnReader:
    """Puts together what is known of each column. Empty clients say nothing, unless all are: `np.asarray([])` is of floats."""

    def __init__(self):
        self.examples = 0
        self._columns: dict[str, Column] = {}
        self._empty: dict[str, Column] = {}
        self._not_empty = 0
        self._unequal: str | None = None

    def add(self, client_id: str, columns: Mapping[str, np.ndarray]) -> None:
        """Looks at one client's columns."""
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1 and not self._unequal:
            self._unequal = f"The columns of client {client_id!r} differ in length: {lengths}."
        length = max(lengths.values(), default=0)
        self.examples += length
        self._not_empty += length > 0
        into = self._columns if length else self._empty
        for name, values in columns.items():
            seen = column_facts(name, values)
            into[name] = _merge(into[name], seen) if name in into else seen

    def result(self) -> tuple[tuple[Column, ...], list[str]]:
        """The columns in the order in which they were met, and what is odd about them."""
        found = tuple((self._columns or self._empty).values())
        odd = [self._unequal] if self._unequal else []
        for column in found if self._not_empty else ():
            if column.clients < self._not_empty:
                odd.append(f"Column {column.name!r} is missing in {self._not_empty - column.clients:,} of {self._not_empty:,} clients.")
        return found, odd


def column_facts(name: str, values: np.ndarray) -> Column:
    """One client's column, shape (n, ...)."""
    facts = Column(name, (str(values.dtype),), values.shape[1:])
    if values.dtype.kind in "OSTU":
        return _of_objects(facts, values.astype(object).reshape(-1).tolist())
    missing = np.isnan(values) if values.dtype.kind in "fc" else np.isnat(values) if values.dtype.kind in "mM" else np.zeros(0)
    return _with_range(replace(facts, missing=int(np.count_nonzero(missing))), spread(values))


def _of_objects(facts: Column, entries: list[Any]) -> Column:
    known = [entry for entry in entries if not _is_missing(entry)]
    facts = replace(facts, missing=len(entries) - len(known))
    if not known:
        return facts
    for kind, unit in _LENGTHS:
        if all(isinstance(entry, kind) for entry in known):
            lengths = np.array([len(entry) for entry in known])
            return _with_range(replace(facts, types=(kind.__name__,)), spread(lengths), unit)
    types = {str(entry.dtype) if isinstance(entry, np.ndarray) else type(entry).__name__ for entry in known}
    facts = replace(facts, types=tuple(sorted(types)))
    if all(isinstance(entry, np.ndarray) for entry in known):
        inner = functools.reduce(_merge_shapes, (entry.shape for entry in known))
        facts = replace(facts, shape=None if inner is None else (*(facts.shape or ()), *inner))
        kinds = {entry.dtype.kind for entry in known}
        if kinds <= set("biuf") or kinds in ({"m"}, {"M"}):
            return _with_range(facts, spread(np.concatenate([entry.reshape(-1) for entry in known])))
    if all(_is_number(entry) for entry in known):
        return _with_range(facts, (min(known), max(known)))
    return replace(facts, unit="mixed")


def _with_range(facts: Column, found: tuple[Any, Any] | None, unit: Unit = "") -> Column:
    low, high = found or (None, None)
    return replace(facts, low=low, high=high, unit=unit)


def _is_missing(entry: object) -> bool:
    if isinstance(entry, np.datetime64 | np.timedelta64):
        return bool(np.isnat(entry))
    return entry is None or (isinstance(entry, float) and entry != entry)


def _is_number(entry: object) -> bool:
    return isinstance(entry, float) or (isinstance(entry, int) and entry.bit_length() <= 64)


def _merge(one: Column, other: Column) -> Column:
    if "mixed" in (one.unit, other.unit):
        merged = replace(one, low=None, high=None, unit="mixed")
    elif one.low is None or other.low is None:
        known = other if one.low is None else one
        merged = replace(one, low=known.low, high=known.high, unit=known.unit)
    elif one.unit != other.unit or _order(one.low) != _order(other.low):
        merged = replace(one, low=None, high=None, unit="mixed")
    else:
        merged = replace(one, low=min(one.low, other.low), high=max(one.high, other.high))
    return replace(
        merged,
        types=tuple(sorted({*one.types, *other.types})),
        shape=_merge_shapes(one.shape, other.shape),
        missing=one.missing + other.missing,
        clients=one.clients + other.clients,
    )


def _order(value: object) -> type | None:
    """What it can be compared with: times with times, spans with spans, all others are numbers."""
    return type(value) if isinstance(value, np.datetime64 | np.timedelta64) else None


def _merge_shapes(one: Shape | None, other: Shape | None) -> Shape | None:
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(a if a == b else None for a, b in zip(one, other, strict=True))
