"""A folder with a file or a folder per client: names, what is left out, what is refused."""

import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from data.client_files import awkward, few, ids, npz, write
from hypothesis import given
from hypothesis import strategies as st

from fedloom.data.sources._folder import from_folder


@few
@given(st.sets(ids, min_size=1, max_size=6), st.booleans())
def test_any_name_is_a_client_id(names, as_folders):
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            write(Path(root), {f"{name}/a.txt" if as_folders else f"{name}.txt": name.replace("\n", "").replace("\r", "") + "!"})
        kept = {name for name in names if as_folders or os.path.splitext(f"{name}.txt")[0] == name}
        data = from_folder(root, kind="text")
        assert list(data) == sorted(kept)
        assert all(data[name]["text"].tolist() == [name.replace("\n", "").replace("\r", "") + "!"] for name in kept)


@pytest.mark.parametrize("as_folders", [False, True])
def test_awkward_names_come_back_exactly_and_sorted(tmp_path, as_folders):
    for i, name in enumerate(awkward):
        write(tmp_path, {f"{name}/x.txt" if as_folders else f"{name}.txt": f"I am {i}"})
    data = from_folder(tmp_path)
    assert list(data.client_ids) == sorted(awkward)
    assert [data[name]["text"].tolist() for name in awkward] == [[f"I am {i}"] for i in range(len(awkward))]


@pytest.mark.parametrize("second", ["ada/x.txt", "ada.npz", "ada.TXT"])
def test_one_id_twice_is_refused_with_both_paths(tmp_path, second):
    write(tmp_path, {"ada.txt": "1", second: "2"})
    with pytest.raises(ValueError, match="must be distinct, got 'ada' twice") as error:
        from_folder(tmp_path)
    assert str(tmp_path / "ada.txt") in str(error.value) and str(tmp_path / second.split("/")[0]) in str(error.value)


def test_what_systems_leave_behind_is_left_out(tmp_path):
    litter = ["__MACOSX/._ada.txt", ".DS_Store", "Thumbs.db", "desktop.ini", "bob/.DS_Store", "bob/Thumbs.db", ".git/config"]
    write(tmp_path, {name: b"\xff\xfe" for name in litter} | {"ada.txt": "1", "bob/x.txt": "2"})
    assert dict(from_folder(tmp_path).sizes) == {"ada": 1, "bob": 1}


def test_other_files_are_refused_unless_named(tmp_path):
    write(tmp_path, {"ada.txt": "1", "bob.txt": "1", "README.md": "hello", "cy/x.txt": "3", "cy/meta.json": "{}"})
    with pytest.raises(ValueError, match=r"README.md must be .*CLIENT.txt.*3 .txt, 1 .md, 1 .json.*ignore=\['README.md'\]"):
        from_folder(tmp_path)
    with pytest.raises(ValueError, match=r"cy/meta.json must be .*CLIENT/\*.txt, got a file .json"):
        from_folder(tmp_path, ignore=["*.md"])
    assert list(from_folder(tmp_path, ignore=["*.md", "meta.json"])) == ["ada", "bob", "cy"]
    with pytest.raises(TypeError, match="ignore must be a list"):
        from_folder(tmp_path, ignore="*.md")


def test_mixed_kinds_are_listed(tmp_path):
    write(tmp_path, {"ada.txt": "1", "bob.npz": npz(x=np.arange(2)), "cy.npz": npz(x=np.arange(2))})
    with pytest.raises(ValueError, match="bob.npz must be .* there are 2 .npz, 1 .txt"):
        from_folder(tmp_path)


@pytest.mark.parametrize(
    ("files", "kind", "wrong"),
    [
        ({"ada/deep/x.txt": "1"}, "text", "ada/deep"),
        ({"ada/deep/x.npz": b""}, "npz", "ada/deep"),
        ({"ada/cat/deep/x.png": b""}, "images", "ada/cat/deep"),
        ({"ada/cat/x.png": b"", "ada/y.png": b""}, "images", "ada/cat"),
        ({"ada.png": b""}, "images", "ada.png"),
    ],
)
def test_what_lies_too_deep_or_too_high_is_refused(tmp_path, files, kind, wrong):
    with pytest.raises(ValueError, match=rf"{tmp_path}/{wrong} must be what a folder of clients has, CLIENT.*, got a f"):
        from_folder(write(tmp_path, files), kind=kind)


@pytest.mark.parametrize("place", ["ada.txt", "ada", "bob/x.txt"])
def test_links_are_refused(tmp_path, place):
    secret = write(tmp_path, {"outside/secret.txt": "secret"}) / "outside"
    root = write(tmp_path / "clients", {"bob/y.txt": "1"})
    (root / place).symlink_to(secret / "secret.txt" if place.endswith("txt") else secret)
    with pytest.raises(ValueError, match=rf"{place} must be a file or a folder, got a link"):
        from_folder(root)


def test_pipes_are_refused_rather_than_waited_for(tmp_path):
    write(tmp_path, {"ada.txt": "1"})
    os.mkfifo(tmp_path / "bob.txt")
    with pytest.raises(ValueError, match="bob.txt must be a file or a folder, got neither"):
        from_folder(tmp_path)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("1")
    with pytest.raises(ValueError, match=r"must have a name in UTF-8, got b'caf\\xe9.txt'"):
        from_folder(tmp_path)


def test_wrong_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="got nothing at"):
        from_folder(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="got a file at"):
        from_folder(tmp_path / "file")
    (tmp_path / "file").rename(tmp_path / ".hidden")
    with pytest.raises(ValueError, match="got nothing in it"):
        from_folder(tmp_path)
    write(tmp_path, {"a.pdf": b"", "b/c.pdf": b"", "d": b""})
    with pytest.raises(ValueError, match="got 2 .pdf, 1 without suffix"):
        from_folder(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "csv"}, r"kind must be one of \['images', 'npz', 'text'\]"),
        ({"resize": (2, 2)}, "resize must be left out for kind='text'.*It is for kind='images'"),
        ({"kind": "images", "encoding": "latin-1"}, "encoding must be left out for kind='images'"),
        ({"kind": "npz", "example": "file"}, "example must be left out for kind='npz'"),
        ({"example": "word"}, 'example must be "line"'),
        ({"encoding": "utf-9"}, "encoding must be a name that Python knows"),
        ({"encoding": "zlib"}, "encoding must be a name that Python knows"),
        ({"kind": "images", "mode": "CMYK"}, 'mode must be "RGB" or "L"'),
        ({"kind": "images", "resize": (0, 2)}, "resize must be"),
        ({"kind": "images", "resize": (1 << 20, 1 << 20)}, "resize must be at most"),
        ({"kind": "images", "classes": ["a", "a"]}, "classes must be distinct"),
        ({"kind": "images", "classes": "ab"}, "classes must be distinct"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        from_folder(write(tmp_path, {"ada.txt": "1"}), **options)


def test_the_reader_can_be_pickled_and_sees_that_files_changed(tmp_path):
    data = from_folder(write(tmp_path, {"ada.txt": "1\n2", "bob/x.txt": "3"}))
    again = pickle.loads(pickle.dumps(data._read))
    assert again("ada")["text"].tolist() == ["1", "2"]
    write(tmp_path, {"bob/y.txt": "4"})
    with pytest.raises(ValueError, match="Client 'bob' .* must have 1 examples .*, got 2.*open the folder anew"):
        data["bob"]
    (tmp_path / "ada.txt").unlink()
    with pytest.raises(FileNotFoundError, match="ada.txt"):
        data["ada"]
