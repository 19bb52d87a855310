"""What a run shows of itself: fake runs, with a clock that the tests move."""

import io
import json
import logging
import math
import re
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fedloom.report import RunInfo, batch_bar
from fedloom.report._board import Board
from fedloom.report._lines import JsonLines, PlainLines, QuietLines
from fedloom.report._live import LiveView
from fedloom.report._pace import Pace
from fedloom.report._progress import progress
from fedloom.report._sparkline import sparkline

NOON = datetime(2024, 5, 6, 12, 0)


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def info(rounds=20, history=(), run_dir=None, config=None, best_by="accuracy"):
    return RunInfo(rounds=rounds, config=config or {"algorithm": "fedavg"}, run_dir=run_dir, history=history, best_by=best_by)


def row(r, every=5, seconds=2.0, **more):
    training = (
        {"loss": 4.0 - r / 10, "seconds": seconds, "data_seconds": 0.5, "compute_seconds": 1.0, "clients_per_second": 25.0} if r else {}
    )
    held_out = {"eval_loss": 5.0 - r / 10, "eval_accuracy": r / 40, "evaluate_seconds": 1.0} if r % every == 0 else {}
    return {"round": r, **training, **held_out, **more}


def terminal(width=100, height=40, **more):
    return Console(file=Tty(), force_terminal=True, width=width, height=height, color_system="truecolor", legacy_windows=False, **more)


def board_of(run, rows, clock=None):
    """After these rounds, each of which took 3 seconds by the clock."""
    clock = clock or Clock()
    board = Board(run, clock=clock, now=lambda: NOON)
    for r in rows:
        clock.seconds += 3
        board.add(r)
    return board


def text_of(board, console, width=99, height=1000):
    return [line.plain for line in board.lines(console, width, height)]


# Curves


@given(st.lists(st.floats(), max_size=200), st.integers(1, 60), st.booleans())
def test_a_sparkline_takes_any_numbers(values, width, ascii_only):
    line = sparkline(values, width, ascii_only=ascii_only)
    assert len(line) == min(len(values), width)
    assert not ascii_only or line.isascii()


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=50))
def test_a_sparkline_rises_where_the_values_do(values):
    line = sparkline(values, 50)
    pairs = [(values[i], line[i]) for i in range(len(values))]
    assert all(a <= b for (x, a) in pairs for (y, b) in pairs if x <= y)


def test_a_sparkline_shows_what_is_not_finite():
    assert sparkline([1.0, math.nan, 2.0, math.inf], 4) == "▁x█x"


# Pace


def test_the_rest_takes_its_rounds_and_their_share_of_evaluations_and_of_what_lies_between():
    """2 s a round, 0.5 s between rounds, 10 s every 5 rounds: 4.5 s a round."""
    pace = Pace(100)
    for r in range(11):
        evaluated = {"evaluate_seconds": 10.0} if r % 5 == 0 else {}
        pace.add({"round": r, "seconds": 2.0, **evaluated}, 2.5 + (10 if evaluated else 0))
    assert pace.seconds_per_round == 2
    assert pace.remaining == pytest.approx(90 * 4.5)


def test_a_first_round_that_compiles_is_not_taken_for_the_pace():
    pace = Pace(10)
    pace.add({"round": 1, "seconds": 60.0}, 60.0)
    assert pace.remaining is None
    pace.add({"round": 2, "seconds": 1.0}, 1.0)
    pace.add({"round": 3, "seconds": 1.0}, 1.0)
    assert pace.remaining == pytest.approx(7)


def test_history_tells_the_pace_until_there_are_new_rounds():
    pace = Pace(10, [{"round": r, "seconds": 5.0} for r in range(5)])
    assert pace.remaining == 6 * 5
    for r in (5, 6):
        pace.add({"round": r, "seconds": 1.0}, 1.0)
    assert pace.remaining == 4 * 1


# Lines


def lines_of(view, events, clock, rounds=20, history=()):
    """Events: seconds to wait and a row, or (round, warning)."""
    view.on_start(info(rounds, history, Path("runs/a")))
    for event in events:
        if isinstance(event[1], str):
            view.on_warning(*event)
        else:
            clock.seconds += event[0]
            view.on_round_end(None, event[1])
    view.on_end("finished")


