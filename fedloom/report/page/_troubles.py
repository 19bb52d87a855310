"""What went wrong: clients that were left out, and warnings. What differs in numbers only is told once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from ._data import LeftOut, RunRecord, Told, amount
from ._html import Html, join, section, table, tag
from ._numbers import counted, number

_MOST_KINDS, _MOST_NAMES = 20, 3

One = TypeVar("One", LeftOut, Told)


def left_out(run: RunRecord) -> Html:
    """Clients that did not count, and rounds that did not."""
    said = []
    failed, broken = (sum(amount(row, key) for row in run.rounds) for key in ("num_failed_clients", "num_nonfinite_clients"))
    if run.private:
        said.append("Who was left out is not told: that would say more of single clients than the privacy budget allows.")
    elif failed or broken or run.left_out:
        if failed or not broken:
            said.append(f"{counted(failed or len(run.left_out), 'time')} a client failed, and was left out of its round.")
        if broken:
            said.append(f"{counted(broken, 'time')} an update had numbers that were NaN or infinite, and was left out of its round.")
    elif any("num_failed_clients" in row for row in run.rounds):
        said.append("No client was left out of any round.")
    again = sum(row.get("attempts", 1) > 1 for row in run.rounds)
    if again:
        said.append(f"{counted(again, 'round')} had to be tried with another cohort, as too few clients reported.")
    refused = sum(row.get("accepted", 1) == 0 for row in run.rounds)
    if refused:
        said.append(f"In {counted(refused, 'round')} the aggregate was not accepted, and the model stayed as it was.")
    return section("left-out", "Clients left out", *(tag("p", one) for one in said), _reasons(run)) if said else Html()


def _reasons(run: RunRecord) -> Html:
    if run.private or not run.left_out:
        return Html()
    kinds = _kinds(run.left_out, lambda one: one.reason)
    rows = []
    for found in sorted(kinds, key=len, reverse=True)[:_MOST_KINDS]:
        names = list(dict.fromkeys(one.client for one in found))
        more = f" and {number(len(names) - _MOST_NAMES)} more" if len(names) > _MOST_NAMES else ""
        rows.append((found[-1].reason, ", ".join(names[:_MOST_NAMES]) + more, _span(found), number(len(found))))
    shown = table("Why clients were left out", ("Reason", "Clients", "Rounds", "Times"), rows, numbers_from=3)
    return join([shown, _rest(len(kinds), "further reason", "clients.csv")])


def warnings(run: RunRecord) -> Html:
    """What the run complained of."""
    if not run.warnings:
        return Html()
    kinds = _kinds(run.warnings, lambda one: one.text)
    rows = [(found[-1].text, _span(found), number(len(found))) for found in kinds[:_MOST_KINDS]]
    shown = table("Warnings", ("Warning", "Rounds", "Times"), rows, numbers_from=2)
    return section("warnings", "Warnings", shown, _rest(len(kinds), "further warning", "warnings.csv"))


def _kinds(told: Sequence[One], text: Callable[[One], str]) -> list[list[One]]:
    """What is the same but for numbers, together."""
    found: dict[str, list[One]] = {}
    for one in told:
        found.setdefault(re.sub(r"\d+(\.\d+)?", "0", text(one)), []).append(one)
    return list(found.values())


def _span(found: Sequence[LeftOut] | Sequence[Told]) -> str:
    rounds = [one.round for one in found]
    return number(min(rounds)) if min(rounds) == max(rounds) else f"{number(min(rounds))} to {number(max(rounds))}"


def _rest(count: int, one: str, file: str) -> Html:
    more = count - _MOST_KINDS
    return tag("p", f"And {counted(more, one)}, in {file}.", class_="remark") if more > 0 else Html()
