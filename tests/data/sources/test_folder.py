"""A folder with a file or a folder per client."""

import io
import os
import pickle
import shutil
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedloom.data.datasets import shakespeare
from fedloom.data.sources._folder import from_folder

few = settings(max_examples=40, deadline=None)

# Names that a file system takes as they are, and that are no hidden files.
ids = st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: not name.startswith(".") and name not in ("__MACOSX", "Thumbs.db", "desktop.ini")
)
awkward = ["007", "7", "O'BRIEN\"; --", " space ", "a.b.c", "caf\u00e9", "cafe\u0301", "\u202e", "%20?", "-rf", "nul\n", "王"]


def write(root: Path, files: dict[str, bytes | str | None]) -> Path:
    """Files by path; None is an empty folder."""
    for name, content in files.items():
        path = root / name
        if content is None:
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def npz(compressed: bool = False, **arrays) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def npy_in_zip(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content)
    return file.getvalue()


def image(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


RNG = np.random.default_rng(0)
PIXELS = RNG.integers(256, size=(4, 5, 6, 3)).astype(np.uint8)


# --- names


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


# --- text

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


# --- npz

DTYPES = ["?", "u1", "<i2", ">i4", "<i8", "<f2", ">f4", "<f8", "<c8", "<U3", ">U2", "S4", "<M8[D]", "<m8[ns]"]


@few
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4),
    st.sampled_from([(), (2,), (3, 2)]),
    st.booleans(),
    st.integers(0, 99),
)
def test_arrays_come_back(clients, dtypes, shape, compressed, seed):
    rng = np.random.default_rng(seed)

    def array(dtype, count):
        numbers = rng.integers(0, 9, (count, *shape))
        kind = np.dtype(dtype).kind
        made = numbers.astype({"U": str, "S": bytes}.get(kind, "i8")).astype(dtype)
        return np.asfortranarray(made) if seed % 2 else made

    names = ["x", "y", "Größe/1", "z.npy"]
    written = {
        str(i): [{name: array(dtype, count) for name, dtype in zip(names, dtypes, strict=False)} for count in counts]
        for i, counts in enumerate(clients)
    }
    with tempfile.TemporaryDirectory() as root:
        for client, parts in written.items():
            if len(parts) == 1:
                write(Path(root), {f"{client}.npz": npz(compressed, **parts[0])})
            for i, part in enumerate(parts if len(parts) > 1 else []):
                write(Path(root), {f"{client}/{i}.npz": npz(compressed, **part)})
        data = from_folder(root)
        for client, parts in written.items():
            columns = data[client]
            assert data.sizes[client] == sum(len(part["x"]) for part in parts)
            assert list(columns) == names[: len(dtypes)]
            for name, column in columns.items():
                expected = np.concatenate([part[name] for part in parts])
                assert column.tolist() == expected.tolist()
                assert column.dtype == (object if expected.dtype.kind in "US" else expected.dtype.newbyteorder("="))
                assert column.shape == expected.shape


def test_opening_reads_headers_only(tmp_path):
    """Damage in the arrays is not seen before they are read."""
    content = bytearray(npz(x=np.zeros(100_000, np.uint8)))
    content[60_000] ^= 1
    data = from_folder(write(tmp_path, {"ada.npz": bytes(content)}))
    assert data.sizes["ada"] == 100_000
    with pytest.raises(ValueError, match="ada.npz must be an .npz file.*CRC"):
        data["ada"]


def test_an_empty_folder_is_a_client_with_empty_arrays(tmp_path):
    arrays = {"x": np.zeros((3, 2, 4), ">f4"), "y": np.array(["a", "b", "c"])}
    data = from_folder(write(tmp_path, {"ada.npz": npz(**arrays), "aaa": None}))
    assert dict(data.sizes) == {"aaa": 0, "ada": 3}
    columns = pickle.loads(pickle.dumps(data._read))("aaa")
    assert {name: (column.shape, column.dtype) for name, column in columns.items()} == {
        "x": ((0, 2, 4), np.dtype(np.float32)),
        "y": ((0,), np.dtype(object)),
    }


def test_no_example_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold one file at least"):
        from_folder(write(tmp_path, {"ada": None}), kind="npz")


class Loud:
    def __reduce__(self):
        return os.mkdir, ("/tmp/this-was-unpickled",)


HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npz(x=np.array([Loud()], object)), "dtype '|O' in 'x'"),
        (npz(x=np.zeros(2, "i4,f4")), "a header"),
        (npz(x=np.float32(1)), r"shape \(\)"),
        (npz(x=np.zeros((2, 0))), r"shape \(2, 0\)"),
        (npz(x=np.zeros(2), y=np.zeros(3)), "not equally long, {'x': 2, 'y': 3}"),
        (npz(), "no array"),
        (b"", "cannot be read"),
        (b"PK\x05\x06", "cannot be read"),
        (npy_in_zip(HUGE % "1000000000000,"), "8000000000000 bytes, before 0 bytes"),
        (npy_in_zip(HUGE % "4294967296, 4294967296, 4294967296"), "bytes, before 0 bytes"),  # 0 in 64 bits
        (npy_in_zip(HUGE % "1,", bytes(9)), "8 bytes, before 9 bytes"),
        (npy_in_zip(HUGE % "-1,"), "a header"),
        (npy_in_zip("__import__('os')"), "a header"),
        (npy_in_zip("{" * 5000), "a header"),
        (npy_in_zip("{'shape': (1,)" + " " * 60_000 + "!}"), "a header"),  # takes minutes where spaces match in many ways
        (npy_in_zip(HUGE.replace("<f8", "<U0") % "1000000000,"), "dtype '<U0'"),
        (npy_in_zip(HUGE.replace("<f8", "<f3") % "1,", bytes(3)), "dtype '<f3'"),
        (npy_in_zip(HUGE.replace("<f8", "<U1") % "1,", b"\xff" * 4), "text in 'x' with numbers that are no characters"),
        (npy_in_zip(HUGE % "1,", bytes(8), version=b"\x09\x00"), "at the beginning of 'x'"),
    ],
)
def test_arrays_that_are_none_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"{tmp_path}/ada.npz must be an .npz file.*{message}"):
        from_folder(write(tmp_path, {"ada.npz": content}))["ada"]
    assert not os.path.exists("/tmp/this-was-unpickled")


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_zip_bomb_is_refused_before_it_goes_off(tmp_path, as_folder):
    """4 GB of zeros, 4 MB under deflate; the array is large only inside."""
    header = HUGE % f"{1 << 26},"  # half a gigabyte each
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for _ in range(1 << 9):
            member.write(bytes(1 << 20))
    bomb = file.getvalue()
    names = [f"ada/{i}.npz" for i in range(5)]
    with pytest.raises(ValueError, match=r"3.npz must be .*got arrays of 2147483\d+ bytes under compression, over the bound of 2147483648"):
        from_folder(write(tmp_path, dict.fromkeys(names, bomb)))
    if as_folder:
        return
    # The same as one that lies about its sizes: the directory says that a megabyte becomes a gigabyte and a half.
    lying = bytearray(npz(compressed=True, x=np.zeros(1 << 10)))
    at = lying.rindex(b"PK\x01\x02")
    lying[at + 24 : at + 28] = struct.pack("<I", 3 << 29)
    with pytest.raises(ValueError, match="which no compression makes"):
        from_folder(write(tmp_path / "lying", {"ada.npz": bytes(lying)}))


@pytest.mark.parametrize(
    ("names", "compression", "message"),
    [
        (["x.npy"], zipfile.ZIP_LZMA, "under encryption or another compression"),
        (["x.npy", "y.npy"], zipfile.ZIP_STORED, "'x.npy' in it that is no array, or comes twice"),
        (["x.npy", "x.npy.txt"], zipfile.ZIP_STORED, "'x.npy.txt' in it that is no array, or comes twice"),
    ],
)
def test_what_numpy_does_not_write_is_refused(tmp_path, names, compression, message):
    with zipfile.ZipFile(io.BytesIO(npz(x=np.zeros(2)))) as archive:
        array = archive.read("x.npy")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name in names:
            archive.writestr(name, array)
    with pytest.raises(ValueError, match=message):
        from_folder(write(tmp_path, {"ada.npz": file.getvalue().replace(b"y.npy", b"x.npy")}))


