"""A client's image files as one array, with the names of their folders as labels if they lie in a folder per label.

Free to change: the bounds. With care: the order of images and the conversion of modes, on which results depend.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from .._columns import object_column
from ._client_folder import Listing
from ._refusal import refused

_MAX_PIXELS = 1 << 26  # of one image, as stored
_MAX_CLIENT_BYTES = 1 << 31  # of one client's images, as read
_CHANNELS = {"L": 1, "RGB": 3}


@dataclass
class ImageFiles:
    """The column `image`, uint8 (n, height, width, channels), and `label` where there are labels; sorted by label, then by name."""

    suffixes: ClassVar[tuple[str, ...]] = (".jpeg", ".jpg", ".png")
    layout: ClassVar[str] = "CLIENT/*.png or CLIENT/LABEL/*.png (or .jpg, .jpeg)"
    takes_files: ClassVar[bool] = False
    takes_labels: ClassVar[bool] = True

    resize: tuple[int, int] | None = None
    mode: Literal["RGB", "L"] = "RGB"
    classes: Sequence[str] | Literal["sorted"] | None = None
    # Learned on opening: the size of an image, for a client without any; the first client that shows whether there are labels; which.
    shape: tuple[int, int] | None = field(default=None, init=False)
    first: tuple[str, bool] | None = field(default=None, init=False)
    labels: set[str] = field(default_factory=set, init=False)

    def __post_init__(self):
        if self.mode not in _CHANNELS:
            raise ValueError(f'mode must be "RGB" or "L", got {self.mode!r}.')
        if self.resize is not None:
            size = tuple(self.resize)
            if len(size) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in size):
                raise ValueError(f"resize must be (height, width), two whole numbers of at least 1, got {self.resize!r}.")
            if size[0] * size[1] > _MAX_PIXELS:
                raise ValueError(f"resize must be at most {_MAX_PIXELS} pixels, got {self.resize!r}.")
        if self.classes is not None and self.classes != "sorted":
            if isinstance(self.classes, str) or len(set(self.classes)) != len(self.classes):
                raise ValueError(f'classes must be distinct names of labels, or "sorted", got {self.classes!r}.')
            self.classes = tuple(self.classes)

    def count(self, client: str, listing: Listing) -> int:
        """Its number of images; of all clients' images, one is opened to see its size."""
        found = [path for paths in listing.values() for path in paths]
        labelled = None not in listing
        if found or labelled:
            self.first = self.first or (client, labelled)
            self._check_labels(client, listing)
        if found and self.shape is None:
            self.shape = self.resize or _size(found[0])
        return len(found)

    def read(self, client: str, listing: Listing) -> dict[str, np.ndarray]:
        """Its images."""
        found = [(label, path) for label, paths in listing.items() for path in paths]
        height, width = self.resize or (_size(found[0][1]) if found else self.shape) or (0, 0)
        shape = (len(found), height, width, _CHANNELS[self.mode])
        if (total := int(np.prod(shape, dtype=object))) > _MAX_CLIENT_BYTES:
            raise ValueError(
                f"Client {client!r} must have images of at most {_MAX_CLIENT_BYTES} bytes in all, got {shape}, {total} bytes. "
                "Pass a smaller `resize=(height, width)`, or divide the client."
            )
        images = np.empty(shape, np.uint8)
        for i, (_, path) in enumerate(found):
            images[i] = self._pixels(path, (height, width), found[0][1])
        columns = {"image": images}
        if self.first and self.first[1]:
            columns["label"] = self._numbers([label for label, _ in found])
        return columns

    @property
    def knows_columns(self) -> bool:
        """Whether there was an image."""
        return self.shape is not None

    def _pixels(self, path: str, size: tuple[int, int], like: str) -> np.ndarray:
        image = _loaded(path)
        if image.mode.startswith(("I", "F")):
            raise refused(path, "an image of 8 bits per channel", f"one of mode {image.mode!r}", "Convert it, or store arrays as .npz.")
        if self.resize is None and (image.height, image.width) != size:
            raise ValueError(
                f"{path} must have the size of {like}, {size[0]} x {size[1]} (height x width), got {image.height} x {image.width}. "
                "Pass `resize=(height, width)`."
            )
        if image.mode == "P":  # a palette may have transparent entries, which only RGBA can hold
            image = image.convert("RGBA")
        image = image.convert(self.mode)
        if self.resize:
            from PIL import Image

            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(*size, _CHANNELS[self.mode])

    def _check_labels(self, client: str, listing: Listing) -> None:
        first, labelled = self.first or (client, False)
        if labelled != (None not in listing):
            with_labels, without = (first, client) if labelled else (client, first)
            raise ValueError(
                f"All clients must have a folder per label, or none, got one in client {with_labels!r} but not in {without!r}. Sort the "
                "images of both, or of neither."
            )
        if self.classes is not None and not labelled:
            raise ValueError(f"classes must be left out where labels are not folders, CLIENT/LABEL/*.png, got {self.classes!r}.")
        names = {label for label in listing if label is not None}
        if unknown := sorted(names.difference(self.classes or ())) if isinstance(self.classes, tuple) else []:
            raise ValueError(f"The labels of client {client!r} must be among classes={self.classes}, got {unknown}. Add them.")
        self.labels |= names

    def _numbers(self, labels: Sequence[str | None]) -> np.ndarray:
        if self.classes is None:
            return object_column(labels)
        numbers = {label: i for i, label in enumerate(sorted(self.labels) if self.classes == "sorted" else self.classes)}
        return np.array([numbers[label] for label in labels if label is not None], np.int32)


def _size(path: str) -> tuple[int, int]:
    """Height and width, from the header."""
    image = _loaded(path, header_only=True)
    return image.height, image.width


def _loaded(path: str, header_only: bool = False):
    """The image, in whatever mode it is stored.

    Raises:
        ValueError: It is damaged, of another format, or too large.
    """
    from PIL import Image

    refuse = partial(refused, path, f"a PNG or JPEG image of at most {_MAX_PIXELS} pixels")
    with open(path, "rb") as file:
        try:
            image = Image.open(file, formats=("PNG", "JPEG"))
            small = image.width * image.height <= _MAX_PIXELS
            if small and not header_only:
                image.load()
        except Exception as error:  # PIL raises nearly anything for damaged files: SyntaxError, struct.error, its own for bombs
            reason = str(error).replace(repr(file), os.path.basename(path))
            raise refuse(f"one that cannot be read: {reason}") from error
        if not small:
            raise refuse(f"{image.width} x {image.height}", "Store it in a smaller size.")
        return image
