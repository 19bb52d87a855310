"""A client's text to windows of characters and their next characters, as in TFF's text-generation tutorial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._pieces import Remainder, check_window, cut, texts
from ._vocabulary import TUTORIAL_VOCAB, encode


@dataclass(frozen=True)
class CharWindows:
    """Snippets of text to `x` and `y`, for `dataset.map`.

    A client's snippets are all joined and cut into pieces of `length + 1` characters; x is all but the last of them, y all but the first.

    Example:
        >>> windows = CharWindows(length=3, vocabulary=tuple("abc"))
        >>> columns = windows({"snippets": ["abca", "cb"]})
        >>> columns["x"].tolist(), columns["y"].tolist(), columns["sample_weight"].tolist()
        ([[0, 1, 2], [2, 1, 0]], [[1, 2, 0], [1, 0, 0]], [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    """

    length: int = 100  # characters of x
    remainder: Remainder = "pad"  # the last piece: filled up, padding carrying weight 0, or left out as in the tutorial
    vocabulary: tuple[str, ...] = TUTORIAL_VOCAB  # others get id 0
    column: str = "snippets"

    def __post_init__(self):
        check_window(self.length, self.remainder, of="CharWindows")
        if len(set(self.vocabulary)) != len(self.vocabulary) or any(len(character) != 1 for character in self.vocabulary):
            raise ValueError("CharWindows.vocabulary must hold single characters, each once.")

    def __call__(self, examples: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The columns x and y, int32 (n, length), and with `remainder="pad"` sample_weight, float32 (n, length).

        Raises:
            ValueError: The column of snippets is missing, or holds something else than text.
        """
        text = "".join(texts(examples, self.column, asked_by="CharWindows"))
        return cut(encode(text, self.vocabulary), self.length, self.remainder)
