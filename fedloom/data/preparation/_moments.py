"""Mean and standard deviation over all clients, in one pass that holds one client at a time.

Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", equation 2.1: two parts' means and sums of squared
deviations give those of the whole, without the cancellation that sums of squares suffer from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .._federated import Examples


class Moments(NamedTuple):
    """By column: float64 of shape () for a column of shape (n,), and otherwise of the length of its last axis."""

    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]  # of the population: divided by the count, as `numpy.std`


class _Sums(NamedTuple):
    count: int
    mean: np.ndarray
    squares: np.ndarray  # sum of squared deviations from the mean


def moments(dataset: Mapping[str, Examples], columns: str | Sequence[str]) -> Moments:
    """Mean and standard deviation of columns, each example (and pixel) of all clients counting once.

    The last axis is one of channels or features and is kept; the mean is over all the others. So for images use what `Images` makes of
    them, the column `x`.

    Statistics pooled over clients are told by the clients' data: where these are private, so are they, until they are computed with
    the same care as an update (a secure sum, noise). In a simulation they are fine; say so in what you publish.

    Args:
        dataset: Clients and their columns of numbers.
        columns: A name, or several.

    Raises:
        ValueError: A client lacks a column, or it is not of finite numbers, or no client has any; the message names the client.

    Example:
        >>> from fedloom.data import FederatedDataset
        >>> data = FederatedDataset.from_dict({"ada": {"age": [30, 40]}, "bob": {"age": [80]}})
        >>> mean, std = moments(data, "age")
        >>> float(mean["age"]), float(std["age"])
        (50.0, 21.602468994692867)
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    totals: dict[str, _Sums] = {}
    for client in dataset:
        examples = dataset[client]
        for name in names:
            part = _sums(_values(examples, name, client))
            if part.count:
                totals[name] = _add(totals[name], part, name, client) if name in totals else part
    if missing := [name for name in names if name not in totals]:
        raise ValueError(f"moments needs at least one client with examples, got none with values in the columns {missing}.")
    mean = {name: totals[name].mean for name in names}
    std = {name: np.sqrt(totals[name].squares / totals[name].count) for name in names}
    return Moments(mean, std)


def _values(examples: Examples, name: str, client: str) -> np.ndarray:
    """The column as float64 (number of values, channels), or (number of values,)."""
    if name not in examples:
        raise ValueError(f"moments needs the column {name!r}, but client {client!r} has {sorted(examples)}.")
    column = np.asarray(examples[name])
    if column.size and (column.dtype.kind not in "biuf" or not np.isfinite(column).all()):
        raise ValueError(
            f"moments needs finite numbers, got others in the column {name!r} of client {client!r}, of {column.dtype}. "
            "Fill in what is missing with `dataset.map`, or leave these examples out with `dataset.filter`."
        )
    values = column.astype(np.float64)
    return values.reshape(values.size // max(1, values.shape[-1]), values.shape[-1]) if values.ndim > 1 else values


def _sums(values: np.ndarray) -> _Sums:
    if not len(values):
        return _Sums(0, np.zeros(values.shape[1:]), np.zeros(values.shape[1:]))
    mean = values.mean(axis=0)
    return _Sums(len(values), mean, np.square(values - mean).sum(axis=0))


def _add(a: _Sums, b: _Sums, name: str, client: str) -> _Sums:
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"The column {name!r} must have a last axis of one length everywhere, got {b.mean.shape} for client {client!r} "
            f"after {a.mean.shape}. Bring all clients to one shape with `dataset.map`."
        )
    count = a.count + b.count
    delta = b.mean - a.mean
    return _Sums(count, a.mean + delta * (b.count / count), a.squares + b.squares + np.square(delta) * (a.count * b.count / count))
