"""Labels by client: how often each occurs with whom, and how far the clients differ.

Free to change: which columns are taken for labels. With care: `distances` and `distance_at_random`, which people quote.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._shorten import printable

Label = int | float | str | bytes

_USUAL = ("y", "label")  # the columns that are taken for labels unasked
_MOST = 1_000  # different labels that a column has which is taken for labels unasked


@dataclass(frozen=True)
class Labels:
    """The labels of the clients that were read, and their skew.

    `counts` says how often each label occurs in all, `per_client` has quantiles of the number of different labels that a client
    has. `distance` is the mean over clients of the total variation distance between a client's label distribution p_i and the
    pooled one q, 1/2 sum_k |p_i(k) - q(k)|: 0 if all clients are alike, below 1 in any case. Small clients differ by chance alone,
    so compare it with `distance_at_random`, which clients of these sizes would have on average if they drew their labels from q.
    """

    column: str
    clients: int  # with at least one label
    counts: dict[Label, int]
    per_client: dict[str, float]
    distance: float
    distance_at_random: float


class LabelCounts:
    """Counts of labels by client, sparse: entry i says that label `codes[i]` occurs `counts[i]` times with client `rows[i]`.

    Args:
        column: The name of the column.
        clients: Label -> count, for each client with at least one label.

    Attributes:
        labels: The different labels, numbers before text, in order; shape [L].
        total: How often each occurs in all, int64 [L].
        sizes: Labels of each client, int64 [clients], >= 1.
    """

    def __init__(self, column: str, clients: list[dict[Label, int]]):
        self.column = column
        self.labels = sorted(set().union(*clients), key=lambda label: (isinstance(label, bytes), isinstance(label, str), label))
        code = {label: i for i, label in enumerate(self.labels)}
        self.rows = np.repeat(np.arange(len(clients)), [len(counts) for counts in clients])
        self.codes = np.fromiter((code[label] for counts in clients for label in counts), np.int64, len(self.rows))
        self.counts = np.fromiter((count for counts in clients for count in counts.values()), np.int64, len(self.rows))
        self.total = np.zeros(len(self.labels), np.int64)
        np.add.at(self.total, self.codes, self.counts)
        self.sizes = np.zeros(len(clients), np.int64)
        np.add.at(self.sizes, self.rows, self.counts)

    def summary(self) -> Labels:
        """The numbers."""
        return Labels(
            column=self.column,
            clients=len(self.sizes),
            counts=dict(zip(self.labels, self.total.tolist(), strict=True)),
            per_client=quantiles(self.different),
            distance=float(self.distances().mean()),
            distance_at_random=float(self.distances_at_random().mean()),
        )

    @property
    def different(self) -> np.ndarray:
        """The number of different labels of each client, int64 [clients]."""
        return np.bincount(self.rows, minlength=len(self.sizes))

    def shares(self) -> np.ndarray:
        """Each client's label distribution, dense: float64 [clients, L], rows that add up to 1."""
        dense = np.zeros((len(self.sizes), len(self.labels)))
        dense[self.rows, self.codes] = self.counts / self.sizes[self.rows]
        return dense

    def distances(self) -> np.ndarray:
        """The total variation distance of each client's label distribution p_i to the pooled one q, in [0, 1); float64 [clients].

        TV(p_i, q) = 1/2 sum_k |p_i(k) - q(k)| = 1 - sum_k min(p_i(k), q(k)): the share of its examples that a client would have
        to relabel. Zhao et al. 2018 (arXiv:1806.00582, Proposition 3.1) bound the divergence of weights by twice this number and
        call that the earth mover's distance.
        """
        p, q = self.counts / self.sizes[self.rows], self.total / self.total.sum()
        return 1 - np.bincount(self.rows, np.minimum(p, q[self.codes]), minlength=len(self.sizes))

    def distances_at_random(self) -> np.ndarray:
        """What `distances` would be on average if each client drew its labels from q, float64 [clients].

        It is not 0: two examples cannot have ten labels. A label's count X is then binomial (n, q), and with m = floor(n q) + 1
        E|X - n q| = 2 m C(n, m) q^m (1 - q)^(n - m + 1)   (De Moivre; Diaconis and Zabell 1991, doi:10.1214/ss/1177011699).
        """
        # Labels that are as frequent as each other, and clients of one size, share a term.
        frequencies, times = np.unique(self.total, return_counts=True)
        q = frequencies / self.total.sum()
        sizes, which = np.unique(self.sizes, return_inverse=True)
        return np.array([times @ _mean_deviation(int(n), q) / (2 * n) for n in sizes])[which]


