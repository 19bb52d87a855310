"""Clients' values, read client by client and prepared as arrays of few shapes, for a sketch to be made of them.

Free to change: how values are checked. With care: `_digest`, on which depends what clients leave out, and noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedloom.core import PyTree

_SHORTEST, _GROWTH = 64, 8  # compiling for one more length takes longer than filling up ten thousand clients


class Prepared(Mapping[str, PyTree]):
    """Client id -> what its sketch is made of; read and prepared anew at every look-up, so that memory holds one client at a time.

    Args:
        data: As `read` takes it.
        column: As `read` takes it.
        prepare: (client id, its values) -> arrays of few distinct shapes, as every one compiles.
    """

    def __init__(self, data: Mapping[str, Any], column: str | None, prepare: Callable[[str, Any], PyTree]):
        if not isinstance(data, Mapping):
            raise TypeError(
                f"data must be a mapping from client id to that client's values, or a FederatedDataset, got {type(data).__name__}. "
                "E.g. {'ada': [1.0, 2.5], 'bob': [3.0]}."
            )
        if not data:
            raise ValueError("data must have at least one client, got none.")
        self._data, self._column, self._prepare = data, column, prepare
        read(data, next(iter(data)), column)  # so that a wrong column is an error of the argument, not of a client

    def __getitem__(self, client: str) -> PyTree:
        return self._prepare(client, read(self._data, client, self._column))

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)


def read(data: Mapping[str, Any], client: str, column: str | None) -> Any:
    """One client's values.

    Args:
        data: Client id -> values, or columns of values.
        client: Its id.
        column: Which column; None where a client has values, or a single column of them.

    Raises:
        ValueError: There is no such column, or several to choose from.
    """
    values = data[client]
    if not isinstance(values, Mapping):
        if column is not None:
            raise ValueError(f"column must be None where clients have values rather than columns, got {column!r}. Leave it out.")
        return values
    if column is None and len(values) == 1:
        return next(iter(values.values()))
    if column not in values:
        raise ValueError(f"column must be one of {sorted(values)}, which client {client!r} has, got {column!r}.")
    return values[column]


def numbers(values: Any) -> np.ndarray:
    """A client's numbers, float64 (n,); arrays of any shape are laid flat.

    Raises:
        ValueError: They are no numbers, or one is NaN or infinite. Executors add who has them.
    """
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"values must be numbers, got {_shown(array.ravel()[:1].tolist()[0])}. Choose another column, or convert them.")
    flat = array.ravel().astype(np.float64)
    if not (finite := np.isfinite(flat)).all():
        where = int(np.argmin(finite))
        raise ValueError(f"values must be finite numbers, got {flat[where]} at position {where}. Leave out what is missing.")
    return flat


def float32_numbers(values: Any) -> np.ndarray:
    """A client's numbers as float32 (n,).

    Raises:
        ValueError: As `numbers`, or one is too large.
    """
    array = numbers(values)
    if (large := np.abs(array) > np.finfo(np.float32).max).any():
        raise ValueError(f"values must be at most 3.4e38 in magnitude, as they become float32, got {array[large][0]}. Scale them.")
    return array.astype(np.float32)


def strings(values: Any) -> list[str]:
    """A client's strings; bytes are read as UTF-8.

    Raises:
        ValueError: They are no strings, or one string alone, which would be taken for its characters. Executors add who has them.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValueError(f"values must be a list of strings, got {_shown(values)}. Put it into a list.")
    listed = values.ravel().tolist() if isinstance(values, np.ndarray) else list(values)
    for place, value in enumerate(listed):
        if not isinstance(value, str | bytes):
            raise ValueError(f"values must be strings, got {_shown(value)} at position {place}. Convert them: str(value).")
    return [value.decode() if isinstance(value, bytes) else value for value in listed]


def padded(array: np.ndarray, fill: Any) -> np.ndarray:
    """An array with its first axis filled up to the next of 64, 512, 4096, ...: few lengths, so that little is compiled.

    Example:
        >>> padded(np.arange(65), -1).shape
        (512,)
    """
    length = _SHORTEST
    while length < len(array):
        length *= _GROWTH
    result = np.full((length, *array.shape[1:]), fill, array.dtype)
    result[: len(array)] = array
    return result


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on the seed and these names alone: on no order, process or machine."""
    return np.random.default_rng(int.from_bytes(_digest(seed, names), "little"))


def random_key(seed: int, *names: str) -> jax.Array:
    """The same as a key of JAX, of 64 bits."""
    return jax.random.wrap_key_data(jnp.asarray(np.frombuffer(_digest(seed, names)[:8], "<u4")), impl="threefry2x32")


def _digest(seed: int, names: tuple[str, ...]) -> bytes:
    return hashlib.blake2b("\0".join([str(seed), *names]).encode(errors="surrogatepass"), digest_size=16, person=b"fedloom").digest()


def check_count(name: str, value: object, *, at_least: int = 1, at_most: int | None = None) -> None:
    """Refuses what is no whole number in the range."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < at_least or (at_most is not None and value > at_most):
        upper = "" if at_most is None else f" and at most {at_most}"
        raise ValueError(f"{name} must be a whole number of at least {at_least}{upper}, got {value!r}.")


def _shown(value: object) -> str:
    return f"{value!r:.60} of type {type(value).__name__}"
