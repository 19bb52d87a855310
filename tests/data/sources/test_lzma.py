"""What is under LZMA is decompressed once, and wholly or not at all."""

import lzma

import pytest

from fedloom.data.sources import _lzma
from fedloom.data.sources._lzma import decompress

CONTENT = bytes(range(256)) * 100


@pytest.mark.parametrize("form", [lzma.FORMAT_XZ, lzma.FORMAT_ALONE])
def test_it_is_decompressed_once_per_content(tmp_path, form, monkeypatch):
    path, cache = tmp_path / "x.sqlite.lzma", tmp_path / "cache"
    (tmp_path / "x.sqlite").write_bytes(b"not what is in the .lzma")
    path.write_bytes(lzma.compress(b"first" * 1000, form))
    first = decompress(path, cache_dir=cache)
    assert first.read_bytes() == b"first" * 1000
    monkeypatch.setattr(lzma, "LZMADecompressor", None)
    assert decompress(path, cache_dir=cache) == first
    monkeypatch.undo()
    path.write_bytes(lzma.compress(b"second", form))
    assert decompress(path, cache_dir=cache).read_bytes() == b"second"
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "trailing", "noise", "empty", "bomb", "over the caller's bound"])
def test_damage(tmp_path, damage, monkeypatch):
    good = lzma.compress(CONTENT)
    damaged = {"truncated": good[:-9], "trailing": good + b"x", "noise": b"\x93" * 999, "empty": b""}
    if damage == "bomb":
        monkeypatch.setattr(_lzma, "_MAX_SMALL", 1000)
        monkeypatch.setattr(_lzma, "_MAX_RATIO", len(CONTENT) // len(good))
    path = tmp_path / "x.sqlite.lzma"
    path.write_bytes(damaged.get(damage, good))
    bound = len(CONTENT) - 1 if damage == "over the caller's bound" else None
    with pytest.raises(ValueError, match=r"x\.sqlite\.lzma must be a database under LZMA"):
        decompress(path, cache_dir=tmp_path / "cache", max_bytes=bound)
    assert list((tmp_path / "cache").iterdir()) == []


def test_bounds_are_inclusive(tmp_path, monkeypatch):
    path = tmp_path / "x.lzma"
    path.write_bytes(lzma.compress(CONTENT))
    assert decompress(path, cache_dir=tmp_path / "a", max_bytes=len(CONTENT)).read_bytes() == CONTENT
    monkeypatch.setattr(_lzma, "_MAX_SMALL", len(CONTENT))
    monkeypatch.setattr(_lzma, "_MAX_RATIO", 0)
    assert decompress(path, cache_dir=tmp_path / "b").read_bytes() == CONTENT
