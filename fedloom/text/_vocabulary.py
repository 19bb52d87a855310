"""Characters to ids and back."""

from __future__ import annotations

import numpy as np

TUTORIAL_VOCAB = tuple("dhlptx@DHLPTX $(,048cgkoswCGKOSW[_#'/37;?bfjnrvzBFJNRVZ\"&*.26:\naeimquyAEIMQUY]!%)-159\r")
"""The 86 characters of TFF's text-generation tutorial, in its order: the ids of every model pre-trained for it."""


def encode(text: str, vocabulary: tuple[str, ...] = TUTORIAL_VOCAB) -> np.ndarray:
    """Ids of the characters of a text, shape (len(text),), dtype int32; a character outside the vocabulary gets id 0, as in the tutorial.

    Example:
        >>> encode("hd~")
        array([1, 0, 0], dtype=int32)
    """
    table = {ord(character): i for i, character in enumerate(vocabulary)}
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    known, inverse = np.unique(codes, return_inverse=True)
    return np.array([table.get(int(code), 0) for code in known], dtype=np.int32)[inverse]


def decode(ids: np.ndarray, vocabulary: tuple[str, ...] = TUTORIAL_VOCAB) -> str:
    """The text of these ids; the inverse of `encode` on the vocabulary.

    Example:
        >>> decode(encode("To be"))
        'To be'
    """
    return "".join(vocabulary[int(i)] for i in ids)


def unknown_characters(text: str, vocabulary: tuple[str, ...] = TUTORIAL_VOCAB) -> list[str]:
    """The characters of a text that the vocabulary lacks, sorted."""
    return sorted(set(text) - set(vocabulary))