def test_plain_prints_evaluated_rounds_and_warnings():
    clock, console = Clock(), Console(file=io.StringIO(), width=40)
    view = PlainLines(console, clock=clock, now=lambda: NOON)
    events = [(0, row(0)), *((2, row(r)) for r in range(1, 5)), (3, "no [client] came"), (3, row(5)), *((2, row(r)) for r in range(6, 10))]
    lines_of(view, [*events, (3, row(10))], clock, rounds=10)
    assert console.file.getvalue().splitlines() == [
        "round    0/10  held out loss 5.0000 accuracy 0.0000",
        "warning (round 3): no [client] came",
        "round    5/10  held out loss 4.5000 accuracy 0.1250  training loss 3.5000  2.0 s  left 0:11, until 12:00",
        "round   10/10  held out loss 4.0000 accuracy 0.2500  training loss 3.0000  2.0 s",
        "finished after round 10/10 in 0:22",
    ]


def test_plain_is_not_silent_for_more_than_a_minute_of_rounds():
    clock, console = Clock(), Console(file=io.StringIO())
    events = [(25.0, row(r, every=100, seconds=25.0)) for r in range(1, 8)]
    lines_of(PlainLines(console, clock=clock, now=lambda: NOON), events, clock)
    lines = console.file.getvalue().splitlines()
    assert [line[:13] for line in lines] == ["round    3/20", "round    6/20", "finished afte"]
    assert lines[0] == "round    3/20  training loss 3.7000  25.0 s  left 7:05, until 12:07"


def test_plain_says_where_a_resumed_run_goes_on():
    clock, console = Clock(), Console(file=io.StringIO())
    lines_of(PlainLines(console, clock=clock), [(3, row(5))], clock, history=[row(r) for r in range(5)])
    assert console.file.getvalue().startswith("resumed after round 4/20\nround    5/20")


def test_json_is_an_object_per_event():
    clock, console = Clock(), Console(file=io.StringIO(), width=20)
    odd = {"round": 1, "loss": math.nan, "self": np.float32(0.5), "num": np.int64(3), "norms": [1.0, math.inf], "text": "[bold]a\nb :tada:"}
    lines_of(JsonLines(console), [(0, odd), (1, "trouble")], clock)
    start, end_of_round, warning, end = map(json.loads, console.file.getvalue().splitlines())
    known = {"rounds": 20, "resumed_after": None, "run_dir": str(Path("runs/a")), "best_by": "accuracy", "config": {"algorithm": "fedavg"}}
    assert start == {"event": "start", **known}
    assert end_of_round == {"event": "round", **odd, "loss": None, "self": 0.5, "norms": [1.0, None]}
    assert warning == {"event": "warning", "round": 0, "text": "trouble"} | {"round": 1}
    assert end == {"event": "end", "status": "finished"}


def test_quiet_prints_warnings_only():
    clock, console = Clock(), Console(file=io.StringIO())
    lines_of(QuietLines(console), [(0, row(0)), (1, "trouble")], clock)
    assert console.file.getvalue() == "warning (round 1): trouble\n"


# Which of them


@pytest.mark.parametrize("mode", ["plain", "json", "quiet"])
def test_modes_are_what_they_are_called(mode):
    assert type(progress(mode, terminal())) is {"plain": PlainLines, "json": JsonLines, "quiet": QuietLines}[mode]


def test_auto_is_live_where_somebody_watches():
    assert isinstance(progress("auto", terminal()), LiveView)
    assert isinstance(progress("auto", Console(force_jupyter=True)), LiveView)
    assert isinstance(progress("auto", Console(file=io.StringIO())), PlainLines)
    assert isinstance(progress("auto", Console(file=io.StringIO(), force_terminal=True)), PlainLines), "colours in a log are no terminal"
    assert isinstance(progress("live", Console(file=io.StringIO())), PlainLines)
    assert isinstance(progress("live", Console(file=io.StringIO(), force_terminal=True)), LiveView)


def test_progress_goes_to_standard_error(capsys):
    progress("quiet").on_warning(1, "trouble")
    assert capsys.readouterr() == ("", "warning (round 1): trouble\n")


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="progress must be one of 'auto', 'live', .* got 'loud'"):
        progress("loud")


# The live view


