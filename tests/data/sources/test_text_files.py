"""Clients as text files: lines, paragraphs, whole files, encodings."""

import os
import tempfile
from pathlib import Path

import pytest
from data.client_files import few, write
from hypothesis import given
from hypothesis import strategies as st

from fedloom.data.datasets import shakespeare
from fedloom.data.sources._folder import from_folder

NEWLINE = st.sampled_from(["\n", "\r\n", "\r"])


@few
@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=4), min_size=1), NEWLINE)
def test_lines_come_back_but_for_empty_ones(files, newline):
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), {f"ada/{i:03}.txt": newline.join(lines) for i, lines in enumerate(files)})
        data = from_folder(root)
        # A mark of byte order at the beginning is none of the text.
        expected = [line for lines in files for line in newline.join(lines).removeprefix("\ufeff").split(newline) if line]
        assert data["ada"]["text"].tolist() == expected
        assert data.sizes["ada"] == len(expected)


@few
@given(st.lists(st.text("ab \u2028\x0b", min_size=1).map(lambda s: s.replace("\r", "")), max_size=6), NEWLINE, st.integers(2, 4))
def test_paragraphs_come_back(lines, newline, gap):
    """Paragraphs of one, two, three... lines, between them one empty line or more."""
    paragraphs, rest = [], list(lines)
    while rest:
        size = len(paragraphs) + 1
        paragraphs.append(rest[:size])
        rest = rest[size:]
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), {"ada.txt": newline + (newline * gap).join(newline.join(p) for p in paragraphs) + newline})
        data = from_folder(root, example="paragraph")
        assert data["ada"]["text"].tolist() == ["\n".join(p) for p in paragraphs]
        assert data.sizes["ada"] == len(paragraphs)


def test_whole_files_are_kept_exactly_and_not_read_on_opening(tmp_path, monkeypatch):
    contents = ["", "\n\n", " a\r\nb\r", "\x0c"]
    write(tmp_path, {f"ada/{i}.txt": content for i, content in enumerate(contents)} | {"bob.txt": "x"})
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", None)
        data = from_folder(tmp_path, example="file")
    assert dict(data.sizes) == {"ada": 4, "bob": 1}
    assert data["ada"]["text"].tolist() == contents


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1", "cp1252", "shift_jis", "cp037"])
@pytest.mark.parametrize("example", ["line", "paragraph"])
def test_encodings(tmp_path, encoding, example):
    text = "eins\nzwei\n\ndrei ü\n" if encoding != "shift_jis" else "一\n二\n\n三 ソ\n"
    data = from_folder(write(tmp_path, {"ada.txt": text.encode(encoding)}), encoding=encoding, example=example)
    expected = text.split() if example == "line" else text.rstrip().split("\n\n")
    assert data["ada"]["text"].tolist() == ([line for line in text.split("\n") if line] if example == "line" else expected)
    assert data.sizes["ada"] == len(data["ada"]["text"])


@pytest.mark.parametrize(
    ("content", "at"), [(b"caf\xe9 x", 3), (b"\xef\xbb\xbfcaf\xe9", 6), ("é".encode("utf-16"), 0), (b"ok\nok\n\xed\xa0\x80", 6)]
)
def test_bytes_that_are_no_utf_8_are_named_by_their_position(tmp_path, content, at):
    data = from_folder(write(tmp_path, {"ada/1.txt": "fine", "ada/2.txt": content}))
    with pytest.raises(
        ValueError, match=rf"{tmp_path}/ada/2.txt must be text in utf-8, got byte 0x{content[at]:02x} at position {at} .*encoding="
    ):
        data["ada"]


def test_an_empty_folder_is_a_client_without_text(tmp_path):
    data = from_folder(write(tmp_path, {"ada.txt": "x", "bob": None, "cy.txt": ""}))
    assert dict(data.sizes) == {"ada": 1, "bob": 0, "cy": 0}
    for client in ("bob", "cy"):
        assert data[client]["text"].shape == (0,) and data[client]["text"].dtype == object


def test_a_text_too_large_for_memory_is_refused(tmp_path):
    write(tmp_path, {"ada.txt": "x"})
    os.truncate(tmp_path / "ada.txt", 1 << 40)  # takes no room on the disk
    with pytest.raises(ValueError, match=f"got {1 << 40} bytes"):
        from_folder(tmp_path)


def test_tffs_shakespeare_comes_back_from_a_folder_per_role(tff_folder, tmp_path):
    _, test = shakespeare("tff", path=tff_folder)
    for role, columns in test.items():
        write(tmp_path / "files", {f"{role}/{i:04}.txt": snippet for i, snippet in enumerate(columns["snippets"])})
        write(tmp_path / "lines", {f"{role}.txt": "\n".join(columns["snippets"])})
    files, lines = from_folder(tmp_path / "files", example="file"), from_folder(tmp_path / "lines")
    assert list(files) == list(lines) == list(test)
    assert dict(files.sizes) == dict(test.sizes)
    for role, columns in test.items():
        assert files[role]["text"].tolist() == columns["snippets"].tolist()
        said = [line for snippet in columns["snippets"] for line in snippet.split("\n") if line]
        assert lines[role]["text"].tolist() == said
        assert lines.sizes[role] == len(said)