def test_all_clients_must_have_the_same_columns(tmp_path):
    good = npz(x=np.zeros((2, 3), np.float32), y=np.array(["a", "bb"]))
    for number, other in enumerate([npz(x=np.zeros((2, 3), np.float32)), npz(x=np.zeros((1, 3)), y=np.array(["a"]))]):
        with pytest.raises(
            ValueError, match=r"bob.npz must be a file with the columns that .*ada.npz has, {'x': 'float32', 'y': 'str'}, got"
        ):
            from_folder(write(tmp_path / str(number), {"ada.npz": good, "bob.npz": other}))
    with pytest.raises(ValueError, match=r"2.npz must be .*got examples of shape \(4,\) in 'x' where .*1.npz has \(3,\)"):
        from_folder(
            write(tmp_path / "shapes", {"ada/1.npz": good, "ada/2.npz": npz(x=np.zeros((2, 4), np.float32), y=np.array(["a", "b"]))})
        )
    longer = npz(x=np.zeros((2, 7), np.float32), y=np.array(["cccc", "dddd"]))  # between clients, shapes and lengths of text may differ
    data = from_folder(write(tmp_path / "longer", {"ada.npz": good, "bob.npz": longer}))
    assert data["bob"]["x"].shape == (2, 7) and data["bob"]["y"].tolist() == ["cccc", "dddd"]


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_damaged_arrays_are_read_or_refused(data):
    arrays = {"x": np.arange(12.0).reshape(4, 3), "y": np.array(["a", "é", "ccc", ""])}
    content = bytearray(npz(data.draw(st.booleans()), **arrays))
    check_damaged(data, content, "ada.npz", "npz")


def check_damaged(data, content: bytearray, name: str, kind: str, **options) -> None:
    """Cut off or with some bytes changed: read as something, or a ValueError that names the file."""
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as root:
        try:
            opened = from_folder(write(Path(root), {name: bytes(content)}), kind=kind, **options)
            columns = opened["ada"]
            assert {len(column) for column in columns.values()} == {opened.sizes["ada"]}
        except ValueError as error:
            assert name in str(error)


# --- images


@few
@given(
    st.dictionaries(
        st.sampled_from(["ada", "bob", "cy"]), st.dictionaries(ids.map(lambda s: s + "!"), st.integers(0, 3), max_size=2), min_size=1
    ),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from(["RGB", "L"]),
    st.booleans(),
    st.integers(0, 99),
)
def test_images_come_back(clients, size, mode, labelled, seed):
    rng = np.random.default_rng(seed)
    shape = (*size, 3) if mode == "RGB" else size
    written = {
        client: [(label, rng.integers(256, size=shape).astype(np.uint8)) for label in sorted(labels) for _ in range(labels[label])]
        for client, labels in clients.items()
    }
    with tempfile.TemporaryDirectory() as root:
        for client, found in written.items():
            write(Path(root), {client: None})
            for i, (label, pixels) in enumerate(found):
                write(Path(root), {f"{client}/{label}/{i}.png" if labelled else f"{client}/{i}.png": image(pixels)})
        if not any(written.values()):
            with pytest.raises(ValueError, match="must hold one file at least"):
                from_folder(root, kind="images")
            return
        data = from_folder(root, mode=mode)
        assert list(data) == sorted(clients)
        for client, found in written.items():
            columns = data[client]
            assert columns.keys() == ({"image", "label"} if labelled else {"image"})
            assert columns["image"].shape == (len(found), *size, 3 if mode == "RGB" else 1) and columns["image"].dtype == np.uint8
            assert data.sizes[client] == len(found)
            for got, (_, pixels) in zip(columns["image"], found, strict=True):
                np.testing.assert_array_equal(got.squeeze(-1) if mode == "L" else got, pixels)
            if labelled:
                assert columns["label"].tolist() == [label for label, _ in found]


def test_labels_as_numbers(tmp_path):
    files = {"ada/cat/1.png": 0, "ada/dog/1.png": 1, "bob/ape/1.png": 2, "bob/cat/0.png": 3}
    write(tmp_path, {name: image(PIXELS[i]) for name, i in files.items()} | {"cy": None, "dan/eel": None})
    names, numbers, chosen = (from_folder(tmp_path, classes=classes) for classes in (None, "sorted", ["dog", "cat", "ape", "eel"]))
    assert names["bob"]["label"].tolist() == ["ape", "cat"]
    assert numbers["bob"]["label"].tolist() == [0, 1] and numbers["ada"]["label"].tolist() == [1, 2]
    assert chosen["bob"]["label"].tolist() == [2, 1] and chosen["ada"]["label"].tolist() == [1, 0]
    np.testing.assert_array_equal(numbers["bob"]["image"], PIXELS[[2, 3]])
    for client in ("cy", "dan"):
        assert pickle.loads(pickle.dumps(numbers._read))(client)["label"].dtype == np.int32
        assert names[client]["label"].dtype == object
        assert names[client]["image"].shape == (0, 5, 6, 3)
    with pytest.raises(ValueError, match=r"labels of client 'bob' must be among classes=\('cat', 'dog'\), got \['ape'\]"):
        from_folder(tmp_path, classes=["cat", "dog"])


