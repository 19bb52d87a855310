"""A run drawn in place, in a terminal or a notebook."""

from __future__ import annotations

import atexit
import io
import logging
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from ._board import Board
from ._callback import Callback, RunInfo
from ._record import Row

_TICKS = 4  # drawings per second in a terminal
_PAUSE = 0.5  # seconds from one drawing to the next in a notebook, whose every drawing travels to a browser
_HTML = (
    "<pre style=\"white-space:pre;overflow-x:auto;line-height:1.25;font-family:Menlo,'DejaVu Sans Mono',Consolas,monospace\">{code}</pre>"
)


class LiveView(Callback):
    """Curves, times and warnings of a run, drawn over and over in the same place; at the end a summary stays.

    Args:
        console: Of a terminal or a notebook.
        clock: Seconds that only grow.
        now: The time of day.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], datetime] = datetime.now):
        self._console, self._clock, self._now = console, clock, now
        self._surface: _Terminal | _Notebook | None = None

    def on_start(self, run: RunInfo) -> None:
        """Begins to draw."""
        self._board = Board(run, clock=self._clock, now=self._now)
        self._surface = (
            _Notebook(self._console, self._board, self._clock) if self._console.is_jupyter else _Terminal(self._console, self._board)
        )
        self._surface.start()

    def on_round_end(self, state: Any, row: Row) -> None:
        """Takes up the round."""
        self._board.add(row)
        if self._surface:
            self._surface.tick()

    def on_warning(self, round_number: int, text: str) -> None:
        """Takes up the warning."""
        if self._surface:
            self._board.warn(round_number, text)
            self._surface.tick()
        else:  # it came before the start, which may never come
            self._console.print(Text(f"warning (round {round_number}): {text}", "yellow"), soft_wrap=True)

    def on_end(self, status: str) -> None:
        """Leaves the summary."""
        if self._surface:
            self._board.end(status)
            self._surface.stop()
        self._surface = None


class _Drawn:
    """A board as rich draws it, and what was drawn last."""

    def __init__(self, board: Board):
        self.board = board
        self.is_final = False
        self.widths: list[int] = []  # of the lines, in characters

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # The last column stays free: a line that ends there makes some terminals begin another.
        height = 10**6 if self.is_final else max(console.size.height - 1, 3)
        lines = self.board.lines(console, max(options.max_width - 1, 1), height)
        self.widths = [line.cell_len for line in lines]
        yield from Text("\n").join(lines).render(console)


class _Terminal(Live):
    """Redraws a few times per second, from a thread of its own, so that clocks go on in a long round."""

    def __init__(self, console: Console, board: Board):
        self._drawn = _Drawn(board)
        # Output that goes elsewhere, into a file say, is left alone; what goes to the terminal is printed above the drawing.
        super().__init__(
            get_renderable=lambda: self._drawn, console=console, refresh_per_second=_TICKS,
            redirect_stdout=_is_terminal(sys.stdout), redirect_stderr=_is_terminal(sys.stderr),
        )  # fmt: skip
        self._handlers: list[tuple[logging.StreamHandler, Any]] = []

    def start(self, refresh: bool = True) -> None:
        before = (sys.stdout, sys.stderr)
        super().start(refresh)
        atexit.register(self.stop)  # the cursor is hidden until then
        for handler in _log_handlers():
            # Logging keeps the stream that it found when it was set up, past which rich's redirection goes.
            for stream, new in zip(before, (sys.stdout, sys.stderr), strict=True):
                if handler.stream is stream and new is not stream:
                    self._handlers.append((handler, handler.setStream(new)))

    def tick(self) -> None:
        """The next drawing will do."""

    def stop(self) -> None:
        self._drawn.is_final = True
        super().stop()
        atexit.unregister(self.stop)
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers = []

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        # A terminal that has become narrower has broken the lines that are too long for it now, and rich does not know of the new ones.
        broken = sum(max(width - 1, 0) // self.console.width for width in self._drawn.widths)
        up = [(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)] * broken
        self._drawn.widths = []
        found = super().process_renderables(renderables)
        return [Control(ControlType.CARRIAGE_RETURN, *up), *found] if broken else found


class _Notebook:
    """Redraws the output of a cell, by IPython alone: rich's own way needs ipywidgets, and leaves nothing in a saved notebook."""

    def __init__(self, console: Console, board: Board, clock: Callable[[], float]):
        self._console, self._board, self._clock = console, board, clock
        self._handle: Any = None
        self._drew = -_PAUSE

    def start(self) -> None:
        from IPython.display import display  # pyright: ignore[reportMissingImports]  # is there wherever a notebook is

        self._handle = display(self._page(final=False), raw=True, display_id=True)
        self._drew = self._clock()

    def tick(self) -> None:
        if self._clock() - self._drew >= _PAUSE:
            self._draw(final=False)

    def stop(self) -> None:
        self._draw(final=True)

    def _draw(self, *, final: bool) -> None:
        self._handle.update(self._page(final=final), raw=True)
        self._drew = self._clock()

    def _page(self, *, final: bool) -> dict[str, str]:
        console = Console(
            file=io.StringIO(), record=True, width=min(self._console.width, 100), height=100, force_terminal=True, color_system="truecolor",
            force_jupyter=False, legacy_windows=False,
        )  # fmt: skip
        drawn = _Drawn(self._board)
        drawn.is_final = final
        console.print(drawn)
        return {"text/html": console.export_html(clear=False, inline_styles=True, code_format=_HTML), "text/plain": console.export_text()}


def _is_terminal(stream: Any) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # no stream at all, or one that is closed
        return False


def _log_handlers() -> list[logging.StreamHandler]:
    loggers = [logging.root, *(logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger))]
    return [handler for logger in loggers for handler in logger.handlers if isinstance(handler, logging.StreamHandler)]
