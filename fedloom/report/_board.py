"""What the live view shows: a run so far, laid out for any width and height."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from ._callback import RunInfo
from ._metric_names import lower_is_better
from ._pace import Pace, clock_time, duration
from ._record import Row
from ._sparkline import sparkline

_PHASES = {"data": "blue", "compute": "green", "aggregate": "magenta", "evaluate": "cyan", "other": "bright_black"}
_STATUS = {"finished": "bold green", "interrupted": "bold yellow", "stopped": "bold yellow", "failed": "bold red"}
_RECENT = 20  # rounds
_MOST_WARNINGS, _MOST_LINES = 3, 3  # kinds of warning that are shown, and lines of each
_WIDEST_CURVE, _NARROWEST_CURVE, _SPLIT = 48, 12, 24  # characters


class WarningLog:
    """Warnings of a run; those that differ in numbers only are one kind."""

    def __init__(self):
        self._kinds: dict[str, tuple[int, int, str]] = {}  # how often, in which round last, and with which text; the newest is the last

    def add(self, round_number: int, text: str) -> None:
        """Notes one."""
        kind = re.sub(r"\d+(\.\d+)?", "0", text)
        count, _, _ = self._kinds.pop(kind, (0, 0, ""))
        self._kinds[kind] = (count + 1, round_number, text)

    def lines(self) -> list[str]:
        """The newest kinds, with how often they came."""
        kinds = list(self._kinds.values())
        lines = [f"warning ({f'x {n}, last in ' if n > 1 else ''}round {r}): {text}" for n, r, text in kinds[-_MOST_WARNINGS:]]
        older = sum(n for n, _, _ in kinds[:-_MOST_WARNINGS])
        return [f"{older} earlier warnings", *lines] if older else lines


class _Block(NamedTuple):
    """Lines that are shown or left out together."""

    rank: int  # what has a higher one is left out first; 0 never
    lines: list[Text]


class Board:
    """A run as far as it is. A thread may draw it while another adds to it: what is iterated over never changes its size.

    Args:
        run: What is known at the start; the curves go on from its history.
        clock: Seconds that only grow.
        now: The time of day.
    """

    def __init__(self, run: RunInfo, *, clock: Callable[[], float], now: Callable[[], datetime]):
        self._run, self._clock, self._now = run, clock, now
        self._warnings = WarningLog()
        self._pace = Pace(run.rounds, run.history)
        self._shown = {"loss": "training loss", "eval_loss": "held out loss", "eval_accuracy": "held out accuracy"}
        self._shown.setdefault(f"eval_{run.best_by}", f"held out {run.best_by}")
        self._curves: dict[str, list[float]] = {key: [] for key in self._shown}
        self._best: dict[str, tuple[float, int] | None] = dict.fromkeys(self._shown)  # value and round
        self._phases = dict.fromkeys(_PHASES, 0.0)
        self._speeds: list[float] = []
        self._latest: Row = {"round": 0}
        self._latest_evaluated: Row = {}
        for row in run.history:
            self._draw_on(row)
        self._first = self._latest["round"]
        self._started = self._round_ended = clock()
        self._status: str | None = None

    def add(self, row: Row) -> None:
        """Counts a round."""
        clock = self._clock()
        self._pace.add(row, clock - self._round_ended)
        self._round_ended = clock
        self._draw_on(row)
        if row["round"] == 0:
            return
        seconds = {phase: row.get(f"{phase}_seconds", 0.0) for phase in _PHASES}
        seconds["other"] = max(row.get("seconds", 0.0) - seconds["data"] - seconds["compute"] - seconds["aggregate"], 0.0)
        self._phases = {phase: self._phases[phase] + seconds[phase] for phase in _PHASES}
        if "clients_per_second" in row:
            self._speeds = [*self._speeds, row["clients_per_second"]][-_RECENT:]

    def warn(self, round_number: int, text: str) -> None:
        """Notes a warning."""
        self._warnings.add(round_number, text)

    def end(self, status: str) -> None:
        """From here on it is a summary."""
        self._round_ended, self._status = self._clock(), status

    def lines(self, console: Console, width: int, height: int) -> list[Text]:
        """What to show, no line wider than `width`; where it is more than `height` lines, what matters least is left out."""
        fancy, running = not console.options.ascii_only, self._status is None
        curves = self._curve_lines(width, fancy)
        gap = [Text()] if curves else []
        blocks = [
            _Block(0, [_cut(self._title(), width, fancy)]),
            _Block(0, [_cut(self._bar(width, fancy), width, fancy)] if running else _flow(console, self._outcome(), width)),
            _Block(1, _flow(console, self._times(), width) if running else []),
            _Block(8, gap),
            _Block(3, curves),
            _Block(7, [line for data in self._further_data() for line in _flow(console, data, width)]),
            _Block(8, gap),
            _Block(4, _flow(console, self._speed(), width) if running else []),
            _Block(6, _flow(console, self._split(console), width)),
        ]
        *older, newest = [[], *([Text(text, "yellow")] for text in self._warnings.lines())]
        blocks += [_Block(5, _flow(console, warning, width)[:_MOST_LINES]) for warning in older]
        return _fitting([*blocks, _Block(2, _flow(console, newest, width)[:_MOST_LINES])], height)

    def _title(self) -> Text:
        algorithm = self._run.config.get("algorithm")
        name = algorithm.get("name") if isinstance(algorithm, Mapping) else algorithm
        title = Text(str(name or "federated training"), "bold")
        return title.append(f"  {self._run.run_dir}", "not bold dim") if self._run.run_dir else title

    def _bar(self, width: int, fancy: bool) -> Text:
        done, rounds = self._latest["round"], self._run.rounds
        share = min(done / max(rounds, 1), 1.0)
        before, after = f"round {done:>{len(str(rounds))}}/{rounds} ", f" {math.floor(100 * share):>3}%"
        room = max(width - len(before) - len(after), 0)
        full, half, empty = ("━", "╸", "─") if fancy else ("#", "", ".")
        halves = math.floor(2 * room * share)
        filled = full * (halves // 2) + half * (halves % 2)
        return Text.assemble(before, (filled, "green"), (empty * (room - len(filled)), "dim"), after)

    def _times(self) -> list[Text]:
        clock = self._clock()
        parts = [_named("elapsed", duration(clock - self._started))]
        if (left := self._pace.remaining) is not None:
            left = max(left - (clock - self._round_ended), 0.0)
            return [*parts, _named("left", duration(left)), _named("done at", clock_time(self._now(), left))]
        return [*parts, Text.assemble(("the first round compiles", "dim"))]

    def _outcome(self) -> list[Text]:
        done, took = self._latest["round"], duration(self._round_ended - self._started)
        status = str(self._status)
        reached = f"{done} rounds" if done == self._run.rounds else f"after round {done} of {self._run.rounds}"
        since = f" (from round {self._first + 1} on)" if self._first else ""
        return [Text.assemble((status, _STATUS.get(status, "bold")), f": {reached} in {took}{since}"), *self._speed()]

    def _speed(self) -> list[Text]:
        seconds = self._pace.seconds_per_round
        parts = []
        if seconds is not None:
            parts.append(Text(f"{1000 * seconds:.0f} ms/round" if seconds < 0.1 else f"{seconds:.{_places(seconds)}f} s/round"))
        if self._speeds:
            speed = statistics.median(self._speeds)
            parts.append(Text(f"{speed:.{_places(speed)}f} clients/s"))
        if "epsilon" in self._latest:
            parts.append(_named("epsilon", _number(self._latest["epsilon"])))
        return parts

    def _split(self, console: Console) -> list[Text]:
        total = sum(self._phases.values())
        shares = {phase: seconds / total for phase, seconds in self._phases.items() if seconds >= 0.005 * total > 0}
        words = [Text.assemble((phase, _PHASES[phase]), f" {100 * share:.0f}%") for phase, share in shares.items()]
        if not shares or console.options.ascii_only or console.no_color or not console.color_system:
            return [Text("time:"), *words] if words else []
        bar, reached = Text(), 0.0
        for phase, share in shares.items():
            bar.append("█" * (round((reached + share) * _SPLIT) - round(reached * _SPLIT)), _PHASES[phase])
            reached += share
        return [bar, *words]

    def _further_data(self) -> list[list[Text]]:
        """The newest metrics on data besides the held-out clients, a list of words for each."""
        found: dict[str, list[Text]] = {}
        for key, value in self._latest_evaluated.items():
            data, dot, metric = key.removeprefix("eval_").rpartition(".")
            if dot and key.startswith("eval_") and metric in ("loss", "accuracy") and isinstance(value, int | float):
                found.setdefault(data, [Text(data)]).append(_named(metric, _number(value)))
        return list(found.values())

    def _curve_lines(self, width: int, fancy: bool) -> list[Text]:
        """For each metric its curve, first, newest and best value: beside each other, or on two lines where these are short."""
        arrow = "→" if fancy else "->"
        labels = {key: label for key, label in self._shown.items() if self._curves[key]}
        ends = {key: [_number(value) for value in (self._curves[key][:1] + self._curves[key][1:][-1:])] for key in labels}
        spans = {key: f" {arrow} ".join(values) for key, values in ends.items()}
        best = {key: found for key in labels if key != "loss" and (found := self._best[key])}
        rounds = {key: f"  best {_number(value)} in round {r}" for key, (value, r) in best.items()}
        label_width, span_width = (max(map(len, texts.values()), default=0) for texts in (labels, spans))
        room = width - label_width - span_width - max(map(len, rounds.values()), default=0) - 4
        short = {key: f"  best {_number(value)}" for key, (value, _) in best.items()}
        beside = room >= _NARROWEST_CURVE
        most = min(room, _WIDEST_CURVE) if beside else max(width - max(map(len, short.values()), default=0), 1)
        # All curves are equally long, so that what is below each other is of the same time.
        length = min(max((len(self._curves[key]) for key in labels), default=0), most)
        lines = []
        for key, label in labels.items():
            style = "cyan" if key == "loss" else "green"
            curve = (_curve(self._curves[key], length, fancy), style)
            if beside:
                numbers = f"  {spans[key]:<{span_width}}{rounds.get(key, '')}".rstrip()
                lines.append(Text.assemble(f"{label:<{label_width}}  ", curve, numbers))
            else:
                below = Text.assemble(curve, short.get(key, ""))
                lines += [_cut(Text(f"{label}  {spans[key]}"), width, fancy), _cut(below, width, fancy)]
        return lines

    def _draw_on(self, row: Row) -> None:
        self._latest = dict(row)
        if any(name.startswith("eval_") for name in row):
            self._latest_evaluated = self._latest
        for key, curve in self._curves.items():
            value = row.get(key)
            if not isinstance(value, int | float):
                continue
            curve.append(float(value))
            better, best = _direction(key), self._best[key]
            if better and not math.isnan(value) and (best is None or better * value > better * best[0]):
                self._best[key] = (value, row["round"])


def _curve(values: list[float], length: int, fancy: bool) -> str:
    """Of this length, also where there are fewer values: each then takes its share."""
    n = len(values)
    return sparkline(values if n >= length else [values[i * n // length] for i in range(length)], length, ascii_only=not fancy)


def _direction(name: str) -> int:
    """1 if more is better, -1 if less is, 0 if the name does not say."""
    return -1 if lower_is_better(name) else 1 if "accuracy" in name else 0


def _number(value: float) -> str:
    """In few characters, so that a curve has room beside it."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e3 else f"{value:.3g}"


def _places(value: float) -> int:
    """Decimal places for about three digits."""
    return 0 if value >= 100 else 1 if value >= 10 else 2


def _named(name: str, value: str) -> Text:
    return Text.assemble((f"{name} ", "dim"), value)


def _cut(text: Text, width: int, fancy: bool) -> Text:
    text.truncate(width, overflow="ellipsis" if fancy else "crop")
    return text


def _flow(console: Console, parts: list[Text], width: int) -> list[Text]:
    """The parts beside each other with two spaces between, on as many lines as they take; a part breaks only if it is wider than a line."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + 2 + part.cell_len <= width:
            lines[-1].append("  ").append_text(part)
        else:
            lines += part.wrap(console, width)
    return lines


def _fitting(blocks: list[_Block], height: int) -> list[Text]:
    kept = list(blocks)
    for rank in sorted({block.rank for block in blocks}, reverse=True):
        if rank == 0 or sum(len(block.lines) for block in kept) <= height:
            break
        kept = [block for block in kept if block.rank != rank]
    return [line for block in kept for line in block.lines]