def test_labels_are_in_all_clients_or_in_none(tmp_path):
    write(tmp_path, {"ada/1.png": image(PIXELS[0]), "bob/cat/1.png": image(PIXELS[1])})
    with pytest.raises(ValueError, match="got one in client 'bob' but not in 'ada'"):
        from_folder(tmp_path)
    shutil.rmtree(tmp_path / "bob")
    with pytest.raises(ValueError, match="classes must be left out"):
        from_folder(tmp_path, classes="sorted")


def test_all_images_of_a_client_have_one_size_unless_resized(tmp_path):
    flat = np.full((3, 9, 3), 77, np.uint8)
    data = from_folder(write(tmp_path, {"ada/1.png": image(PIXELS[0]), "ada/2.png": image(flat), "bob/1.png": image(flat)}))
    assert data["bob"]["image"].shape == (1, 3, 9, 3)
    with pytest.raises(ValueError, match=r"ada/2.png must have the size of .*ada/1.png, 5 x 6 .*got 3 x 9. Pass `resize="):
        data["ada"]
    resized = from_folder(tmp_path, resize=(2, 4))["ada"]["image"]
    assert resized.shape == (2, 2, 4, 3)
    assert (resized[1] == 77).all()  # a mean of equal pixels


def test_modes(tmp_path):
    """Grey to colour repeats it; what is transparent keeps its colour; a palette is looked up; JPEG is read too."""
    grey = PIXELS[0, :, :, 0]
    transparent = np.dstack([PIXELS[1], np.zeros((5, 6), np.uint8)])
    palette = io.BytesIO()
    Image.fromarray(np.full((5, 6, 3), 9, np.uint8)).convert("P", palette=Image.Palette.ADAPTIVE).save(palette, "PNG", transparency=b"\x00")
    files = {
        "1.png": image(grey),
        "2.png": image(transparent),
        "3.PNG": palette.getvalue(),
        "4.jpg": image(np.full((5, 6, 3), 200, np.uint8), "JPEG"),
    }
    got = from_folder(write(tmp_path / "ada", files).parent)["ada"]["image"]
    np.testing.assert_array_equal(got[0], np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(got[1], PIXELS[1])
    assert (got[2] == 9).all()
    assert abs(got[3].astype(int) - 200).max() <= 2
    deep = write(tmp_path / "deep", {"ada/1.png": image(np.full((5, 6), 40_000, np.uint16))})
    with pytest.raises(ValueError, match="must be an image of 8 bits per channel, got one of mode 'I;16'"):
        from_folder(deep)["ada"]


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large, whatever follows."""
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize("side", [8_500, 10_000, 60_000])  # over our bound; where PIL warns; where PIL refuses
def test_a_bomb_among_images_is_refused(tmp_path, side):
    with pytest.raises(ValueError, match=rf"{tmp_path}/ada/1.png must be a PNG or JPEG image of at most"):
        from_folder(write(tmp_path, {"ada/1.png": png_header(side, side)}))


def test_too_many_pixels_for_a_client_are_refused_before_they_are_read(tmp_path):
    header = png_header(8_000, 8_000)
    data = from_folder(write(tmp_path, {f"ada/{i:02}.png": header for i in range(12)}))
    with pytest.raises(ValueError, match=r"Client 'ada' must have images of at most 2147483648 bytes in all, got \(12, 8000, 8000, 3\)"):
        data["ada"]


def test_images_are_known_by_their_content(tmp_path):
    gif = image(PIXELS[0], "GIF")
    with pytest.raises(ValueError, match="1.png must be a PNG or JPEG image"):
        from_folder(write(tmp_path, {"ada/1.png": gif}))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_truncated_image_is_refused(tmp_path, form):
    content = image(RNG.integers(256, size=(40, 40, 3)).astype(np.uint8), form)
    data = from_folder(write(tmp_path, {"ada/1.png": image(PIXELS[0]), "bob/1.png": content[: len(content) // 2]}))
    with pytest.raises(ValueError, match=rf"{tmp_path}/bob/1.png must be a PNG or JPEG image .*cannot be read.*(truncated|broken)"):
        data["bob"]


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_damaged_images_are_read_or_refused(data):
    content = bytearray(image(PIXELS[0], data.draw(st.sampled_from(["PNG", "JPEG"]))))
    check_damaged(data, content, "ada/1.png", "images", resize=(3, 3))
