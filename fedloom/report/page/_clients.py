"""Each held-out client by itself: the mean hides who gains and who loses."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ._charts import HEIGHT, Key, Plot, bars, dots, figure, line_marks, vertical
from ._curves import held_out_metric, judged_by
from ._data import RunRecord, amount
from ._html import Html, join, section, table, tag
from ._numbers import Metric, counted, number
from ._scale import axis, bins, counts, drawable, evenly, log_axis

_MOST_DOTS = 600
_ROWS = 8  # of a table of gainers or losers
_UPPER, _LOWER = HEIGHT / 2 - 35, HEIGHT / 2 - 7  # where the upper one of two histograms ends, and the lower one begins
_WIDE = 20  # largest over smallest number of examples from which on they are on a logarithmic axis


class Client(NamedTuple):
    """A client with the model before and after."""

    name: str
    examples: float
    before: float
    after: float

    @property
    def change(self) -> float:
        """After minus before."""
        return self.after - self.before


class Group(NamedTuple):
    """Clients by a metric; those without a finite value are left aside."""

    metric: Metric
    clients: list[Client]

    def kind(self, client: Client) -> str:
        """How page.css draws it."""
        better = self.metric.better
        return "gain" if better(client.after, client.before) else "loss" if better(client.before, client.after) else "same"

    def gained(self) -> int:
        """How many are better off."""
        return sum(self.kind(client) == "gain" for client in self.clients)

    def lost(self) -> int:
        """How many are worse off."""
        return sum(self.kind(client) == "loss" for client in self.clients)

    def worst(self, values: Sequence[float]) -> float:
        """The mean of the worst tenth, of one at least."""
        most = math.ceil(len(values) / 10)
        return statistics.fmean(sorted(values, reverse=self.metric.lower_is_better)[:most])


def clients(run: RunRecord) -> Html:
    """Distributions, gains, and who gains or loses most."""
    if not run.held_out:
        return Html()
    columns = dict.fromkeys(key for _, row in run.held_out for key in row)
    names = [key.removesuffix("_before") for key in columns if key.endswith("_before")]
    if not [name for name in names if f"{name}_after" in columns]:
        who = counted(len(run.held_out), "held-out client")
        said = f"{who} were evaluated one by one with the start model; with the final one they will be when the run finishes."
        return section("clients", "Client by client", tag("p", said))
    groups = [_group(run, name) for name in names if f"{name}_after" in columns]
    groups = [group for group in groups if group.clients]
    if not groups:
        return section("clients", "Client by client", tag("p", "No held-out client has a finite metric before and after training."))
    wanted = judged_by(run)
    group = next((group for group in groups if group.metric.name == wanted), groups[0])
    charts = [_distributions(group), _changes(group), _before_after(group)]
    if len({client.examples for client in group.clients}) > 1 and all(client.examples > 0 for client in group.clients):
        charts.append(_by_size(group))
    groups.sort(key=lambda one: one is not group)
    most = tag("div", _extremes(group, gainers=False), _extremes(group, gainers=True), class_="charts")
    return section("clients", "Client by client", _said(group), _table(groups), tag("div", *charts, class_="charts"), most)


def better_off(run: RunRecord) -> tuple[int, int] | None:
    """How many held-out clients gained by the metric of the run, and how many there are; None if that was not measured."""
    name = judged_by(run)
    group = _group(run, name) if name else None
    return (group.gained(), len(group.clients)) if group and group.clients else None


def _group(run: RunRecord, name: str) -> Group:
    keys = (f"{name}_before", f"{name}_after")
    found = [Client(client, amount(row, "num_examples"), *(row.get(key, math.nan) for key in keys)) for client, row in run.held_out]
    metric = held_out_metric(run, name)
    return Group(metric, [client for client in found if drawable(client.before) and drawable(client.after)])


def _said(group: Group) -> Html:
    total, gained, lost, words = len(group.clients), group.gained(), group.lost(), group.metric.words
    same = f", and {number(total - gained - lost)} stayed the same" if total > gained + lost else ""
    before, after = [client.before for client in group.clients], [client.after for client in group.clients]
    text, decimals = group.metric.text, group.metric.decimals(group.worst(before), group.worst(after))
    return tag(
        "p",
        f"Of {counted(total, 'held-out client')}, {number(gained)} ({100 * gained / total:.0f}%) gained in {words}, "
        f"{number(lost)} ({100 * lost / total:.0f}%) lost{same}. The mean {words} of the worst 10% of clients went from "
        f"{text(group.worst(before), decimals)} to {text(group.worst(after), decimals)}.",
    )


def _table(groups: Sequence[Group]) -> Html:
    rows = []
    for group in groups:
        before, after = [client.before for client in group.clients], [client.after for client in group.clients]
        cells = [group.metric.title]
        for what in (statistics.fmean, statistics.median, group.worst):
            cells.append(_arrow(group.metric, what(before), what(after)))
        rows.append([*cells, number(group.gained()), number(group.lost())])
    header = ("Metric", "Mean", "Median", "Worst 10%", "Clients better", "Clients worse")
    return table("Before → after, every client counting the same", header, rows, shown=True)


def _arrow(metric: Metric, before: float, after: float) -> str:
    decimals = metric.decimals(before, after)
    return f"{metric.text(before, decimals)} → {metric.text(after, decimals)}"


def _distributions(group: Group) -> Html:
    """Two histograms over one axis, before above after."""
    metric = group.metric
    when = {"before": [client.before for client in group.clients], "after": [client.after for client in group.clients]}
    edges, step = bins([*when["before"], *when["after"]])
    found = {key: counts(values, edges, step) for key, values in when.items()}
    x = axis([edges[0], edges[-1]], most=6, tight=True, metric=metric)
    y = axis([*found["before"], *found["after"], 1], most=3, zero=True, whole=True)
    parts, keys = [], []
    for key, plot in (("before", Plot(x, y, bottom=_UPPER)), ("after", Plot(x, y, x_label=metric.words, top=_LOWER))):
        ranges = (f"{metric.text(a)} to {metric.text(b)}" for a, b in pairwise(edges))
        tips = [f"{key}: {counted(count, 'client')} from {span}" for count, span in zip(found[key], ranges, strict=True)]
        median = statistics.median(when[key])
        parts += [plot.axes(x_ticks=key == "after"), bars(plot, edges, found[key], [key] * len(found[key]), tips)]
        parts.append(vertical(plot, median, 0, y.high, "median", f"median {key}: {metric.text(median)}"))
        keys.append(Key(key, f"{key}, median {metric.text(median)}", "area"))
    words = "; ".join(key.label for key in keys)
    return figure(f"Clients by {metric.words}", keys, f"Two histograms of {counted(len(group.clients), 'client')}: {words}.", join(parts))


def _changes(group: Group) -> Html:
    """A histogram of changes, without clients that did not change: a bin that begins at 0 would count them as better."""
    metric = group.metric
    changes = [client.change for client in group.clients if group.kind(client) != "same"]
    same = len(group.clients) - len(changes)
    edges, step = bins([*changes, 0.0])
    found = counts(changes, edges, step)
    plot = Plot(
        axis([edges[0], edges[-1]], most=6, tight=True, metric=metric, signed=True),
        axis([*found, 1], most=4, zero=True, whole=True),
        x_label=f"change in {metric.words}{', points' if metric.share else ''}",
    )
    sign = -1 if metric.lower_is_better else 1
    kinds = ["gain" if sign * (a + b) > 0 else "loss" for a, b in pairwise(edges)]
    tips = [
        f"{counted(count, 'client')}: {metric.change(0, a)} to {metric.change(0, b)}"
        for count, (a, b) in zip(found, pairwise(edges), strict=True)
    ]
    drawing = join([plot.axes(), bars(plot, edges, found, kinds, tips), vertical(plot, 0.0, 0, max(*found, 1), "zero", "no change")])
    words = f"{number(group.gained())} better, {number(group.lost())} worse."
    note = f"{counted(same, 'client')} stayed the same." if same else ""
    return figure(f"Clients by change in {metric.words}", _keys(), words, drawing, note)


def _keys(shape: str = "area") -> list[Key]:
    return [Key("gain", "better after training", shape), Key("loss", "worse", shape)]


def _sampled(group: Group) -> tuple[list[Client], str]:
    """As many clients as can be drawn as points, the extremes among them, and a remark if these are not all."""
    drawn = evenly(sorted(group.clients, key=lambda client: client.change), _MOST_DOTS)
    note = f"{number(len(drawn))} of {counted(len(group.clients), 'client')}, evenly from the biggest loss to the biggest gain."
    return drawn, note if len(drawn) < len(group.clients) else ""


def _tip(metric: Metric, client: Client) -> str:
    return f"{client.name}: {_arrow(metric, client.before, client.after)}, {counted(client.examples, 'example')}"


def _before_after(group: Group) -> Html:
    """A point per client, with the diagonal on which nothing changes."""
    metric = group.metric
    drawn, note = _sampled(group)
    scale = axis([value for client in drawn for value in (client.before, client.after)], metric=metric)
    plot = Plot(scale, scale, x_label="before", y_label="after")
    points = [((client.before, client.after), group.kind(client), _tip(metric, client)) for client in drawn]
    diagonal = line_marks(plot, [(scale.low, scale.low), (scale.high, scale.high)], "baseline", "no change")
    keys = [*_keys("dot"), Key("baseline", "no change", "dash")]
    words = "A point per client, before against after training."
    return figure(f"{metric.title} before and after", keys, words, join([plot.axes(), diagonal, dots(plot, points)]), note)


def _by_size(group: Group) -> Html:
    """A point per client: its change by how much data it has."""
    metric = group.metric
    drawn, note = _sampled(group)
    sizes = [client.examples for client in drawn]
    x = log_axis(sizes) if max(sizes) / min(sizes) >= _WIDE else axis(sizes, most=6, tight=True, whole=True)
    y = axis([*(client.change for client in drawn), 0.0], metric=metric, signed=True)
    plot = Plot(x, y, x_label="examples", y_label=f"change{', points' if metric.share else ''}")
    points = [((client.examples, client.change), group.kind(client), _tip(metric, client)) for client in drawn]
    level = line_marks(plot, [(x.low, 0.0), (x.high, 0.0)], "baseline", "no change")
    words = "A point per client, change against number of examples."
    keys = [*_keys("dot"), Key("baseline", "no change", "dash")]
    return figure(f"Change in {metric.words} by size of client", keys, words, join([plot.axes(), level, dots(plot, points)]), note)


def _extremes(group: Group, gainers: bool) -> Html:
    """Those who gained, or lost, most."""
    metric = group.metric
    kind, sign = ("gain" if gainers else "loss"), (-1 if metric.lower_is_better else 1)
    chosen = [client for client in group.clients if group.kind(client) == kind]
    chosen.sort(key=lambda client: (-sign if gainers else sign) * client.change)
    caption = "Biggest gains" if gainers else "Biggest losses"
    if not chosen:
        return tag("div", tag("p", "No client gained." if gainers else "No client lost."))
    rows = []
    for client in chosen[:_ROWS]:
        decimals = metric.decimals(client.before, client.after)
        values = (metric.text(client.before, decimals), metric.text(client.after, decimals))
        rows.append((client.name, number(client.examples), *values, metric.change(client.before, client.after, unit=False)))
    header = ("Client", "Examples", "Before", "After", "Points" if metric.share else "Change")
    return table(caption, header, rows, shown=True)
