"""What the run took: time and traffic."""

from __future__ import annotations

import statistics

from ._charts import Key, Line, Plot, figure, line_chart, round_axis, split_bar, stacks
from ._curves import held_out_metric, judged_by, series
from ._data import Numbers, RunRecord, amount
from ._html import Html, join, section, tag, tiles
from ._numbers import bytes_text, counted, number, seconds_text
from ._scale import axis

_PARTS = ("compute", "data", "aggregate", "evaluate", "other")
_NAMES = {"compute": "clients' work", "data": "waiting for data", "aggregate": "aggregation", "evaluate": "evaluation", "other": "other"}
_MOST_BARS = 80


def costs(run: RunRecord) -> Html:
    """Time and communication."""
    charts = [chart for chart in (_time_chart(run), _traffic_chart(run)) if chart]
    return section("costs", "Time and communication", _numbers(run), _split(run), tag("div", *charts, class_="charts") if charts else "")


def _parts(row: Numbers) -> dict[str, float]:
    """Seconds of a round by what they were for, evaluation included."""
    found = {part: amount(row, f"{part}_seconds") for part in _PARTS}
    found["other"] = max(amount(row, "seconds") - found["data"] - found["compute"] - found["aggregate"], 0.0)
    return found


def _numbers(run: RunRecord) -> Html:
    items = []
    if rounds := [row["seconds"] for row in run.timing if amount(row, "seconds") > 0]:
        total = sum(sum(_parts(row).values()) for row in run.timing)
        items.append(("Time in all", seconds_text(total), f"{counted(len(rounds), 'round')} and evaluation"))
        items.append(("Time per round", seconds_text(statistics.median(rounds)), "median, without evaluation"))
    if speeds := [row["clients_per_second"] for row in run.timing if amount(row, "clients_per_second") > 0]:
        items.append(("Clients per second", number(statistics.median(speeds)), "median over rounds"))
    for key, what in (("bytes_up", "Sent by clients"), ("bytes_down", "Sent to clients")):
        if values := [row[key] for row in run.rounds if amount(row, key) > 0]:
            items.append((what, bytes_text(sum(values)), f"{bytes_text(statistics.fmean(values))} per round"))
    return tiles(items) if items else Html()


def _split(run: RunRecord) -> Html:
    """Where the time went, in one bar."""
    totals = {part: sum(_parts(row)[part] for row in run.timing) for part in _PARTS}
    total = sum(totals.values())
    if total <= 0:
        return Html()
    bar = split_bar([(part, _NAMES[part], totals[part] / total, seconds_text(totals[part])) for part in _PARTS])
    return tag("div", tag("h3", "Where the time went"), bar, class_="block")


def _time_chart(run: RunRecord) -> Html | None:
    """A stack per round, or per so many rounds in a long run."""
    rows = [row for row in run.timing if row["round"] > 0 and amount(row, "seconds") > 0]
    if not rows:
        return None
    each = -(-len(rows) // _MOST_BARS)
    groups = [rows[i : i + each] for i in range(0, len(rows), each)]
    means = [{part: statistics.fmean(_parts(row)[part] for row in group) for part in _PARTS} for group in groups]
    high = max(sum(mean.values()) for mean in means)
    unit, scale = ("milliseconds", 1e3) if high < 1 else ("seconds", 1.0) if high < 120 else ("minutes", 1 / 60)
    y = axis([scale * high], zero=True)
    x = round_axis(run.done)
    x = x._replace(low=0.5, high=x.high + 0.5, ticks=x.ticks[1:], labels=x.labels[1:])  # there is no round 0 in it
    plot = Plot(x, y, x_label="round", y_label=unit)
    columns = []
    for group, mean in zip(groups, means, strict=True):
        first, last = group[0]["round"], group[-1]["round"]
        span = f"round {first:,.0f}" if first == last else f"rounds {first:,.0f} to {last:,.0f}, mean"
        said = ", ".join(f"{_NAMES[part]} {seconds_text(seconds)}" for part, seconds in mean.items() if seconds > 0)
        pieces = [(part, scale * seconds) for part, seconds in mean.items() if seconds > 0]
        columns.append((first - 0.5, last + 0.5, pieces, f"{span}: {said}"))
    keys = [Key(part, _NAMES[part], "area") for part in _PARTS if any(mean[part] > 0 for mean in means)]
    note = f"Each bar is the mean of {each} rounds." if each > 1 else ""
    words = f"Median {seconds_text(statistics.median(row['seconds'] for row in rows))} without evaluation."
    return figure("Time per round", keys, words, join([plot.axes(), stacks(plot, columns)]), note)


def _traffic_chart(run: RunRecord) -> Html | None:
    """The metric of the run by what had been sent until then."""
    name, sent, reached = judged_by(run), 0.0, {}
    for row in run.rounds:
        sent += amount(row, "bytes_up") + amount(row, "bytes_down")
        reached[row["round"]] = sent
    if name is None or not sent:
        return None
    metric, points = held_out_metric(run, name), series(run.rounds, f"eval_{name}")
    if len(points) < 2:
        return None
    tips = [f"{metric.text(value)} after {bytes_text(reached[r])} (round {r:,.0f})" for r, value in points]
    line = Line(f"held-out {metric.words}", [(reached[r], value) for r, value in points], "held-out", tips)
    x, y = axis([0.0, sent], most=6, tight=True, in_bytes=True), axis([value for _, value in points], metric=metric)
    unit = bytes_text(sent).split()[1]
    words = f"{bytes_text(sent)} in all, both ways."
    return line_chart(f"{metric.title} by traffic", [line], x, y, x_label=f"{unit} sent so far, both ways", description=words)
