"""`plot`: sizes and labels by client as a figure.

Free to change: everything that is drawn. With care: text from the data is never taken for formulas, which may not parse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._federated import FederatedDataset
from ._describe import as_arrays, draw_clients
from ._labels import LabelCounts, LabelReader
from ._shorten import printable, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BARS, _CLIENTS, _EXAMPLES = "#9aa5b1", "#0b6e99", "#c0562a"
_SHARES = ("#ffffff", "#cfe3ec", "#6fb1cc", "#0b6e99", "#04263a")  # evenly darker, so it reads without colour too
_ROWS = 100  # labels at most
_TICKS = 20  # labels that are named at most


def plot(dataset: FederatedDataset, *, label: str | None = None, max_clients: int = 100, seed: int = 0) -> Figure:
    """The sizes of all clients, and the labels of some, as a figure.

    One part shows how many clients have how many examples; another, which share of all clients and of all examples the clients
    up to a size make up: the further apart the two curves, the more a few large clients dominate. If there are labels, a third has
    a column per client and a row per label, dark where the client has much of it; clients that are alike stand side by side.

    Args:
        dataset: Of any size.
        label: The column with the labels; None takes `y` or `label`, as `describe` does.
        max_clients: How many clients are read for the labels, at least 1; drawn uniformly without replacement.
        seed: Of the draw.

    Returns:
        A figure that pyplot knows nothing of: `plot(data).savefig("data.png")`.

    Raises:
        ValueError: `max_clients` is out of range, or `label` is no column with labels.
    """
    from matplotlib.figure import Figure

    sizes = dataset.size_array()
    labels = LabelReader(label)
    for i in map(int, np.sort(draw_clients(len(sizes), max_clients, seed))):
        client_id = dataset.client_ids[i]
        labels.add(client_id, as_arrays(dataset[client_id]))
    counts = labels.result()

    figure = Figure(figsize=(9.6, 4.0 if counts else 3.4), layout="constrained", dpi=150)
    figure.suptitle(f"{printable(dataset.name, 60)}: {len(sizes):,} clients, {int(sizes.sum()):,} examples", fontsize=12, parse_math=False)
    if counts:
        grid = figure.add_gridspec(2, 2, height_ratios=(3, 2), width_ratios=(2, 3))
        histogram, curves = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
        _draw_sizes(histogram, curves, sizes)
        histogram.set_xlabel("")  # as that of the curves below
        _draw_labels(figure.add_subplot(grid[:, 1]), counts, len(sizes))
    else:
        histogram, curves = figure.subplots(1, 2)
        _draw_sizes(histogram, curves, sizes)
    return figure


def _draw_sizes(histogram: Axes, curves: Axes, sizes: np.ndarray) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

    distinct, times = np.unique(sizes[sizes > 0], return_counts=True)
    empty = len(sizes) - times.sum()
    if len(distinct):
        low, high = int(distinct[0]), int(distinct[-1])
        is_wide = high > 5 * low
        borders = _equal_ratio(low, high) if is_wide else _equal_width(low, high)
        histogram.hist(distinct, bins=borders.tolist(), weights=times, color=_BARS, edgecolor="white", linewidth=0.5)
        # Both begin with what empty clients make up, which is a part of the clients but no example.
        clients = (empty + np.cumsum([0, *times, 0])) / len(sizes)
        examples = np.cumsum([0, *(times * distinct), 0]) / sizes.sum()
        ends = [borders[0], *distinct, borders[-1]]
        curves.step(ends, clients, where="post", color=_CLIENTS, label="of clients")
        curves.step(ends, examples, where="post", color=_EXAMPLES, linestyle="--", label="of examples")
        curves.legend(fontsize=9, framealpha=0.9, edgecolor="none", loc="best")
        for axes in (histogram, curves):
            _size_axis(axes, borders[0], borders[-1], log=is_wide)
    if empty:
        histogram.set_title(f"without {empty:,} empty clients", fontsize=9)
    histogram.set_ylabel("clients")
    histogram.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    histogram.yaxis.set_major_formatter(EngFormatter(sep=""))
    curves.set_ylabel("cumulative share")
    curves.set_ylim(0, 1.03)
    curves.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (histogram, curves):
        axes.set_xlabel("examples of a client")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)


def _equal_ratio(low: int, high: int) -> np.ndarray:
    """Borders of at most 16 bars whose sizes grow by the same factor, as far as whole sizes can."""
    return np.unique(np.geomspace(low, high + 1, 17).round())


def _equal_width(low: int, high: int) -> np.ndarray:
    """Borders of at most 16 bars with equally many whole sizes, and of an empty bar on either side."""
    width = -(-(high + 1 - low) // 16)
    return np.arange(low - width, high + 2 * width + 1, width) - 0.5


def _size_axis(axes: Axes, low: float, high: float, *, log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.10g}"))
    axes.set_xlim(low, high)


def _draw_labels(axes: Axes, counts: LabelCounts, num_clients: int) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import FuncFormatter

    rows = np.sort(np.argsort(-counts.total, kind="stable")[:_ROWS])
    shares = counts.shares()[:, rows]
    shares = shares[_alike(shares)].T
    darkest = max(shares.max(), min(1, 3 / len(counts.labels)))  # so that clients without skew look pale
    colours = LinearSegmentedColormap.from_list("shares", _SHARES)
    image = axes.imshow(shares, aspect="auto", interpolation="nearest", cmap=colours, vmin=0, vmax=darkest)
    axes.figure.colorbar(
        image, ax=axes, format=FuncFormatter(lambda share, _: f"{100 * share:.3g}%"), pad=0.02, label="share of the client's examples"
    )
    named = np.arange(0, len(rows), -(-len(rows) // _TICKS))
    axes.set_yticks(named, [_name(counts.labels[rows[i]]) for i in named], fontsize=9, parse_math=False)
    axes.set_xticks([])
    some = f"{shares.shape[1]:,} of " if shares.shape[1] < num_clients else ""
    axes.set_xlabel(f"{some}{num_clients:,} clients, a column each")
    more = f", the {len(rows):,} most frequent" if len(rows) < len(counts.labels) else ""
    axes.set_ylabel(f"label (column {printable(counts.column, 20)}{more})", parse_math=False)


def _alike(shares: np.ndarray) -> np.ndarray:
    """An order of clients in which those with the same most frequent labels stand together, as a staircase; without any, last."""
    frequent = np.argsort(-shares, axis=1, kind="stable")[:, :2]
    first, second = frequent[:, 0], frequent[:, -1]
    most = shares[np.arange(len(shares)), first]
    return np.lexsort((-most, second, first, most == 0))


def _name(label: object) -> str:
    return printable(label, 12) if isinstance(label, str) else shorten(label, 12)