def test_the_board_shows_where_the_run_is():
    board = board_of(info(run_dir=Path("runs/a")), [row(r, epsilon=0.5, accuracy=0.1) for r in range(11)])
    board.warn(3, "odd")
    title, bar, times, *rest = text_of(board, terminal())
    assert title == f"fedavg  {Path('runs/a')}"
    assert bar.startswith("round 10/20 ━━━") and bar.endswith("─  50%") and len(bar) == 99
    assert times == "elapsed 0:33  left 0:30  done at 12:00"
    assert re.fullmatch(r"training loss      [▁-█]{10}  3.9000 → 3.0000", rest[1])
    assert re.fullmatch(r"held out loss      ████▅▅▅▁▁▁  5.0000 → 4.0000  best 4.0000 in round 10", rest[2])
    assert re.fullmatch(r"held out accuracy  ▁▁▁▁▅▅▅███  0.0000 → 0.2500  best 0.2500 in round 10", rest[3])
    assert "2.00 s/round  25.0 clients/s  epsilon 0.5000" in rest
    # Of 10 rounds of 2 s and 2 evaluations of 1 s: 5 s of data, 10 s of computing, 5 s unaccounted for.
    assert "████████████████████████  data 23%  compute 45%  evaluate 9%  other 23%" in rest
    assert rest[-1] == "warning (round 3): odd"


def test_the_board_before_there_is_a_pace():
    board = board_of(info(rounds=5), [row(0)])
    title, bar, times, _, loss, accuracy, *rest = text_of(board, terminal())
    assert (title, bar[:9], times) == ("fedavg", "round 0/5", "elapsed 0:03  the first round compiles")
    assert re.fullmatch("held out loss      [▁-█]  5.0000  best 5.0000 in round 0", loss)
    assert re.fullmatch("held out accuracy  [▁-█]  0.0000  best 0.0000 in round 0", accuracy)
    assert rest == [""]


def test_the_clock_goes_on_within_a_round():
    clock = Clock()
    board = board_of(info(), [row(r) for r in range(11)], clock)
    clock.seconds += 8
    assert text_of(board, terminal())[2] == "elapsed 0:41  left 0:22  done at 12:00"


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_the_board_fits_any_terminal(ascii_only, ended):
    console = terminal()
    if ascii_only:
        console.file.encoding = "ascii"
    rows = [row(r, **{"eval_shifted.loss": 1e9, "epsilon": 0.5, "eval_x": [1]}) for r in range(20)]
    board = board_of(info(run_dir=Path("runs") / ("long" * 20), best_by="x"), rows)
    for r in range(5):
        board.warn(r, "word " * r * 20)
    if ended:
        board.end("interrupted")
    for width in range(1, 130):
        lines = board.lines(console, width, 1000)
        assert max(line.cell_len for line in lines) <= width
        assert not ascii_only or all(line.plain.isascii() for line in lines)
    heights = [len(board.lines(console, 60, height)) for height in range(3, 40)]
    assert all(found <= max(height, 4) for found, height in zip(heights, range(3, 40), strict=True))


def test_a_narrow_board_puts_curves_below_their_names():
    lines = text_of(board_of(info(), [row(r) for r in range(11)]), terminal(), width=39)
    at = lines.index("held out accuracy  0.0000 → 0.2500")
    assert lines[at + 1] == "▁▁▁▁▅▅▅███  best 0.2500"


def test_curves_of_a_resumed_run_begin_in_its_past():
    board = board_of(info(history=[row(r) for r in range(11)]), [row(11)])
    lines = text_of(board, terminal())
    assert lines[1].startswith("round 11/20")
    assert re.search(r"training loss +[▁-█]{11}  3.9000 → 2.9000", "\n".join(lines))
    board.end("finished")
    assert text_of(board, terminal())[1].startswith("finished: after round 11 of 20 in 0:03 (from round 11 on)")


def test_warnings_that_differ_in_numbers_only_are_counted():
    board = board_of(info(), [row(0)])
    for r in range(1, 13):
        board.warn(r, f"{r} clients left out, loss {r}.5")
    board.warn(12, "guard")
    assert text_of(board, terminal())[-2:] == [
        "warning (x 12, last in round 12): 12 clients left out, loss 12.5",
        "warning (round 12): guard",
    ]
    for word in ("a", "b", "c"):
        board.warn(13, word)
    assert text_of(board, terminal())[-4:] == ["13 earlier warnings", *(f"warning (round 13): {word}" for word in "abc")]


def test_metrics_that_are_missing_or_not_finite_do_no_harm():
    rows = [
        {"round": 0},
        {"round": 1, "loss": math.nan},
        {"round": 2, "loss": math.inf, "eval_accuracy": math.nan},
        {"round": 3, "loss": [1]},
    ]
    lines = text_of(board_of(info(config={"a": 1}), rows), terminal())
    assert lines[0] == "federated training"
    assert any(re.fullmatch(r"held out accuracy  xx  nan", line) for line in lines)


