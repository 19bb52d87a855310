"""FederatedDataset: a mapping from client id to that client's examples, read only when asked for.

Free to change: how examples are held. With care: the meaning of `sizes` and the order of `client_ids`, on which sampling depends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import numpy as np

Examples = Mapping[str, np.ndarray]
"""One client's examples as columns: name -> array, all of the same length."""


class FederatedDataset(Mapping[str, Examples]):
    """Examples by client, lazily read: nothing is touched until a client is looked up.

    Args:
        sizes: Client id -> number of examples, in the order that `client_ids` keeps.
        read: Returns the columns of one client; called at every look-up, so it must be free of side effects.
        name: What error messages call this data set.

    Example:
        >>> data = FederatedDataset.from_dict({"ada": {"x": [1.0, 2.0]}, "bob": {"x": [3.0]}})
        >>> data.sizes["ada"], data["bob"]["x"]
        (2, array([3.]))
    """

    def __init__(self, sizes: Mapping[str, int], read: Callable[[str], Examples], *, name: str = "dataset"):
        self._sizes = MappingProxyType(dict(sizes))
        self._read = read
        self.name = name

    @classmethod
    def from_dict(cls, clients: Mapping[str, Mapping[str, object]], *, name: str = "dataset") -> FederatedDataset:
        """A data set held in memory.

        Args:
            clients: Client id -> columns; whatever `numpy.asarray` accepts, all columns of a client equally long.
            name: What error messages call this data set.

        Raises:
            ValueError: A client's columns differ in length, or there is none.
        """
        columns = {client: {key: np.asarray(value) for key, value in examples.items()} for client, examples in clients.items()}
        sizes = {client: num_examples(examples, client=client) for client, examples in columns.items()}
        return cls(sizes, columns.__getitem__, name=name)

    @property
    def client_ids(self) -> tuple[str, ...]:
        """Every client, in a fixed order."""
        return tuple(self._sizes)

    @property
    def sizes(self) -> Mapping[str, int]:
        """Client id -> number of source examples, known without reading any; `map` leaves it as it is."""
        return self._sizes

    def __getitem__(self, client_id: str) -> Examples:
        if client_id not in self._sizes:
            raise KeyError(
                f"{self.name} has no client {client_id!r}. It has {len(self)} clients"
                f"{_nearest(client_id, self._sizes)}; `client_ids` lists them all."
            )
        return self._read(client_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._sizes

    def __eq__(self, other: object) -> bool:  # a Mapping's would read everything
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<FederatedDataset {self.name}: {len(self)} clients, {sum(self._sizes.values())} examples>"

    def map(self, fn: Callable[[Examples], Examples]) -> FederatedDataset:
        """`fn` on each client's columns as a whole, when that client is read; `sizes` stay those of the source."""
        read = self._read
        return FederatedDataset(self._sizes, lambda client_id: fn(read(client_id)), name=self.name)

    def subset(self, client_ids: Iterable[str]) -> FederatedDataset:
        """These clients only, in the order given.

        Raises:
            KeyError: A client is not in this data set; the message names it.
        """
        wanted = list(client_ids)
        for client_id in wanted:
            if client_id not in self._sizes:
                self[client_id]  # raises, with the message that a look-up gives
        return FederatedDataset({c: self._sizes[c] for c in wanted}, self._read, name=self.name)

    def sample(self, size: int, *, seed: int = 0) -> FederatedDataset:
        """So many clients, drawn uniformly without replacement, in the order that they have here.

        Raises:
            ValueError: `size` is not in [1, number of clients].
        """
        if not 1 <= size <= len(self):
            raise ValueError(f"size must be in [1, {len(self)}], the number of clients of {self.name}, got {size}.")
        chosen = np.random.default_rng(seed).choice(len(self), size, replace=False)
        return self.subset(self.client_ids[i] for i in sorted(chosen))

    def split(self, share: float) -> tuple[FederatedDataset, FederatedDataset]:
        """Every client's examples in two: all but the last `share` of them, and those; both halves have all clients.

        Args:
            share: In (0, 1). The second half is rounded up, but a client's first example is always in the first half.

        Raises:
            ValueError: `share` is out of range.

        Example:
            >>> train, test = FederatedDataset.from_dict({"ada": {"x": [1, 2, 3]}}).split(0.3)
            >>> train["ada"]["x"], test["ada"]["x"], test.sizes["ada"]
            (array([1, 2]), array([3]), 1)
        """
        if not 0 < share < 1:
            raise ValueError(f"share must lie between 0 and 1, got {share}.")
        read = self._read

        def part(columns: Examples, second: bool) -> Examples:
            count = num_examples(columns, client="")
            border = count - held_out_count(count, share)
            return {name: values[border:] if second else values[:border] for name, values in columns.items()}

        held = {client: held_out_count(size, share) for client, size in self._sizes.items()}
        rest = {client: size - held[client] for client, size in self._sizes.items()}
        return (
            FederatedDataset(rest, lambda client: part(read(client), second=False), name=f"{self.name}, first part"),
            FederatedDataset(held, lambda client: part(read(client), second=True), name=f"{self.name}, last part"),
        )

    def filter_sizes(self, *, at_least: int) -> FederatedDataset:
        """The clients with at least so many source examples."""
        return self.subset(c for c, size in self._sizes.items() if size >= at_least)


def held_out_count(count: int, share: float) -> int:
    """How many of a client's examples are held out: the share rounded up, but not all of them."""
    # Rounded first: 100 * 0.07 is a hair more than 7.
    return max(0, min(math.ceil(round(count * share, 9)), count - 1))


def num_examples(examples: Examples, *, client: str) -> int:
    """The common length of a client's columns.

    Raises:
        ValueError: There is no column, or their lengths differ.
    """
    lengths = {key: len(value) for key, value in examples.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(
            f"The columns of client {client!r} must be equally long, got {lengths or 'no columns'}. "
            "Give every column one entry per example."
        )
    return next(iter(lengths.values()))


def _nearest(client_id: object, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(str(client_id), list(known), n=3)
    return f", such as {', '.join(map(repr, near))}" if near else ""
