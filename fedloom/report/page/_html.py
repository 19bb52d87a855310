"""HTML as text. Whatever is not `Html` is escaped when it goes into a tag, so nothing that comes from data can be markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Html(str):
    """Text that is HTML already."""


def escaped(text: str) -> Html:
    """Text as HTML; what HTML or UTF-8 cannot hold becomes a replacement character.

    Example:
        >>> escaped('<b> & "c"')
        '&lt;b&gt; &amp; &quot;c&quot;'
    """
    if isinstance(text, Html):
        return text
    return Html(html.escape(_CONTROL.sub("\ufffd", str(text)).encode("utf-8", "replace").decode("utf-8")))


def join(parts: Iterable[str], between: str = "") -> Html:
    """Parts one after the other."""
    return Html(escaped(between).join(escaped(part) for part in parts))


def tag(name: str, *children: str, **attributes: object) -> Html:
    """An element.

    Args:
        name: Of the element.
        children: What is in it; escaped, unless it is Html.
        attributes: By name, with "_" for "-" and one at the end where Python has the word; None leaves one out.

    Example:
        >>> tag("p", "1 < 2", class_="note", data_x=3)
        '<p class="note" data-x="3">1 &lt; 2</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(f"{value:.1f}" if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def section(anchor: str, title: str, *content: str) -> Html:
    """A part of the page; empty if there is nothing to say."""
    if not any(content):
        return Html()
    return tag("section", tag("h2", title, id=f"{anchor}-title"), *content, id=anchor, aria_labelledby=f"{anchor}-title")


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1, shown: bool = False) -> Html:
    """A table that scrolls in a box of its own where it is too wide.

    Args:
        caption: What it is, for those who hear the page.
        header: A name per column.
        rows: A text per column.
        numbers_from: The first of the columns that are aligned to the right.
        shown: Whether the caption can be seen.
    """

    def cells(kind: str, row: Sequence[str]) -> Html:
        scope = "col" if kind == "th" else None
        return join(tag(kind, cell, class_="number" if i >= numbers_from else None, scope=scope) for i, cell in enumerate(row))

    head = tag("thead", tag("tr", cells("th", header)))
    body = tag("tbody", *(tag("tr", cells("td", row)) for row in rows))
    title = tag("caption", caption, class_=None if shown else "unseen")
    return tag("div", tag("table", title, head, body), class_="scroll", tabindex="0", role="region", aria_label=caption)


def tiles(items: Iterable[tuple[str, str, str]], kind: str = "tiles") -> Html:
    """Numbers to be seen at a glance: what it is, the number, and a remark."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", what), tag("dd", number, class_="value"), tag("dd", remark, class_="remark") if remark else Html())
            for what, number, remark in items
        ),
        class_=kind,
    )


def pairs(items: Iterable[tuple[str, str]]) -> Html:
    """Names and values, in as many columns as there is room for."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in items), class_="pairs")


def callout(kind: str, *content: str) -> Html:
    """A remark that nobody should miss; kind is "bad" or "note"."""
    return tag("p", *content, class_=f"callout {kind}")