def test_a_metric_of_the_users_own_is_shown_if_it_judges_the_run():
    rows = [row(r, eval_f1=r / 10, eval_perplexity=9.0 - r) for r in range(6)]
    assert any(line.startswith("held out f1") and "best" not in line for line in text_of(board_of(info(best_by="f1"), rows), terminal()))
    lines = text_of(board_of(info(best_by="perplexity"), rows), terminal())
    assert any(line.startswith("held out perplexity") and line.endswith("best 4.0000 in round 5") for line in lines)


def screen(console):
    """What was written, without the sequences that colour it and move the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def test_the_live_view_leaves_a_summary_and_everything_as_it_was():
    console, clock = terminal(), Clock()
    before = (sys.stdout, sys.stderr)
    view = LiveView(console, clock=clock, now=lambda: NOON)
    view.on_start(info(rounds=10))
    for r in range(11):
        clock.seconds += 3
        view.on_round_end(None, row(r))
    view.on_warning(10, "odd")
    view.on_end("finished")
    assert (sys.stdout, sys.stderr) == before
    assert console.file.getvalue().endswith("\x1b[?25h"), "the cursor is back"
    last = screen(console)[screen(console).rindex("fedavg") :]
    assert last.splitlines()[1] == "finished: 10 rounds in 0:33  2.00 s/round  25.0 clients/s"
    assert "best 0.2500 in round 10" in last and "warning (round 10): odd" in last and "elapsed" not in last
    view.on_end("finished")  # once more does nothing


def test_a_warning_before_the_start_is_shown():
    console = terminal()
    view = LiveView(console)
    view.on_warning(0, "a damaged checkpoint")
    assert "warning (round 0): a damaged checkpoint" in screen(console)
    view.on_end("failed")


def test_prints_and_logs_appear_above_the_live_view(monkeypatch):
    console = terminal()
    monkeypatch.setattr(sys, "stdout", console.file)
    monkeypatch.setattr(sys, "stderr", console.file)
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger("fedloom.test"), "handlers", [handler])
    view = LiveView(console)
    view.on_start(info())
    print("a print of the user's")
    logging.getLogger("fedloom.test").warning("a log line")
    view.on_round_end(None, row(0))
    view.on_end("failed")
    assert handler.stream is console.file
    written = screen(console)
    for text in ("a print of the user's\n", "a log line\n"):
        assert "fedavg" in written[: written.index(text)] and "fedavg" in written[written.index(text) :]


def test_prints_that_go_into_a_file_stay_there(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    view = LiveView(terminal())
    view.on_start(info())
    print("for the file")
    view.on_end("finished")
    assert file.getvalue() == "for the file\n"


def test_lines_that_a_narrower_terminal_broke_are_erased():
    """The bar takes 99 characters of 100, and so two lines more at 40; the other lines are short."""
    console = terminal(width=100)
    view = LiveView(console, clock=Clock())
    view.on_start(info())
    view._surface.auto_refresh = False
    view._surface._refresh_thread.stop()
    view._surface.refresh()
    height = len(text_of(view._board, console))
    for width, ups in ((100, height - 1), (40, height - 1 + 2), (40, height - 1)):
        console.width = width
        start = len(console.file.getvalue())
        console.print("!")
        assert console.file.getvalue()[start:].count("\x1b[1A") == ups
    view.on_end("finished")


def test_a_notebook_needs_ipython_only(monkeypatch):
    shown = []

    class Handle:
        def update(self, page, raw):
            shown.append(page)

    module = ModuleType("IPython.display")
    module.display = lambda page, raw, display_id: shown.append(page) or Handle()
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    clock = Clock()
    view = LiveView(Console(force_jupyter=True), clock=clock, now=lambda: NOON)
    view.on_start(info(rounds=10))
    for r in range(11):
        clock.seconds += 0.2
        view.on_round_end(None, row(r))
    assert len(shown) == 1 + 3, "half a second lies between drawings"
    view.on_warning(10, "<b> & [red]")
    view.on_end("finished")
    assert "&lt;b&gt; &amp; [red]" in shown[-1]["text/html"]
    assert shown[-1]["text/plain"].splitlines()[1].startswith("finished: 10 rounds")


def test_a_batch_bar_counts_batches():
    console = terminal()
    bar, on_batch = batch_bar("batch", console)
    with bar:
        on_batch(3, 7, 1.25)
    assert "3/7" in screen(console) and "loss 1.2500" in screen(console)
