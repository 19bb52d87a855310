"""`fedloom data`: what a source of federated data holds, in the terminal."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fedloom.data import Description, FederatedDataset

_Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_WIDEST = 60  # characters of the longest bar


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Show what federated data hold: clients, sizes, columns, label skew, samples. Keep them in a form that opens at once, or plot them.

    SOURCE is the name of a public data set, such as shakespeare; or a file or folder: CSV, Parquet, Arrow, TFF's SQLite or HDF5,
    FedJAX's SQLite, LEAF's json, a folder with a file or folder per client, or what --save wrote.

    Example: fedloom data visits.csv --client user_id --save visits
    """

    source: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SOURCE")]]  # a file, a folder, or the name of a public data set
    client: _Name = None  # for tables, the column with the client ids; by default client_id
    split: _Name = None  # for sources with several, which one, such as train
    label: _Name = None  # the column with the labels; by default y or label, if there is one
    samples: int = 3  # clients whose first examples are shown
    max_clients: int = 1_000  # clients that are read for columns and labels, drawn at random
    seed: int = 0  # of that draw
    save: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None  # keep the data there, a new folder, which opens at once
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None  # keep a figure there of sizes and labels
    json: bool = False  # print one line of JSON, and no progress
    traceback: bool = False  # show where an error came from

    def run(self) -> None:
        """Describes, and does what else was asked for."""
        from fedloom import data

        for option, path in (("--save", self.save), ("--plot", self.plot)):
            if path is not None and not path.absolute().parent.is_dir():
                raise ValueError(f"{option} must lie in a folder that exists, got {str(path)!r}. Make {str(path.parent)!r} first.")
        if self.save is not None and self.save.exists():
            raise ValueError(f"--save must name a new folder, but {str(self.save)!r} exists. Choose another name, or remove it.")
        progress = Console(stderr=True, quiet=self.json or not sys.stderr.isatty())
        # What is downloaded has a progress bar of its own.
        with progress.status("opening") if Path(self.source).exists() else nullcontext():
            dataset = data.load(self.source, client=self.client, split=self.split)
        with progress.status("reading"):
            found = data.describe(dataset, label=self.label, max_clients=self.max_clients, samples=self.samples, seed=self.seed)
        if self.json:
            print(json.dumps(found.to_dict()))
        else:
            _print(found)
        if self.plot is not None:
            with progress.status("drawing"):
                _save_plot(data.plot(dataset, label=self.label, seed=self.seed), self.plot)
        if self.save is not None:
            _save(dataset, self.save, progress)
        if not self.json:
            for path in (self.plot, self.save):
                if path is not None:
                    Console().print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)


def _print(found: Description) -> None:
    """To a terminal in its width, with colours; elsewhere as plain lines of any length."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # data may hold what the encoding of the output lacks
    console = Console()
    if console.is_terminal:
        show(found, console)
    else:
        print(str(found).replace("█", "#") if console.options.ascii_only else found)


def show(found: Description, console: Console) -> None:
    """Prints a description as wide as the console. Its text comes from data, so none of it is taken for markup."""
    title, *sections = found.sections()
    console.print(Text(title.title, style="bold"))
    for line in title.lines:
        console.print(Text(line, style="yellow"))
    for section in sections:
        console.print()
        console.print(Text(section.title, style="bold cyan"))
        parts = [_bars(section.bars, console), _table(section.table, console), *map(Text, section.lines)]
        console.print(Padding(Group(*(part for part in parts if part)), (0, 0, 0, 2), expand=False))


def _bars(bars: Sequence[tuple[str, float, str]], console: Console) -> RenderableType | None:
    if not bars:
        return None
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", max_width=30, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="crop")
    beside = min(30, max(Text(name).cell_len for name, _, _ in bars)) + max(len(value) for _, _, value in bars)
    room = max(8, min(_WIDEST, console.width - beside - 8))
    for name, share, value in bars:
        table.add_row(Text(name), Text(value), Text(_bar(share * room, ascii_only=console.options.ascii_only), style="cyan"))
    return table


def _bar(length: float, *, ascii_only: bool) -> str:
    """So many characters, but something in any case if it is more than nothing."""
    if ascii_only:
        return "#" * max(round(length), length > 0)
    eighths = max(round(8 * length), length > 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _table(rows: Sequence[tuple[str, ...]], console: Console) -> RenderableType | None:
    """One line a row: each column but the last gets its share of the width at most, and what it leaves falls to the last."""
    if not rows:
        return None
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    room = console.width - 2
    columns = [[Text(cell) for cell in column] for column in zip(*rows, strict=True)]
    for i, column in enumerate(columns):
        share = room if i == len(columns) - 1 else console.width // len(columns) - 2
        for cell in column:
            cell.truncate(max(share, 1), overflow="ellipsis")
        room -= max(cell.cell_len for cell in column) + 2
        table.add_column(column[0], no_wrap=True)
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*row)
    return table


def _save_plot(figure, path: Path) -> None:
    from fedloom._files import replacing

    with replacing(path) as unfinished:
        figure.savefig(unfinished)


def _save(dataset: FederatedDataset, path: Path, console: Console) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("saving, clients"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console.quiet) as bar:
        task = bar.add_task("", total=len(dataset))
        dataset.save(path, on_client=lambda _: bar.advance(task))
