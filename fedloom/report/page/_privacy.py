"""What the run gave away about a client, in numbers and in words.

With care: the words. They promise what `fedloom.privacy` computes, and no more.
"""

from __future__ import annotations

import math

from ._charts import Line, line_chart, round_axis
from ._curves import series
from ._data import RunRecord
from ._html import Html, section, tag, tiles
from ._numbers import number
from ._scale import axis

_ACCOUNTANTS = {"rdp": "Rényi divergences", "pld": "privacy loss distributions"}
_NEIGHBOURS = {
    "uniform": "with other data in the place of that client's",
    "poisson": "without that client",
    "everyone": "without that client",
    "tree or matrix": "with the updates of that client left out",
}
_STRONG, _REASONABLE = 1.0, 10.0  # the tiers of Ponomareva et al. 2023, arXiv:2303.00654


def privacy(run: RunRecord) -> Html:
    """Epsilon, delta and what they mean; nothing for a run without a budget."""
    if not run.private:
        return Html()
    budget, spent = run.budget, series(run.rounds, "epsilon")
    limit, delta = float(budget.get("epsilon") or math.nan), float(budget.get("delta") or math.nan)
    if not spent:
        return section("privacy", "Privacy", tag("p", "The run has a budget of privacy, and no round has spent any of it yet."))
    epsilon = spent[-1][1]
    accountant = str(budget.get("accountant") or "")
    items = [
        ("ε spent", number(epsilon), f"of a budget of {number(limit)}"),
        ("δ", number(delta), "the probability not covered"),
        ("Noise multiplier", *_setting(run, "noise_multiplier", "noise over clip")),
        ("Clip", *_setting(run, "clip", "largest norm of an update")),
    ]
    by = f" The accounting is by {_ACCOUNTANTS[accountant]}." if accountant in _ACCOUNTANTS else ""
    exact = (
        "Covered is what clients were trained on, by the weights after every round. Not covered are the held-out results on this page, "
        "which are exact. The noise comes from the seed of the run: whoever has that can take the noise off again, so this page does "
        f"not show it.{by}"
    )
    words = tag("div", tag("p", _meaning(epsilon, delta, _relation(run))), tag("p", exact))
    shown = tiles([item for item in items if item[1]])
    return section("privacy", "Privacy", shown, tag("div", words, _chart(run, limit), class_="beside"))


def _setting(run: RunRecord, name: str, remark: str) -> tuple[str, str]:
    value = run.config.get(name)
    return (number(float(value)), remark) if isinstance(value, int | float) else ("", "")


def _relation(run: RunRecord) -> str:
    """Which runs are compared, by the fields of the sampling that the accountant was told: only two schemes have the same ones."""
    told = run.budget.get("sampling")
    if not isinstance(told, dict) or "cohort_size" in told:
        return str(run.config.get("sampling"))
    return "tree or matrix" if told else "everyone"


def _meaning(epsilon: float, delta: float, relation: str) -> str:
    """Differential privacy in words."""
    other = _NEIGHBOURS.get(relation, "with the data of that client left out or replaced")
    if not math.isfinite(epsilon):
        return "The privacy spent is not finite: nothing is promised to any client."
    factor = number(math.exp(epsilon)) if epsilon < 50 else f"e^{number(epsilon)}"
    strength = "strong" if epsilon <= _STRONG else "reasonable" if epsilon <= _REASONABLE else "weak"
    return (
        f"For every single client, and whatever the weights turned out to be: that was at most {factor} times as likely as it would have "
        f"been {other}, plus a probability of {number(delta)}. This bounds what anybody can learn about one client from the weights, "
        f"whatever else they know. By common guidance, ε = {number(epsilon)} is a {strength} guarantee."
    )


def _chart(run: RunRecord, limit: float) -> Html:
    spent = series(run.rounds, "epsilon")
    line = Line("ε spent so far", spent, "held-out")
    baseline = (limit, f"budget {number(limit)}") if math.isfinite(limit) and limit < 10 * max(spent[-1][1], 1e-9) else None
    y = axis([value for _, value in spent] + ([limit] if baseline else []), zero=True)
    description = f"ε is {number(spent[-1][1])} after round {spent[-1][0]:.0f}."
    return line_chart("Privacy spent", [line], round_axis(run.done), y, x_label="round", description=description, baseline=baseline)