def _mean_deviation(n: int, q: np.ndarray) -> np.ndarray:
    """E|X - n q| for X binomial (n, q), q in (0, 1]."""
    m = np.floor(n * q) + 1
    inside = m <= n  # where q is 1, X is n
    m, q_inside = m[inside], q[inside]
    log_choose = _log_factorial(n) - _log_factorial(m) - _log_factorial(n - m)
    deviation = np.zeros(len(q))
    deviation[inside] = 2 * m * np.exp(log_choose + m * np.log(q_inside) + (n - m + 1) * np.log1p(-q_inside))
    return deviation


_log_factorial = np.vectorize(lambda n: math.lgamma(n + 1), otypes=[float])


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Of some numbers, at least one; between neighbours interpolated linearly."""
    names = ("min", "5%", "25%", "50%", "75%", "95%", "max")
    return dict(zip(names, np.quantile(values, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).tolist(), strict=True))


class LabelReader:
    """Counts labels client by client.

    Args:
        column: Where they are; None takes `y` or `label`, if that holds integers or text with at most 1,000 different values.
    """

    def __init__(self, column: str | None):
        self._column = column
        self._clients: dict[str, list[dict[Label, int]]] = {name: [] for name in (_USUAL if column is None else (column,))}
        self._different: dict[str, set[Label]] = {name: set() for name in self._clients}
        self._seen: dict[str, None] = {}

    def add(self, client_id: str, columns: Mapping[str, np.ndarray]) -> None:
        """Counts one client's.

        Raises:
            ValueError: The column that was asked for does not hold one number or text per example.
        """
        self._seen |= dict.fromkeys(columns)
        for name in [name for name in self._clients if name in columns]:
            counts = count_labels(columns[name])
            if counts is None and self._column is not None:
                values = columns[name]
                raise ValueError(
                    f"label must name a column with one number or text per example, but {name!r} of client {client_id!r} holds "
                    f"{printable(values.dtype)} of shape {values.shape}. Name another column."
                )
            if counts:
                self._clients[name].append(counts)
                self._different[name].update(counts)
            if self._column is None and (counts is None or not _look_like_labels(self._different[name])):
                del self._clients[name]

    def result(self) -> LabelCounts | None:
        """The counts, or None if there are no labels.

        Raises:
            ValueError: No client has the column that was asked for.
        """
        if self._column is not None and self._seen and self._column not in self._seen:
            raise ValueError(
                f"label must name a column of the data, got {self._column!r}. The columns are {', '.join(map(repr, self._seen))}."
            )
        for name, clients in self._clients.items():
            if clients:
                return LabelCounts(name, clients)
        return None


def _look_like_labels(values: set[Label]) -> bool:
    return len(values) <= _MOST and not any(isinstance(value, float) for value in values)


def count_labels(column: np.ndarray) -> dict[Label, int] | None:
    """How often each label occurs, missing ones (None, NaN) left out; None if the column has no one number or text per example.

    Args:
        column: Shape (n,), or (n, 1) as Keras likes it.
    """
    if column.size == len(column):
        column = column.reshape(-1)
    if column.ndim != 1 or column.dtype.kind not in "biufOSTU":
        return None
    if column.dtype.kind in "OT":
        values = list(map(_plain, column.tolist()))
        if not all(map(_is_label, values)):
            return None
        return dict(Counter(value for value in values if value is not None and value == value))
    values, counts = np.unique(column.astype(float) if column.dtype.kind == "f" else column, return_counts=True)
    return {value: count for value, count in zip(values.tolist(), counts.tolist(), strict=True) if value == value}


def _plain(value: Any) -> Any:
    is_number = isinstance(value, np.number | np.bool_) and not isinstance(value, np.timedelta64)
    return value.item() if is_number else value


def _is_label(value: object) -> bool:
    return value is None or isinstance(value, bool | float | str | bytes) or (isinstance(value, int) and value.bit_length() <= 64)
