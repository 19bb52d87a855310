"""Characters to ids and back."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

TUTORIAL_VOCAB = tuple("dhlptx@DHLPTX $(,048cgkoswCGKOSW[_#'/37;?bfjnrvzBFJNRVZ\"&*.26:\naeimquyAEIMQUY]!%)-159\r")
"""The 86 characters of TFF's text-generation tutorial, in its order: the ids of every model pre-trained for it."""


def encode(text: str, vocabulary: tuple[str, ...] = TUTORIAL_VOCAB) -> np.ndarray:
    """Ids of the characters of a text, shape (len(text),), dtype int32; a character outside the vocabulary gets id 0, as in the tutorial.

    Example:
        >>> encode("hd~")
        array([1, 0, 0], dtype=int32)
    """
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
    return _ids_by_code(tuple(vocabulary)).take(codes, mode="clip")


@lru_cache(maxsize=16)
def _ids_by_code(vocabulary: tuple[str, ...]) -> np.ndarray:
    """Code point -> id, up to the highest one of the vocabulary and one 0 more, for all beyond."""
    codes = np.array([ord(character) for character in vocabulary], np.intp)
    table = np.zeros(codes.max(initial=0) + 2, np.int32)
    table[codes] = np.arange(len(codes))
    return table


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
