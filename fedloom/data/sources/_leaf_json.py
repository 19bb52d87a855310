"""LEAF's json, walked member by member: what is large is parsed client by client, and is found again by its place in the file.

Free to change: nothing much. With care: that what is not json in the strict sense (RFC 8259) is refused, and so are repeated names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_SPACE = re.compile(r"[ \t\n\r]*")
_USER_DATA = "user_data"


class LeafFile(NamedTuple):
    """What a file says of its clients."""

    places: dict[str, tuple[int, int]]  # client -> first and last byte + 1 of its columns
    others: dict[str, Any]  # the other members: users, num_samples, maybe hierarchies


def walk(content: bytes, on_client: Callable[[str, Any], None]) -> LeafFile:
    """Reads a file once.

    Args:
        content: Of the file, UTF-8.
        on_client: Called with the id and the parsed value of each client.

    Raises:
        ValueError: It is no json, has no `user_data`, or a name twice; the message names the client if it is in one.
    """
    text = content.decode("utf-8-sig")
    cursor, bytes_before = _Cursor(text), _byte_counter(text, len(content))
    places: dict[str, tuple[int, int]] | None = None
    others = {}
    for name in cursor.members():
        if name != _USER_DATA:
            others[name] = cursor.value()
            continue
        places = {}
        for client in cursor.members():
            start = cursor.skip_space()
            try:
                on_client(client, cursor.value())
            except ValueError as error:
                raise ValueError(f"client {client!r} with {error}") from error
            places[client] = bytes_before(start), bytes_before(cursor.at)
    cursor.end()
    if places is None:
        raise ValueError(f"an object without {_USER_DATA!r}")
    return LeafFile(places, others)


def parse(content: bytes) -> Any:
    """One json value.

    Raises:
        ValueError: It is none, or an object in it has a name twice.
    """
    cursor = _Cursor(content.decode())
    value = cursor.value()
    cursor.end()
    return value


class _Cursor:
    """A place in a json text."""

    def __init__(self, text: str):
        self.text, self.at = text, 0
        self._decoder = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_distinct)

    def value(self) -> Any:
        """The value that comes next, whole."""
        try:
            value, self.at = self._decoder.raw_decode(self.text, self.skip_space())
        except RecursionError:
            raise ValueError("lists nested too deeply") from None
        return value

    def members(self) -> Iterator[str]:
        """The names in the object that comes next; after each one its value must be read."""
        self._take("{")
        seen: set[str] = set()
        if self.text[self.skip_space() : self.at + 1] == "}":
            self.at += 1
            return
        while True:
            name = self.value()
            if not isinstance(name, str):
                raise ValueError(f"no name but a {type(name).__name__} in an object, before character {self.at}")
            if name in seen:
                raise ValueError(f"the name {name!r} twice in an object")
            seen.add(name)
            self._take(":")
            yield name
            if self._take(",}") == "}":
                return

    def skip_space(self) -> int:
        """Where the next character other than white space is."""
        space = _SPACE.match(self.text, self.at)
        assert space is not None  # none at all matches too
        self.at = space.end()
        return self.at

    def end(self) -> None:
        """Raises ValueError if there is more."""
        if self.skip_space() < len(self.text):
            raise ValueError(f"more after its end, at character {self.at}")

    def _take(self, expected: str) -> str:
        found = self.text[self.skip_space() : self.at + 1]
        if not found or found not in expected:
            raise ValueError(f"{found!r} instead of {' or '.join(map(repr, expected))} at character {self.at}")
        self.at += 1
        return found


def _byte_counter(text: str, size: int) -> Callable[[int], int]:
    """From a place in the text to its place in the file of that size, asked for in ascending order."""
    ascii_only = text.isascii()
    last, count = 0, size - (len(text) if ascii_only else len(text.encode()))  # there may be a byte order mark

    def bytes_before(at: int) -> int:
        nonlocal last, count
        count += at - last if ascii_only else len(text[last:at].encode())
        last = at
        return count

    return bytes_before


def _refuse(token: str) -> None:
    raise ValueError(f"the token {token}, which is not json")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"the name {name!r} twice in an object")
        made[name] = value
    return made
