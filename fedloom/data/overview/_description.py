"""What `describe` hands back, and how it reads.

Free to change: what is said, and how. With care: the fields, which go into json; and that text from the data gets out of
`sections` through `printable` and `shorten` only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ._column_facts import Column
from ._labels import Labels
from ._shorten import between, printable, shape_text, shorten

_BARS = 10  # labels that get a bar
_BAR = 30  # characters of the longest bar in plain text
_LINE = 40  # characters of examples that share a line


@dataclass(frozen=True)
class Sizes:
    """Examples per client, over all clients.

    `quantiles` has the keys min, 5%, 25%, 50%, 75%, 95%, max, between neighbours interpolated linearly; `std` is that of the
    population. `gini` is Gini's coefficient, 0 if all clients are equally large and (n - 1) / n if one of n has everything.
    `top_tenth` is the share of all examples that the largest tenth of clients (rounded up) has. `histogram` has, in steps of
    roughly equal ratio, (smallest size, largest size, number of clients); empty clients are not in it.
    """

    quantiles: dict[str, float]
    mean: float
    std: float
    empty: int
    gini: float
    top_tenth: float
    histogram: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Sample:
    """A client's first examples, each column's value shortened and safe to print."""

    client: str
    size: int
    examples: tuple[dict[str, str], ...]


class Section(NamedTuple):
    """A part of a description as text that is safe to print."""

    title: str
    bars: Sequence[tuple[str, float, str]] = ()  # what, length in [0, 1], value
    table: Sequence[tuple[str, ...]] = ()  # the first row is the heading
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Description:
    """What `describe` found: `print` it, or look at its fields.

    `sizes` is over all clients, None if there is none; `columns`, `labels` and `samples` rest on the `clients_read` clients, with
    `examples_read` examples, that were read. Names and labels are as the data has them; what `str`, `sections` and `samples` give
    is safe to print.
    """

    name: str
    clients: int
    examples: int
    sizes: Sizes | None
    clients_read: int
    examples_read: int
    columns: tuple[Column, ...]
    labels: Labels | None
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]  # what is odd about the data

    def __str__(self) -> str:
        return "\n".join(line for section in self.sections() for line in _plain_text(section)).rstrip()

    def to_dict(self) -> dict[str, Any]:
        """The fields for json: the counts of labels are a list of pairs; infinities, times and bytes are text."""
        found = dataclasses.asdict(self)
        if self.labels:
            found["labels"]["counts"] = list(self.labels.counts.items())
        return _jsonable(found)

    def sections(self) -> tuple[Section, ...]:
        """The description in parts, for whoever shows it: the first is its title, then sizes, columns, labels and samples."""
        title = f"{printable(self.name)}: {_count(self.clients, 'client')}, {_count(self.examples, 'example')}"
        parts = [Section(title, lines=[printable(note, 400) for note in self.notes])]
        if self.sizes:
            parts.append(_sizes_section(self.sizes, self.clients))
        if self.columns:
            read = "all clients" if self.clients_read == self.clients else f"{self.clients_read:,} of {_count(self.clients, 'client')}"
            parts.append(Section(f"Columns (read: {read})", table=_columns_table(self.columns)))
        if self.labels:
            parts.append(_labels_section(self.labels))
        if self.samples:
            parts.append(Section("Samples", table=_samples_table(self.samples)))
        return tuple(parts)


def _sizes_section(sizes: Sizes, clients: int) -> Section:
    steps = [(0, 0, sizes.empty)] if sizes.empty else []
    steps += sizes.histogram
    most = max(count for _, _, count in steps)
    bars = [(f"{low:,}" if low == high else f"{low:,} to {high:,}", count / most, f"{count:,}") for low, high, count in steps]
    empty = f"{sizes.empty:,} of {_count(clients, 'client')} without examples" if sizes.empty else "no client is empty"
    return Section(
        "Examples per client",
        bars=bars,
        lines=[
            _in_words(sizes.quantiles),
            f"mean {sizes.mean:,.1f}, standard deviation {sizes.std:,.1f}; {empty}",
            f"the largest tenth of clients has {sizes.top_tenth:.0%} of all examples (Gini coefficient {sizes.gini:.2f})",
        ],
    )


def _columns_table(columns: Sequence[Column]) -> list[tuple[str, ...]]:
    rows = [("column", "type", "per example", "values", "missing")]
    for column in columns:
        types = " or ".join(printable(kind, 30) for kind in column.types[:4])
        values = "" if column.low is None else f"{between(column.low, column.high)} {column.unit}".rstrip()
        shape = "different ranks" if column.shape is None else shape_text(column.shape) or "one value"
        rows.append((printable(column.name, 40), types, shape, values, f"{column.missing:,}"))
    return rows if any(column.missing for column in columns) else [row[:-1] for row in rows]


def _labels_section(labels: Labels) -> Section:
    total, most = sum(labels.counts.values()), max(labels.counts.values())
    frequent = set(sorted(labels.counts, key=lambda label: -labels.counts[label])[:_BARS])
    shown = {label: count for label, count in labels.counts.items() if label in frequent}
    rest = len(labels.counts) - len(shown)
    return Section(
        f"Labels in {printable(labels.column, 40)!r}: {len(labels.counts):,} different",
        bars=[
            (printable(label, 30) if isinstance(label, str) else shorten(label, 30), count / most, f"{count / total:.1%}")
            for label, count in shown.items()
        ],
        lines=[
            *([f"and {rest:,} rarer ones, {1 - sum(shown.values()) / total:.1%} of the examples"] if rest else []),
            f"different labels per client: {_in_words(labels.per_client)}",
            f"label skew {labels.distance:.2f}: the mean total variation distance of a client's labels to all labels; "
            f"{labels.distance_at_random:.2f} if clients of these sizes had drawn at random",
        ],
    )


def _samples_table(samples: Sequence[Sample]) -> list[tuple[str, ...]]:
    rows = [("client (examples)", "column", "first examples")]
    for sample in samples:
        client = f"{printable(sample.client, 40)} ({sample.size:,})"
        for name in dict.fromkeys(name for example in sample.examples for name in example):
            values = [example[name] for example in sample.examples if name in example]
            together = ", ".join(values)
            column = printable(name, 30)
            for line in [together] if len(together) <= _LINE else values:
                rows.append((client, column, line))
                client = column = ""
    return rows


def _plain_text(section: Section) -> Iterator[str]:
    yield section.title
    names = max((len(name) for name, _, _ in section.bars), default=0)
    values = max((len(value) for _, _, value in section.bars), default=0)
    for name, share, value in section.bars:
        yield f"  {name:>{names}}  {value:>{values}}  {'█' * math.ceil(share * _BAR)}".rstrip()
    widths = [max(map(len, cells)) for cells in zip(*section.table, strict=True)]
    for row in section.table:
        yield "  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    yield from (f"  {line}" for line in section.lines)
    yield ""


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _in_words(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,.10g}" for name, value in found.items())


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(entry) for entry in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value) if isinstance(value, np.generic | float) else shorten(value)
