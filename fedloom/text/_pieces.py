"""What all preparations of text share: a client's texts out of its columns, and a stream of ids cut into x and y."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any, Literal

import numpy as np

Remainder = Literal["pad", "drop"]
"""What becomes of a last piece that is too short: filled up, padding carrying weight 0, or left out."""


def texts(examples: Mapping[str, Any], column: str, *, asked_by: str) -> list[str]:
    """A client's texts; bytes are read as UTF-8, with U+FFFD where they are not.

    Raises:
        ValueError: The column is missing, or holds something else than text.
    """
    return [_decoded(text) for text in text_column(examples, column, asked_by=asked_by)]


def text_column(examples: Mapping[str, Any], column: str, *, asked_by: str) -> list[str | bytes]:
    """A client's texts as they are, str or bytes; errors as `texts`."""
    if column not in examples:
        raise ValueError(f"{asked_by} needs the column {column!r}, got {sorted(examples)}. Name yours with `column=`.")
    found = list(examples[column])
    for text in found:
        if not isinstance(text, str | bytes):
            raise ValueError(
                f"Each of the {column} must be text, got {text!r} of type {type(text).__name__}. Leave it out, or name another `column=`."
            )
    return found


def _decoded(text: str | bytes) -> str:
    return text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text


def cut(ids: np.ndarray, length: int, remainder: Remainder, *, pad: int = 0) -> dict[str, np.ndarray]:
    """Pieces of `length + 1` ids, one after the other: x is all but the last of each, y all but the first.

    Args:
        ids: Shape (n,).
        length: Ids of x, at least 1.
        remainder: With "pad", each target has a weight: 1, or 0 where it is padding.
        pad: The id of padding.

    Returns:
        x and y, int32 (pieces, length), and with `remainder="pad"` sample_weight, float32 (pieces, length).
    """
    size = length + 1
    if remainder == "drop":
        pieces = ids[: len(ids) // size * size].astype(np.int32, copy=False).reshape(-1, size)
        return {"x": pieces[:, :-1], "y": pieces[:, 1:]}
    count = -(-len(ids) // size)
    pieces = np.full(count * size, pad, np.int32)
    pieces[: len(ids)] = ids
    weight = np.zeros(count * size, np.float32)
    weight[: len(ids)] = 1
    pieces, weight = pieces.reshape(count, size), weight.reshape(count, size)
    return {"x": pieces[:, :-1], "y": pieces[:, 1:], "sample_weight": weight[:, 1:]}


def check_window(length: Any, remainder: str, *, of: str) -> None:
    """Raises ValueError unless windows of this length, with this remainder, can be cut."""
    if not isinstance(length, Integral) or length < 1:
        raise ValueError(f"{of}.length must be a whole number of at least 1, got {length!r}.")
    if remainder not in ("pad", "drop"):
        raise ValueError(f'{of}.remainder must be "pad" or "drop", got {remainder!r}.')
