"""`fedloom data` as a user runs it: any source, in a terminal, through a pipe, for machines, and with what else it can keep."""

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

import fedloom as fl
from fedloom.cli import main
from fedloom.cli._data import show

EVIL = "\x1b[31mred [bold]b[/bold] [/nothing] \u4e2d\u6587 \x07"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A CSV of four clients and three labels."""
    path = tmp_path_factory.mktemp("table") / "visits.csv"
    rows = [f"{who},{i},{'abc'[i % size]}" for who, size in (("ada", 1), ("bob", 2), ("cid", 3), ("0042", 1)) for i in range(6 * size)]
    path.write_text("\n".join(["user,visit,kind", *rows]) + "\n")
    return path


def test_a_table_is_described(table, capsys):
    assert main(["data", str(table), "--client", "user", "--label", "kind"]) == 0
    shown = capsys.readouterr()
    assert "4 clients, 42 examples" in shown.out and "Labels in 'kind': 3 different" in shown.out
    assert "visit" in shown.out and "0042 (6)" in shown.out
    assert shown.err == "" and "\x1b" not in shown.out, "no progress, no colours through a pipe"
    assert all(line == line.rstrip() for line in shown.out.splitlines())


def test_json_is_the_description_and_nothing_else(table, capsys):
    assert main(["data", str(table), "--client", "user", "--label", "kind", "--samples", "1", "--max-clients", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    data = fl.data.load(table, client="user")
    assert found == json.loads(json.dumps(fl.data.describe(data, label="kind", samples=1, max_clients=2).to_dict()))
    assert (found["clients_read"], len(found["samples"])) == (2, 1)


def test_save_and_plot(table, tmp_path, capsys):
    options = ["--client", "user", "--save", str(tmp_path / "visits"), "--plot", str(tmp_path / "visits.png")]
    assert main(["data", str(table), *options]) == 0
    assert capsys.readouterr().out.count("written: ") == 2
    assert (tmp_path / "visits.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"visits", "visits.png"}
    assert main(["data", str(tmp_path / "visits"), "--json"]) == 0
    saved = json.loads(capsys.readouterr().out)
    assert (saved["clients"], saved["examples"]) == (4, 42)
    for client, columns in fl.data.load(table, client="user").items():
        for name, values in fl.data.load(tmp_path / "visits")[client].items():
            np.testing.assert_array_equal(values, columns[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere"], "nowhere"),
        (["TABLE", "--client", "who"], "who"),
        (["TABLE", "--client", "user", "--label", "sort"], "label must name a column of the data, got 'sort'"),
        (["TABLE", "--client", "user", "--max-clients", "0"], "max_clients must be at least 1"),
        (["TABLE", "--client", "user", "--save", "no/folder"], "--save must lie in a folder that exists"),
        (["TABLE", "--client", "user", "--save", "there"], "--save must name a new folder, but 'there' exists"),
        (["TABLE", "--client", "user", "--plot", "no/folder.png"], "--plot must lie in a folder that exists"),
        (["TABLE", "--client", "user", "--plot", "figure.xyz"], "xyz"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_input_is_one_paragraph_and_exit_code_2(options, message, table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert main(["data", *(str(table) if option == "TABLE" else option for option in options)]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and "Traceback" not in shown.err and shown.err.count("\n") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.fixture(scope="module")
def evil():
    """A data set whose every text is an attempt at the terminal, wide enough not to fit."""
    clients = {f"{EVIL}{i}": {EVIL: [EVIL * 10] * (i + 1), "label": [EVIL] * (i + 1)} for i in range(3)}
    return fl.data.FederatedDataset.from_dict(clients, name=EVIL)


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_terminal_shows_what_fits_and_no_command_of_the_data(evil, width, encoding):
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
    show(fl.data.describe(evil), Console(file=output, width=width, force_terminal=True, color_system=None, legacy_windows=False))
    output.flush()
    text = raw.getvalue().decode(encoding)
    assert all(line.isprintable() for line in text.splitlines())
    assert text.count("column") >= 2 or width < 80, "no column of a table gives way to another"
    assert r"\x1b[31mred" in text and ("[bold]b[/bold]" in text or width < 80)
    if encoding == "utf-8":
        assert max(Text(line).cell_len for line in text.splitlines()) <= width
        assert "\u2588" in text
    else:
        assert "###" in text


def test_colours_are_ours_alone(evil):
    output = io.StringIO()
    show(fl.data.describe(evil), Console(file=output, width=100, force_terminal=True, color_system="standard"))
    found = set(part.split("m")[0] for part in output.getvalue().split("\x1b[")[1:])
    assert found <= {"0", "1", "2", "36", "1;36", "33"}, "bold, dim, cyan, yellow"


@pytest.mark.slow
def test_in_a_real_terminal(table):
    """The program on a pseudo-terminal of 60 columns: coloured, and no line is longer than that."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    code = "import sys; from fedloom.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "data", str(table), "--client", "user"]
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")} | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, stdin=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 1 << 16):
            shown += block
    except OSError:  # how Linux says that the other end is closed
        pass
    assert process.wait() == 0
    text = shown.decode()
    assert "\x1b[1m" in text and "4 clients, 42 examples" in text
    assert max(Text.from_ansi(line).cell_len for line in text.splitlines()) <= 60


@pytest.mark.parametrize("split", ["train", "test"])
def test_tffs_shakespeare_by_its_folder(split, tff_folder, capsys):
    assert main(["data", str(tff_folder), "--split", split, "--max-clients", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["clients"], found["examples"]) == (715, {"train": 16_068, "test": 2_356}[split])


def test_help_names_the_source(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", "--help"])
    assert stop.value.code == 0
    assert "SOURCE" in capsys.readouterr().out
