"""Files under LZMA or XZ, decompressed once into the cache.

Free to change: the bounds. With care: that nothing gets its name in the cache before it is whole.
"""

from __future__ import annotations

import lzma
import os
from pathlib import Path

from .._cache_folder import atomic_write, cache_folder, sha256_of
from ._refusal import refusal

_BLOCK = 1 << 20
_MAX_MEMORY = 1 << 28  # of the decoder
_MAX_SMALL = 1 << 30  # bytes that any file may have inside
_MAX_RATIO = 100  # by which a larger one may grow; TFF's EMNIST does by 28


def decompress(path: str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None = None, max_bytes: int | None = None) -> Path:
    """The database inside an `.lzma` or `.xz` file, in the cache under the checksum of that file.

    Args:
        path: The compressed file.
        cache_dir: Where to keep what is inside; `None` is the folder that `cache_folder` names.
        max_bytes: That may be inside; `None` is 1 GiB, or a hundred times the file's size if that is more.

    Raises:
        ValueError: The file is damaged, or has more inside.
        OSError: It cannot be written, for example because the disk is full.
    """
    target = cache_folder(cache_dir) / f"{sha256_of(path)}.sqlite"
    if target.is_file():
        return target
    fail = refusal(path, "a database under LZMA or XZ")
    bound = max(_MAX_SMALL, _MAX_RATIO * os.path.getsize(path)) if max_bytes is None else max_bytes
    decoder = lzma.LZMADecompressor(memlimit=_MAX_MEMORY)
    written = 0
    with open(path, "rb") as source, atomic_write(target) as sink:
        try:
            while not decoder.eof:
                compressed = source.read(_BLOCK) if decoder.needs_input else b""
                if decoder.needs_input and not compressed:
                    raise fail("a file that ends early")
                block = decoder.decompress(compressed, max_length=_BLOCK)
                written += len(block)
                if written > bound:
                    raise fail(f"more than {bound} bytes inside")
                sink.write(block)
        except lzma.LZMAError as error:
            raise fail(f"{error}") from error
        if decoder.unused_data or source.read(1):
            raise fail("more bytes after its end")
    return target
