"""Images and their labels to `x` and `y`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._checks import check_values, class_labels, column_of, plain_numbers


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images to `x` of float32 and labels to `y` of int32, for `dataset.map`.

    x = (image * scale - mean) / std. Images without an axis of channels get one. A column `sample_weight` is kept.

    Example:
        >>> columns = Images(image="pixels")({"pixels": np.full((5, 28, 28), 255, np.uint8), "label": np.arange(5)})
        >>> columns["x"].shape, columns["x"].max(), columns["y"]
        ((5, 28, 28, 1), np.float32(1.0), array([0, 1, 2, 3, 4], dtype=int32))
    """

    image: str = "image"  # column of numbers, (n, height, width) or (n, height, width, channels)
    label: str | None = "label"  # column of labels, (n,); None: there is no y
    classes: Sequence[Any] = ()  # the labels by their number in y, where they are names; empty: they are whole numbers already
    scale: float | None = None  # None: 1/255 for uint8, and 1 for floats and bool, which must lie in [0, 1] then
    mean: float | Sequence[float] | np.ndarray = 0.0  # of the scaled values: one number, or one per channel
    std: float | Sequence[float] | np.ndarray = 1.0  # likewise, > 0
    flatten: bool = False  # x of shape (n, height * width * channels)

    def __post_init__(self):
        check_values(self.classes, argument="Images.classes")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale != 0):
            raise ValueError(f"Images.scale must be a finite number other than 0, got {self.scale!r}.")
        object.__setattr__(self, "mean", plain_numbers(self.mean, "Images.mean", "mean"))
        object.__setattr__(self, "std", plain_numbers(self.std, "Images.std", "std"))

    def __call__(self, examples: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The columns x, float32 (n, height, width, channels), and y, int32 (n,).

        Raises:
            ValueError: A column is missing or not as described above; the message names it.
        """
        image = column_of(examples, self.image, asked_by="Images", argument="image")
        if image.dtype.kind not in "biuf" or image.ndim not in (3, 4):
            raise ValueError(
                f"The image column {self.image!r} must be numbers of shape (n, height, width) or (n, height, width, channels), "
                f"got {image.dtype} of shape {image.shape}. Decode images, and bring them to one size, with `dataset.map` first."
            )
        if image.ndim == 3:
            image = image[..., None]
        x = image.astype(np.float32)
        x *= self._scale(image)
        x -= self._per_channel("mean", x.shape[-1])
        x /= self._per_channel("std", x.shape[-1])
        columns = {"x": x.reshape(len(x), math.prod(x.shape[1:])) if self.flatten else x}
        if self.label is not None:
            label = column_of(examples, self.label, asked_by="Images", argument="label")
            columns["y"] = class_labels(label, self.classes, self.label)
        if "sample_weight" in examples:
            columns["sample_weight"] = np.asarray(examples["sample_weight"])
        return columns

    def _scale(self, image: np.ndarray) -> np.float32:
        low, high = (image.min(), image.max()) if image.size else (0, 0)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"The image column {self.image!r} must hold finite numbers, got values from {low} to {high}.")
        if self.scale is not None:
            return np.float32(self.scale)
        if image.dtype == np.uint8:
            return np.float32(1 / 255)
        if image.dtype.kind in "iu" or low < 0 or high > 1:
            raise ValueError(
                f"The image column {self.image!r} of {image.dtype} has values from {low} to {high}; without `scale` it must be uint8, or "
                "lie in [0, 1]. Say what to multiply by, such as `scale=1 / 255`, or `scale=1` to take the values as they are."
            )
        return np.float32(1)

    def _per_channel(self, name: str, channels: int) -> np.ndarray:
        values = np.asarray(getattr(self, name), np.float32)
        if values.ndim and len(values) != channels:
            raise ValueError(
                f"Images.{name} must be one number or one per channel, got {len(values)} numbers for {channels} channels. "
                'Compute it from what is prepared without it: `fl.data.moments(dataset.map(fl.data.Images()), "x")`.'
            )
        return values
