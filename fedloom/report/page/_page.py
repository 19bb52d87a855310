"""The page of a run: `report.html`, one file that needs no network and no script, from what is in the run folder.

With care: everything that comes from data goes through `_html.tag`, which escapes it.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ..._files import write_text
from ..._version import __version__
from ._clients import clients
from ._costs import costs
from ._curves import curves, measurements
from ._data import RunRecord, read_run
from ._headline import headline
from ._html import Html, escaped, join, tag
from ._privacy import privacy
from ._settings import environment, papers, samples, settings
from ._troubles import left_out, warnings

_SECTIONS = {
    "curves": ("Curves", curves),
    "clients": ("Clients", clients),
    "samples": ("Text", samples),
    "costs": ("Time and traffic", costs),
    "privacy": ("Privacy", privacy),
    "left-out": ("Left out", left_out),
    "warnings": ("Warnings", warnings),
    "measurements": ("Measurements", measurements),
    "settings": ("Settings", settings),
    "environment": ("Versions", environment),
    "papers": ("Papers", papers),
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # nothing is loaded, whatever gets into the page


def write_report(run_dir: str | Path) -> Path:
    """Writes `report.html` into a run folder: what the run did to the model, to single clients, and what it took.

    Args:
        run_dir: As a run leaves it, or while it goes on; of its files only `config.json` has to be there.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: There is no run in the folder.
        ValueError: A file in it is damaged.
        OSError: The page cannot be written.
    """
    path = Path(run_dir) / "report.html"
    write_text(path, page(read_run(Path(run_dir))))
    return path


def page(run: RunRecord) -> str:
    """The page as HTML."""
    parts = {anchor: part for anchor, (_, write) in _SECTIONS.items() if (part := write(run))}
    links = (tag("a", _SECTIONS[anchor][0], href=f"#{anchor}") for anchor in parts)
    nav = tag("nav", *links, aria_label="Sections")
    main = tag("main", headline(run), nav, *(Html(f"\n{part}") for part in parts.values()))
    head = join(
        [
            Html('<meta charset="utf-8">\n'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{escaped(_POLICY)}">\n'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">\n'),
            Html('<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'),
            tag("title", f"{run.name} · fedloom"),
            Html(f"\n<style>\n{_style()}</style>\n"),
        ]
    )
    body = tag("body", main, _footer(run))
    return f'<!doctype html>\n<html lang="en">\n{tag("head", head)}\n{body}\n</html>\n'


@functools.cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _footer(run: RunRecord) -> Html:
    state = f" as it was on {run.changed:%d %B %Y at %H:%M} UTC" if run.changed else ""
    return tag("footer", tag("p", f"Written by fedloom {__version__} from the run folder {run.name}{state}."))
