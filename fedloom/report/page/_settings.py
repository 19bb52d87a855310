"""The end of the page: text that the model wrote, settings, versions, papers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._citations import citations
from ._data import RunRecord
from ._html import Html, join, pairs, section, tag
from ._numbers import bytes_text, number
from ._scale import evenly

_MOST_SAMPLES, _MOST_ITEMS, _MOST_CHARACTERS = 9, 20, 2000
_NOT_SHOWN = "not shown: it would take the noise off"


def samples(run: RunRecord) -> Html:
    """Text by round; of many the first, the last, and some between."""
    if not run.samples:
        return Html()
    shown, prompts = evenly(run.samples, _MOST_SAMPLES), {one.prompt for one in run.samples}
    said = Html()
    if len(prompts) == 1:
        said = tag("p", "The same prompt was continued each time: ", tag("q", shown[0].prompt.strip()))
    cards = []
    for one in shown:
        text = one.text.removeprefix(one.prompt)
        text = f"{text[:_MOST_CHARACTERS]} …" if len(text) > _MOST_CHARACTERS else text
        when = "Before training" if one.round == 0 else f"After round {one.round}"
        cards.append(tag("article", tag("h3", when), tag("p", tag("span", one.prompt, class_="prompt"), text)))
    return section("samples", "Text that the model writes", said, tag("div", *cards, class_="samples"))


def settings(run: RunRecord) -> Html:
    """All settings, nested ones under the name of their group."""
    plain = {name: value for name, value in run.config.items() if name != "environment"}
    hidden = {"seed": _NOT_SHOWN} if run.private else {}
    top = [(name, hidden.get(name) or _value(name, value)) for name, value in plain.items() if not isinstance(value, Mapping)]
    parts = [pairs(top)] if top else []
    for name, value in plain.items():
        if isinstance(value, Mapping):
            rows = [(key, hidden.get(key.rpartition(".")[2]) or _value(key, leaf)) for key, leaf in _flat(value)]
            parts += [tag("h3", name), pairs(rows)] if rows else []
    return section("settings", "Settings", *parts)


def _flat(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in group.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _value(name: str, value: Any) -> str:
    """A setting as people write it."""
    if value is None or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if name.endswith("bytes"):
            return bytes_text(value)
        return number(value) if isinstance(value, int) and name != "seed" else f"{value:.10g}" if isinstance(value, float) else str(value)
    if isinstance(value, list):
        more = f" and {number(len(value) - _MOST_ITEMS)} more" if len(value) > _MOST_ITEMS else ""
        return ", ".join(_value(name, item) for item in value[:_MOST_ITEMS]) + more
    return str(value)


def environment(run: RunRecord) -> Html:
    """Versions and devices."""
    found = run.config.get("environment")
    rows = [(name, _value(name, value)) for name, value in _flat(found)] if isinstance(found, Mapping) else []
    return section("environment", "Versions and hardware", pairs(rows)) if rows else Html()


def papers(run: RunRecord) -> Html:
    """What to cite."""
    entries = []
    for used, paper in citations(run.config):
        title = tag("a", paper.title, href=paper.link, rel="noreferrer") if paper.link else tag("span", paper.title)
        entries.append(tag("li", f"{paper.authors.rstrip('.')}. ", title, f". {paper.where}. ", tag("small", f"For {used}.")))
    return section("papers", "Papers to cite", tag("ul", join(entries), class_="papers")) if entries else Html()
