"""Clients as image files: pixels and labels come back, and bombs are refused."""

import io
import pickle
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from data.client_files import PIXELS, RNG, check_damaged, few, ids, image, write
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedloom.data.sources._folder import from_folder


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
