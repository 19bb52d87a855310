"""How commands speak: lines that no terminal width breaks, and no text of data is taken for markup."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


class Failed(Exception):
    """The command did its work, and the outcome is a failure; its message is shown, and the exit code is 1."""


def say(text: str, *, error: bool = False) -> None:
    """A line on standard output, or standard error."""
    Console(stderr=error).print(text, highlight=False, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """A line of less weight, where somebody watches."""
    console = Console(stderr=True)
    if console.is_terminal:
        console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)


def table(*columns: str) -> Table:
    """An empty table with these headings, without lines."""
    return Table(*columns, box=None, header_style="bold", pad_edge=False)
