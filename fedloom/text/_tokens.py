"""A client's text to windows of tokens and their next tokens, with anybody's tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ._pieces import Remainder, check_window, cut, texts

_MAX_ID = np.iinfo(np.int32).max


@runtime_checkable
class BatchTokenizer(Protocol):
    """What `TokenWindows` uses of a `tokenizers.Tokenizer`."""

    def encode_batch(self, input: list[str], /) -> Sequence[Any]:
        """One object with `.ids`, a list of int, per text."""
        ...


@dataclass(frozen=True)
class TokenWindows:
    """Texts to `x` and `y`, for `dataset.map`.

    A client's texts are turned into token ids, joined and cut into pieces of `length + 1` ids; x is all but the last of them, y all but
    the first. The tokenizer is used as it is set up: if it adds special tokens to each text, the windows have them.

    Example:
        >>> words = ["to", "be", "or", "not"]
        >>> windows = TokenWindows(lambda text: [words.index(word) for word in text.split()], length=3, separator=9)
        >>> columns = windows({"text": ["to be or", "not to be"]})
        >>> columns["x"].tolist(), columns["y"].tolist(), columns["sample_weight"].tolist()
        ([[0, 1, 2], [3, 0, 1]], [[1, 2, 9], [0, 1, 0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    """

    tokenizer: BatchTokenizer | Callable[[str], Sequence[int]]  # a `tokenizers.Tokenizer`, or a function from text to ids
    length: int  # tokens of x
    remainder: Remainder = "pad"  # the last piece: filled up, padding carrying weight 0, or left out
    separator: int | None = None  # an id put between two texts of a client, such as that of an end-of-text token
    pad: int = 0  # the id of padding; any will do that the model takes, as it carries no weight
    column: str = "text"

    def __post_init__(self):
        check_window(self.length, self.remainder, of="TokenWindows")
        self._check_id("pad", self.pad)
        if self.separator is not None:
            self._check_id("separator", self.separator)
        if not isinstance(self.tokenizer, BatchTokenizer) and not callable(self.tokenizer):
            raise TypeError(
                "TokenWindows.tokenizer must be a tokenizers.Tokenizer or a function from text to ids, "
                f"got {type(self.tokenizer).__name__}. Load one with Tokenizer.from_file(...)."
            )
        # Either would change a client's text without a word: texts cut short, or filled up to the longest.
        for setting, off in (("truncation", "no_truncation"), ("padding", "no_padding")):
            if getattr(self.tokenizer, setting, None):
                raise ValueError(
                    f"TokenWindows.tokenizer must not have {setting} switched on, got {getattr(self.tokenizer, setting)}. "
                    f"Call `tokenizer.{off}()` first: windows are cut and padded here."
                )

    def __call__(self, examples: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The columns x and y, int32 (n, length), and with `remainder="pad"` sample_weight, float32 (n, length).

        Raises:
            ValueError: The column of texts is missing or holds something else than text, or the tokenizer does not give ids.
        """
        pieces = self._ids(texts(examples, self.column, asked_by="TokenWindows"))
        if self.separator is not None:
            between = np.array([self.separator], np.int32)
            pieces = [part for piece in pieces for part in (between, piece)][1:]
        joined = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
        return cut(joined, self.length, self.remainder, pad=self.pad)

    def _check_id(self, name: str, token: Any) -> None:
        if not isinstance(token, int | np.integer) or not 0 <= token <= _MAX_ID:
            raise ValueError(
                f"TokenWindows.{name} must be the id of a token, a whole number of at least 0, got {token!r}. "
                "With `tokenizers`, `tokenizer.token_to_id(...)` gives it, or None where there is no such token."
            )

    def _ids(self, texts: list[str]) -> list[np.ndarray]:
        if isinstance(self.tokenizer, BatchTokenizer):
            found = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        else:
            found = [self.tokenizer(text) for text in texts]
        if len(found) != len(texts):
            raise ValueError(f"TokenWindows.tokenizer must give ids for each of {len(texts)} texts, got {len(found)}.")
        return [_checked(ids, text) for ids, text in zip(found, texts, strict=True)]


def _checked(ids: Any, text: str) -> np.ndarray:
    try:
        array = np.asarray(ids)
    except (TypeError, ValueError) as error:
        raise _no_ids(ids, text) from error
    if array.ndim != 1 or (array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() > _MAX_ID)):
        raise _no_ids(ids, text)
    return array.astype(np.int32)


def _no_ids(ids: Any, text: str) -> ValueError:
    return ValueError(
        f"TokenWindows.tokenizer must give a list of ids, whole numbers from 0 to {_MAX_ID}, got {_short(ids)} for the text "
        f"{_short(text)}. Of a tokenizer from `transformers`, pass its method `encode`."
    )


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
