"""Charts as SVG, in colours that `page.css` gives them. No text stands among the data, where it would overlap: a legend says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ._html import Html, escaped, join, tag
from ._scale import Axis, Point, axis, drawable, thin

WIDTH, HEIGHT = 520, 290  # in units that are about pixels where there is room; page.css makes text larger where there is not
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 36, 12, 56
_MOST_DOTS = 100  # on a line
_WIDEST_BAR = 40


class Line(NamedTuple):
    """A line of a chart."""

    label: str
    points: Sequence[Point]  # with x in order
    kind: str  # how page.css draws it
    tips: Sequence[str] | None = None  # for each point; with them, each has a dot


class Key(NamedTuple):
    """An entry of a legend."""

    kind: str
    label: str
    shape: str = "line"  # or "dash", "area", "ring", "dot"


class Plot:
    """The area inside two axes.

    Args:
        x: Axis at the bottom.
        y: Axis at the left.
        x_label: What is below the bottom one.
        y_label: What stands above the left one.
        top: Of the area, in units; below it comes what the axes need.
        bottom: Of the area.
    """

    def __init__(self, x: Axis, y: Axis, *, x_label: str = "", y_label: str = "", top: float = _TOP, bottom: float = HEIGHT - _BOTTOM):
        self._x, self._y, self._labels = x, y, (f"{x_label}{x.factor}".strip(), f"{y_label}{y.factor}".strip())
        self._top, self._bottom = top + (18 if self._labels[1] else 0), bottom

    def x(self, value: float) -> float:
        """Where a value is from left to right."""
        return _LEFT + self._x.place(value) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Where a value is from top to bottom."""
        return self._bottom - self._y.place(value) * (self._bottom - self._top)

    def path(self, points: Sequence[Point]) -> str:
        """The points, one joined to the next."""
        return "M" + "L".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)

    def axes(self, x_ticks: bool = True) -> Html:
        """Grid, ticks and labels."""
        parts: list[Html] = []
        for value, label in zip(self._y.ticks, self._y.labels, strict=True):
            y = self.y(value)
            parts.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
            parts.append(tag("text", label, x=_LEFT - 12, y=y + 4, class_="tick end"))
        if x_ticks:
            for value, label in zip(self._x.ticks, self._x.labels, strict=True):
                parts.append(tag("text", label, x=self.x(value), y=self._bottom + 23, class_="tick middle"))
        parts.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=self._bottom, y2=self._bottom, class_="axis"))
        x_label, y_label = self._labels
        if x_label:
            parts.append(tag("text", x_label, x=(WIDTH + _LEFT - _RIGHT) / 2, y=self._bottom + 46, class_="tick middle"))
        if y_label:
            parts.append(tag("text", y_label, x=4, y=self._top - 14, class_="tick"))
        return join(parts)


