"""TFF's preparation of Shakespeare: every snippet between two marks, in rows of its own.

Source: TFF's `simulation.baselines.shakespeare`, next-character prediction; sequences of 80 go back to McMahan et al. 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ._pieces import check_window, text_column
from ._vocabulary import TUTORIAL_VOCAB


@dataclass(frozen=True)
class ShakespeareSequences:
    """Snippets of text to `x`, `y` and the weights of the targets, for `dataset.map`, as TFF's baseline task has them.

    Each snippet becomes BOS, its characters and EOS, is padded to a multiple of `length + 1` and cut into rows of that size; x is a row
    without its last id, y without its first. The 86 characters of `TUTORIAL_VOCAB` have the ids 1 to 86. As in TFF, what is looked up are
    bytes of UTF-8: a character outside ASCII becomes `UNKNOWN` once for each of its bytes.

    Example:
        >>> columns = ShakespeareSequences(length=6)({"snippets": ["abc"]})
        >>> columns["x"].tolist(), columns["y"].tolist(), columns["sample_weight"].tolist()
        ([[88, 64, 42, 21, 89, 0]], [[64, 42, 21, 89, 0, 0]], [[1.0, 1.0, 1.0, 1.0, 0.0, 0.0]])
    """

    PAD: ClassVar[int] = 0
    UNKNOWN: ClassVar[int] = len(TUTORIAL_VOCAB) + 1  # 87
    BOS: ClassVar[int] = len(TUTORIAL_VOCAB) + 2  # 88, before a snippet
    EOS: ClassVar[int] = len(TUTORIAL_VOCAB) + 3  # 89, after it
    num_ids: ClassVar[int] = len(TUTORIAL_VOCAB) + 4  # 90: rows of an embedding, logits of a model

    length: int = 80  # ids of x
    weigh_eos: bool = True  # whether EOS as a target carries weight 1, as in TFF, or 0, so that metrics are those of characters alone
    column: str = "snippets"

    def __post_init__(self):
        check_window(self.length, "pad", of="ShakespeareSequences")

    def __call__(self, examples: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The columns x and y, int32 (n, length), and sample_weight, float32 (n, length).

        A row is kept even if all its targets are padding, as in TFF.

        Raises:
            ValueError: The column of snippets is missing, or holds something else than text.
        """
        snippets = [_utf_8(text) for text in text_column(examples, self.column, asked_by="ShakespeareSequences")]
        size = self.length + 1
        lengths = np.fromiter(map(len, snippets), np.int64, len(snippets))
        spans = -(-(lengths + 2) // size) * size  # of each snippet's rows, in ids
        starts = np.cumsum(spans) - spans
        ids = np.full(spans.sum(), self.PAD, np.int32)
        ids[starts] = self.BOS
        ids[starts + lengths + 1] = self.EOS
        characters = np.frombuffer(b"".join(snippets), np.uint8)
        shifts = starts + 1 - (np.cumsum(lengths) - lengths)  # from a snippet's place among all characters to its place among ids
        ids[np.arange(len(characters)) + np.repeat(shifts, lengths)] = _ID_OF_BYTE[characters]
        rows = ids.reshape(-1, size)
        y = rows[:, 1:]
        counts = y != self.PAD if self.weigh_eos else (y != self.PAD) & (y != self.EOS)
        return {"x": rows[:, :-1], "y": y, "sample_weight": counts.astype(np.float32)}


_ID_OF_BYTE = np.full(256, ShakespeareSequences.UNKNOWN, np.int32)
_ID_OF_BYTE[[ord(character) for character in TUTORIAL_VOCAB]] = np.arange(1, len(TUTORIAL_VOCAB) + 1)


def _utf_8(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", errors="surrogatepass")
