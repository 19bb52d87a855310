"""The learning curve of a run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .._files import replacing
from ._record import Row

_TRAIN, _EVAL, _START = "#9aa5b1", "#0b6e99", "#c0562a"


def plot_curve(rows: Sequence[Row], path: str | Path, *, title: str, unit: str = "round") -> None:
    """Loss and accuracy by round, as PNG: training, held-out data, and where the held-out curve started; under privacy, epsilon spent.

    Args:
        rows: As in `metrics.csv`; those with `eval_...` are drawn as points.
        path: Of the PNG; none is written if there is nothing to draw.
        title: Above the panels.
        unit: What a row's number counts.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [name for name in ("accuracy", "loss", "epsilon") if any(f"eval_{name}" in row or name in row for row in rows)]
    if not names:
        return
    figure = Figure(figsize=(4.6 * len(names), 3.4), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        train = [(row["round"], row[name]) for row in rows if name in row]
        held_out = [(row["round"], row[f"eval_{name}"]) for row in rows if f"eval_{name}" in row]
        if train:
            label = "spent so far" if name == "epsilon" else "training, before each step"
            axes.plot(*zip(*train, strict=True), color=_TRAIN, linewidth=1, label=label)
        if held_out and held_out[0][0] == 0:
            axes.axhline(held_out[0][1], color=_START, linewidth=1, linestyle="--", label=f"start: {held_out[0][1]:.3f}")
        if held_out:
            axes.plot(
                *zip(*held_out, strict=True), color=_EVAL, linewidth=2, marker="o", markersize=3, label=f"held out: {held_out[-1][1]:.3f}"
            )
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, framealpha=0.9, edgecolor="none")
    with replacing(Path(path)) as unfinished:
        figure.savefig(unfinished, format="png")
