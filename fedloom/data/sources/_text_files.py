"""A client's text files: lines, paragraphs or whole files as examples.

Free to change: how lines are counted. With care: what an example is, on which sizes and results depend.
"""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from .._columns import object_column
from ._client_folder import Listing
from ._refusal import refused

_MAX_FILE_BYTES = 1 << 31
_LINE = r"[^\r\n]+"
_PATTERNS = {"line": _LINE, "paragraph": rf"{_LINE}(?:(?:\r\n|\r|\n){_LINE})*"}
_BYTE_PATTERNS = {example: re.compile(pattern.encode()) for example, pattern in _PATTERNS.items()}


@dataclass
class TextFiles:
    """The column `text`; the files of a client one after the other, in the order of their names."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    layout: ClassVar[str] = "CLIENT.txt or CLIENT/*.txt"
    takes_files: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = False

    example: Literal["line", "paragraph", "file"] = "line"
    encoding: str = "utf-8"

    def __post_init__(self):
        if self.example not in ("line", "paragraph", "file"):
            raise ValueError(f'example must be "line", "paragraph" or "file", got {self.example!r}.')
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise ValueError(f'encoding must be a name that Python knows, such as "utf-8" or "latin-1", got {self.encoding!r}.') from error

    def count(self, client: str, listing: Listing) -> int:
        """Its number of examples; files are read unless each is one example, but not decoded if they are UTF-8."""
        files = _files(listing)
        if self.example == "file":
            return len(files)
        if not self._is_utf_8:
            return sum(len(self._examples(path)) for path in files)
        pattern = _BYTE_PATTERNS[self.example]
        return sum(sum(1 for _ in pattern.finditer(self._content(path))) for path in files)

    def read(self, client: str, listing: Listing) -> dict[str, np.ndarray]:
        """Its examples, an object array of `str`."""
        return {"text": object_column([text for path in _files(listing) for text in self._examples(path)])}

    @property
    def knows_columns(self) -> bool:
        """There is one, whatever the files."""
        return True

    @property
    def _is_utf_8(self) -> bool:
        return codecs.lookup(self.encoding).name in ("utf-8", "utf-8-sig")

    def _examples(self, path: str) -> list[str]:
        text = self._text(path)
        if self.example == "file":
            return [text]
        return [re.sub(r"\r\n?", "\n", match[0]) for match in re.finditer(_PATTERNS[self.example], text)]

    def _text(self, path: str) -> str:
        content = self._content(path)
        try:
            return content.decode(self.encoding)
        except UnicodeError as error:
            got = f"{error}"
            if isinstance(error, UnicodeDecodeError):
                at = error.start + os.path.getsize(path) - len(content)  # a mark of byte order counts
                got = f"byte 0x{content[error.start]:02x} at position {at} ({error.reason})"
            remedy = 'Convert the file, or say what it is with `encoding=`, such as "utf-16" or "latin-1".'
            raise refused(path, f"text in {self.encoding}", got, remedy) from error

    def _content(self, path: str) -> bytes:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_FILE_BYTES:
                remedy = "Cut it into several files, in a folder with the client's name."
                raise refused(path, f"a text of at most {_MAX_FILE_BYTES} bytes", f"{size} bytes", remedy)
            content = file.read()
        return content.removeprefix(codecs.BOM_UTF8) if self._is_utf_8 else content


def _files(listing: Listing) -> list[str]:
    return listing.get(None, [])
