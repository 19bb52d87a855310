"""What was measured from round to round: held-out metrics, and whatever else the rounds reported."""

from __future__ import annotations

from collections.abc import Sequence

from ._charts import Line, line_chart, round_axis
from ._data import Numbers, RunRecord
from ._html import Html, section, tag
from ._numbers import Metric, counted, metric_of
from ._scale import Point, axis, evenly

_COUNTS = ("num_", "bytes_")
_SHOWN_ELSEWHERE = ("round", "accepted", "epsilon", "attempts")
_FIRST, _MOST_MEASUREMENTS, _MOST_LINES = 4, 24, 6
_FURTHER = 4  # kinds of lines in page.css


def judged_by(run: RunRecord) -> str | None:
    """The held-out metric by which the run is judged; None if nothing was evaluated."""
    names = evaluated(run.rounds)
    wanted = str((run.status.get("best") or {}).get("metric") or run.config.get("best_by") or "accuracy").rpartition(":")[2]
    return next((name for name in (wanted, "accuracy", "loss", *names) if name in names), None)


def _lower_by_settings(run: RunRecord, name: str) -> bool | None:
    """What the settings say of it; None if nothing."""
    direction, _, metric = str(run.config.get("best_by") or "").rpartition(":")
    return direction == "lower" if direction in ("lower", "higher") and metric == name else None


def evaluated(rows: Sequence[Numbers]) -> list[str]:
    """The names of held-out metrics, without "eval_" and not of further data."""
    found = dict.fromkeys(key.removeprefix("eval_") for row in rows for key in row if key.startswith("eval_"))
    return [name for name in found if "." not in name and not name.startswith("num_")]


def held_out_metric(run: RunRecord, name: str) -> Metric:
    """A held-out metric."""
    return metric_of(name, [value for _, value in series(run.rounds, f"eval_{name}")], _lower_by_settings(run, name))


def series(rows: Sequence[Numbers], key: str) -> list[Point]:
    """A column by round, where it has values."""
    return [(row["round"], row[key]) for row in rows if key in row]


def best_of(points: Sequence[Point], metric: Metric) -> Point | None:
    """The best point, the first one of equals; None if none has a number."""
    best = None
    for point in points:
        if point[1] == point[1] and (best is None or metric.better(point[1], best[1])):
            best = point
    return best


def curves(run: RunRecord) -> Html:
    """A chart for every held-out metric; those of training, if nothing was evaluated."""
    further = dict.fromkeys(key.rpartition(".")[2] for row in run.rounds for key in row if key.startswith("eval_") and "." in key)
    names = [*evaluated(run.rounds), *(name for name in further if not name.startswith("num_"))]
    names += [name for name in ("accuracy", "loss") if any(name in row for row in run.rounds)]
    first = judged_by(run)
    order: list[str] = list(dict.fromkeys([*([first] if first else []), *(["loss"] if "loss" in names else []), *names]))
    charts = [_chart(run, name) for name in order]
    said = "" if first else tag("p", "No held-out data was evaluated, so this is how the model did on the data it was trained on.")
    rest = charts[_FIRST:]
    more = tag("details", tag("summary", counted(len(rest), "further metric")), tag("div", *rest, class_="charts")) if rest else Html()
    return section("curves", "Learning curves", said, tag("div", *charts[:_FIRST], class_="charts"), more) if charts else Html()


def _chart(run: RunRecord, name: str) -> Html:
    held_out, training = series(run.rounds, f"eval_{name}"), series(run.rounds, name)
    data = dict.fromkeys(key for row in run.rounds for key in row if key.startswith("eval_") and key.endswith(f".{name}"))
    others = {key.removeprefix("eval_").removesuffix(f".{name}"): series(run.rounds, key) for key in evenly(list(data), _MOST_LINES)}
    values = [value for points in (held_out, training, *others.values()) for _, value in points]
    metric = metric_of(name, values, _lower_by_settings(run, name))
    lines = [Line("training", training, "train")] if training else []
    lines += [Line(label, points, f"further-{i % _FURTHER + 1}") for i, (label, points) in enumerate(others.items())]
    baseline = ring = None
    description = "Of training data only."
    if held_out:
        lines.append(Line("held out", held_out, "held-out", _tips("held out", held_out, metric)))
        start, end, best = held_out[0], held_out[-1], best_of(held_out, metric)
        description = f"Held out from {metric.text(start[1])} in round {start[0]:,.0f} to {metric.text(end[1])} in round {end[0]:,.0f}."
        if start[0] == 0:
            baseline = (start[1], f"at the start {metric.text(start[1])}")
        if best and len(held_out) > 1:
            ring = (best, f"best {metric.text(best[1])}, round {best[0]:,.0f}")
            description += f" The best is {metric.text(best[1])} in round {best[0]:,.0f}."
    y = axis(values, metric=metric)
    return line_chart(metric.title, lines, round_axis(run.done), y, x_label="round", description=description, baseline=baseline, ring=ring)


def _tips(label: str, points: Sequence[Point], metric: Metric) -> list[str]:
    return [f"{label}, round {r:,.0f}: {metric.text(value)}" for r, value in points]


def measurements(run: RunRecord) -> Html:
    """What else rounds reported, of the server, the aggregation or devices: a small chart each, where it varies."""
    known = {"loss", *_SHOWN_ELSEWHERE, *evaluated(run.rounds)}
    columns = dict.fromkeys(key for row in run.rounds for key in row)
    keys = [key for key in columns if key not in known and not key.startswith(("eval_", *_COUNTS))]
    found = ((key, series(run.rounds, key)) for key in keys)
    varied = [(key, points) for key, points in found if len({value for _, value in points}) > 1]
    charts = []
    for key, points in varied[:_MOST_MEASUREMENTS]:
        lines = [Line(key, points, "train")]
        description = f"From {points[0][1]:.4g} to {points[-1][1]:.4g}."
        x, y = round_axis(run.done), axis([value for _, value in points])
        charts.append(line_chart(key, lines, x, y, x_label="round", description=description))
    if not charts:
        return Html()
    folded = tag("details", tag("summary", f"{counted(len(charts), 'measurement')} by round"), tag("div", *charts, class_="charts"))
    return section("measurements", "Measured on the way", folded)
