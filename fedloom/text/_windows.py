"""A client's text to windows of characters and their next characters, as in TFF's text-generation tutorial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

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
    remainder: Literal["pad", "drop"] = "pad"  # the last piece: filled up, padding carrying weight 0, or left out as in the tutorial
    vocabulary: tuple[str, ...] = TUTORIAL_VOCAB  # others get id 0
    column: str = "snippets"

    def __post_init__(self):
        if self.length < 1:
            raise ValueError(f"CharWindows.length must be at least 1, got {self.length}.")
        if self.remainder not in ("pad", "drop"):
            raise ValueError(f'CharWindows.remainder must be "pad" or "drop", got {self.remainder!r}.')
        if len(set(self.vocabulary)) != len(self.vocabulary) or any(len(character) != 1 for character in self.vocabulary):
            raise ValueError("CharWindows.vocabulary must hold single characters, each once.")

    def __call__(self, examples: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The columns x and y, int32 (n, length), and with `remainder="pad"` sample_weight, float32 (n, length).

        Raises:
            ValueError: The column of snippets is missing, or holds something else than text.
        """
        if self.column not in examples:
            raise ValueError(f"CharWindows needs the column {self.column!r}, got {sorted(examples)}. Name yours with `column=`.")
        ids = encode("".join(_text(snippet) for snippet in examples[self.column]), self.vocabulary)
        size = self.length + 1
        if self.remainder == "drop":
            pieces = ids[: len(ids) // size * size].reshape(-1, size)
            return {"x": pieces[:, :-1], "y": pieces[:, 1:]}
        count = -(-len(ids) // size)
        pieces = np.zeros(count * size, np.int32)
        pieces[: len(ids)] = ids
        pieces = pieces.reshape(count, size)
        weight = (np.arange(count * size) < len(ids)).astype(np.float32).reshape(count, size)
        return {"x": pieces[:, :-1], "y": pieces[:, 1:], "sample_weight": weight[:, 1:]}


def _text(snippet: Any) -> str:
    if isinstance(snippet, bytes):
        return snippet.decode("utf-8", errors="replace")
    if not isinstance(snippet, str):
        raise ValueError(f"A snippet must be text, got {snippet!r} of type {type(snippet).__name__}.")
    return snippet