def figure(title: str, keys: Sequence[Key], description: str, drawing: str, note: str = "") -> Html:
    """A chart with its title above it, its legend, and what it shows in words for those who cannot see it."""
    legend = tag("ul", *(tag("li", tag("i", class_=f"{key.shape} {key.kind}"), key.label) for key in keys), class_="legend")
    svg = tag("svg", drawing, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{title}. {description}")
    head = tag("figcaption", tag("h3", title), legend if keys else Html())
    return tag("figure", head, svg, tag("p", note, class_="remark") if note else Html())


def tip(text: str) -> Html:
    """What is shown when the pointer rests on the element that this is in."""
    return tag("title", text)


def line_chart(
    title: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    x_label: str,
    description: str,
    baseline: tuple[float, str] | None = None,
    ring: tuple[Point, str] | None = None,
) -> Html:
    """Lines over a common x.

    Args:
        title: Above it.
        lines: From back to front; long ones are thinned.
        x: Axis at the bottom.
        y: Axis at the left.
        x_label: What x is.
        description: For those who cannot see it.
        baseline: A value that is drawn as a dashed line across, and its name.
        ring: A point to be marked, and its name.
    """
    plot = Plot(x, y, x_label=x_label)
    parts, keys, lost = [plot.axes()], [], 0
    baseline = baseline if baseline and drawable(baseline[0]) else None
    if baseline:
        height = plot.y(baseline[0])
        parts.append(tag("line", tip(baseline[1]), x1=_LEFT, x2=WIDTH - _RIGHT, y1=height, y2=height, class_="baseline"))
    for line in lines:
        points = [point for point in line.points if drawable(point[1])]
        lost += len(line.points) - len(points)
        if len(points) > 1:
            parts.append(tag("path", tip(line.label), d=plot.path(thin(points)), class_=f"line {line.kind}"))
        if (line.tips and len(line.points) <= _MOST_DOTS) or len(points) == 1:
            tips = line.tips or [line.label] * len(line.points)
            parts += [_dot(plot, point, text, line.kind) for point, text in zip(line.points, tips, strict=True) if drawable(point[1])]
        keys.insert(0, Key(line.kind, line.label))  # what is in front comes first
    if baseline:
        keys.append(Key("baseline", baseline[1], "dash"))
    if ring and drawable(ring[0][1]):
        parts.append(tag("circle", tip(ring[1]), cx=plot.x(ring[0][0]), cy=plot.y(ring[0][1]), r=7, class_="ring"))
        keys.append(Key("", ring[1], "ring"))
    note = (
        f"{lost} values were not finite, and are not drawn." if lost > 1 else "One value was not finite, and is not drawn." if lost else ""
    )
    return figure(title, keys, description, join(parts), note)


def _dot(plot: Plot, point: Point, text: str, kind: str) -> Html:
    return tag("circle", tip(text), cx=plot.x(point[0]), cy=plot.y(point[1]), r=3.5, class_=f"dot {kind}")


def bars(plot: Plot, edges: Sequence[float], counts: Sequence[int], kinds: Sequence[str], tips: Sequence[str]) -> Html:
    """Bars of a histogram, with a hair of space between them."""
    parts = []
    for i, count in enumerate(counts):
        if count:
            left, right, top = plot.x(edges[i]), plot.x(edges[i + 1]), plot.y(count)
            width = max(right - left - 1, 0.5)
            parts.append(tag("rect", tip(tips[i]), x=left + 0.5, y=top, width=width, height=plot.y(0) - top, class_=f"bar {kinds[i]}"))
    return join(parts)


def stacks(plot: Plot, columns: Sequence[tuple[float, float, Sequence[tuple[str, float]], str]]) -> Html:
    """Stacked bars: of each its left and right end, its parts (kind and height) from the bottom up, and what it tells."""
    parts = []
    for left, right, pieces, text in columns:
        width = min(plot.x(right) - plot.x(left), _WIDEST_BAR)
        x, base, gap, rects = plot.x((left + right) / 2) - width / 2, 0.0, min(1.5, 0.15 * width), []
        for kind, height in pieces:
            top = plot.y(base + height)
            rects.append(tag("rect", x=x + gap / 2, y=top, width=width - gap, height=max(plot.y(base) - top, 0.0), class_=f"bar {kind}"))
            base += height
        parts.append(tag("g", tip(text), *rects))
    return join(parts)


def dots(plot: Plot, points: Sequence[tuple[Point, str, str]]) -> Html:
    """Points with their kinds and what they tell."""
    return join(tag("circle", tip(text), cx=plot.x(x), cy=plot.y(y), r=3.6, class_=f"point {kind}") for (x, y), kind, text in points)


def line_marks(plot: Plot, points: Sequence[Point], kind: str, text: str) -> Html:
    """A line that is no data."""
    return tag("path", tip(text), d=plot.path(points), class_=kind)


def vertical(plot: Plot, value: float, low: float, high: float, kind: str, text: str) -> Html:
    """A line at an x, from one y to another."""
    x = plot.x(value)
    return tag("line", tip(text), x1=x, x2=x, y1=plot.y(low), y2=plot.y(high), class_=kind)


def round_axis(last: float) -> Axis:
    """The axis of rounds."""
    return axis([0.0, max(last, 1.0)], most=6, tight=True, whole=True)


def split_bar(parts: Sequence[tuple[str, str, float, str]]) -> Html:
    """One bar in parts: kind, name, share and value of each, with a legend that says them."""
    shown = [part for part in parts if part[2] > 0]
    bar = (Html(f'<span class="{escaped(kind)}" style="flex-grow:{share:.4f}"></span>') for kind, _, share, _ in shown)
    keys = (
        tag("li", tag("i", class_=f"area {kind}"), f"{name} {_percent(share)} ", tag("small", value)) for kind, name, share, value in shown
    )
    words = ", ".join(f"{name} {_percent(share)}" for _, name, share, _ in shown)
    return join([tag("div", join(bar), class_="split", role="img", aria_label=words), tag("ul", *keys, class_="legend")])


def _percent(share: float) -> str:
    return "<1%" if share < 0.005 else f"{100 * share:.0f}%"
