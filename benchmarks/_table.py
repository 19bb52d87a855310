"""What was measured, as tables in Markdown, and whether the losses agree."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from ._run import Result, Row

DEBUG_TOLERANCE = 1e-4
"""Largest relative difference of a round's loss from the debug executor's that rounding may explain.

Both train in float32, but add in another order; a round of tens of steps makes 1e-7 of the first step into up to some 1e-5.
"""
PEER_TOLERANCE = 1e-3
"""The same from a peer, which computes everything with other kernels, over several rounds. More is marked, but no failure of fedloom's."""


def clients_per_second(row: Row, cohort: int) -> float:
    """Over all later rounds."""
    return cohort * len(row.seconds) / sum(row.seconds)


def best_peer(rows: Sequence[Row]) -> Row | None:
    """The one that took the least time for the later rounds, among those that finished."""
    return min((row for row in rows if row.peer and not row.error and row.seconds), key=lambda row: sum(row.seconds), default=None)


def largest_difference(losses: Sequence[float], others: Sequence[float]) -> float:
    """Relative, over the rounds that both have."""
    return float(np.max([abs(a - b) / abs(b) for a, b in zip(losses, others, strict=False)], initial=0.0))  # NaN if any is


def failures(result: Result) -> list[str]:
    """Why the numbers of a case must not be believed; empty if they may."""
    found = []
    if result.case.debug_rounds and not result.debug_losses:
        found.append(f"{result.case.name}: the debug executor gave no losses")
    for row in result.rows:
        if row.peer:
            continue
        if row.error:
            found.append(f"{result.case.name}: {row.system} failed: {row.error}")
        difference = largest_difference(row.losses, result.debug_losses)
        if row.exact and not difference <= DEBUG_TOLERANCE:  # so that NaN fails
            found.append(f"{result.case.name}: losses of {row.system} differ from the debug executor's by {difference:.1e}")
    return found


def table(result: Result) -> list[str]:
    """A row per system."""
    case, best = result.case, best_peer(result.rows)
    lines = [
        f"### {case.name}: {case.model}, {case.cohort} clients a round, batches of {case.batch_size}",
        "",
        "| system | first round, s: cold / warm | s per round: median (range) | clients/s | peak MB (private) | GFLOP/s | device waits | "
        "loss: last, difference | speed / best peer's |",
        "| --- | --- | --- | ---: | ---: | ---: | --- | --- | ---: |",
    ]
    reference = next((row.losses for row in result.rows if row.system == "fedloom"), result.rows[0].losses if result.rows else [])
    lines += [_line(result, row, best, reference) for row in result.rows]
    rates = ", ".join(f"{statistics.median(values):.0f} {name}" for name, values in result.machine.items())
    lines += ["", f"Matrix product of 2048³ in the same run: {rates} GFLOP/s."]
    if result.debug_losses:
        pairs = zip(reference, result.debug_losses, strict=False)
        lines.append("Loss of each round, beside the debug executor's: " + ", ".join(f"{a:.6f} / {b:.6f}" for a, b in pairs) + ".")
    lines += [f"Programs compiled after the first round by {row.system}: {sum(row.compiled)}." for row in result.rows if row.compiled]
    if case.goal and best:
        lines.append(f"Goal: {case.goal:g} times the speed of the best peer, {best.system}.")
    return lines


def scale_table(results: Sequence[Result]) -> list[str]:
    """A row per cohort, for cases with one system only."""
    lines = [
        "### Time and memory by cohort, fedloom",
        "",
        "| model | cohort | first round, s: cold / warm | s per round: median (range) | ms per client | peak MB (private) "
        "| compiled later | system |",
        "| --- | ---: | --- | --- | ---: | ---: | ---: | --- |",
    ]
    for result in results:
        for row in result.rows:
            each = "" if row.error else f"{1000 / clients_per_second(row, result.case.cohort):.3g}"
            lines.append(
                f"| {result.case.model} | {result.case.cohort:,} | {_first(row)} | {_error(row) or _spread(row)} | {each} "
                f"| {_memory(row)} | {sum(row.compiled)} | {row.system} |"
            )
    return lines


def _line(result: Result, row: Row, best: Row | None, reference: Sequence[float]) -> str:
    if row.error or not row.seconds:
        return f"| {row.system} | {_first(row)} | {_error(row)} | | | | | | |"
    total = sum(row.seconds)
    gflops = sum(result.gflop[1 : len(row.seconds) + 1]) / total
    waits = "" if not row.waited else f"{_share(row, 0, total)} to {_share(row, 1, total)}"
    difference = largest_difference(row.losses, reference)
    marked = " DIFFERS" if row.peer and not difference <= PEER_TOLERANCE else ""
    ratio = f"{sum(best.seconds) / total:.2f}" if best else ""
    return (
        f"| {row.system} | {_first(row)} | {_spread(row)} | {clients_per_second(row, result.case.cohort):,.1f} "
        f"| {_memory(row)} | {gflops:.0f} | {waits} | {row.losses[-1]:.5f}, {difference:.0e}{marked} | {ratio} |"
    )


def _error(row: Row) -> str:
    return row.error.replace("|", " ")[:120]


def _first(row: Row) -> str:
    return " / ".join("–" if value is None else f"{value:.1f}" for value in (row.first_cold, row.first))  # noqa: RUF001


def _spread(row: Row) -> str:
    return f"{statistics.median(row.seconds):.3g} ({min(row.seconds):.3g} to {max(row.seconds):.3g})"


def _memory(row: Row) -> str:
    return f"{row.peak_mb:,.0f} ({row.private_mb:,.0f})"


def _share(row: Row, bound: int, total: float) -> str:
    return f"{sum(waited[bound] for waited in row.waited) / total:.1%}"
