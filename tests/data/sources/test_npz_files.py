"""Clients as files of arrays: what numpy writes comes back, and nothing else is read."""

import io
import os
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data.client_files import check_damaged, few, npz, write
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.data.sources._folder import from_folder

DTYPES = ["?", "u1", "<i2", ">i4", "<i8", "<f2", ">f4", "<f8", "<c8", "<U3", ">U2", "S4", "<M8[D]", "<m8[ns]"]


def npy_in_zip(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content)
    return file.getvalue()


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
