"""Writes folders with a file or a folder per client, and damages their files."""

import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

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


def image(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


RNG = np.random.default_rng(0)
PIXELS = RNG.integers(256, size=(4, 5, 6, 3)).astype(np.uint8)


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
