"""FederatedDataset: a mapping from client id to that client's examples, read only when asked for.

Free to change: how examples are held. With care: the meaning of `sizes` and the order of `client_ids`, on which sampling depends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from types import MappingProxyType

import numpy as np

from ._clients import ClientTable, joined, lookup, resized, select, size_array

Examples = Mapping[str, np.ndarray]
"""One client's examples as columns: name -> array, all of the same length."""

_TOO_MANY_TO_COMPARE = 20_000  # ids, to suggest one that resembles a mistyped one


class RowReader:
    """What reads clients out of one table, and can say which rows are whose."""

    def __call__(self, client_id: str) -> Examples:
        """The client's columns."""
        columns, own = self.rows(client_id)
        return {name: column[own] for name, column in columns.items()}

    def rows(self, client_id: str) -> tuple[Examples, np.ndarray]:
        """The columns of the table, and the client's rows in its order, int64 (n,)."""
        raise NotImplementedError


class FederatedDataset(Mapping[str, Examples]):
    """Examples by client, lazily read: nothing is touched until a client is looked up.

    Args:
        sizes: Client id -> number of examples, in the order that `client_ids` keeps.
        read: Returns the columns of one client; called at every look-up, so it must be free of side effects.
        name: What error messages call this data set.

    Raises:
        TypeError: A client id is not a string.

    Example:
        >>> data = FederatedDataset.from_dict({"ada": {"x": [1.0, 2.0]}, "bob": {"x": [3.0]}})
        >>> data.sizes["ada"], data["bob"]["x"]
        (2, array([3.]))
    """

    def __init__(self, sizes: Mapping[str, int], read: Callable[[str], Examples], *, name: str = "dataset"):
        if not isinstance(sizes, ClientTable):
            _check_ids(sizes, name)
            sizes = MappingProxyType(dict(sizes))
        self._sizes: Mapping[str, int] = sizes
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

    @classmethod
    def from_function(
        cls, read: Callable[[str], Mapping[str, object]], client_ids: Iterable[str], *, name: str = "dataset"
    ) -> FederatedDataset:
        """A data set behind any function of a client's id, whose sizes are not known: every client is read once, now, to count.

        Where sizes are known, `FederatedDataset(sizes, read)` reads nothing.

        Args:
            read: Returns the columns of one client; called at every look-up, so it must be free of side effects.
            client_ids: Distinct ids, in the order that `client_ids` keeps.
            name: What error messages call this data set.

        Raises:
            ValueError: An id comes twice, or a client's columns differ in length.

        Example:
            >>> FederatedDataset.from_function(lambda client: {"x": np.arange(len(client))}, ["ada", "bo"]).sizes["bo"]
            2
        """
        sizes: dict[str, int] = {}
        for client in client_ids:
            if client in sizes:
                raise ValueError(f"Client ids must be distinct, got {client!r} twice. Join or rename these clients.")
            sizes[client] = num_examples(_arrays(read(client)), client=client)
        return cls(sizes, partial(_read_arrays, read), name=name)

    @cached_property
    def client_ids(self) -> Sequence[str]:
        """Every client, in a fixed order: a tuple, or for large populations a sequence that reads an id when asked for it."""
        return self._sizes.ids if isinstance(self._sizes, ClientTable) else tuple(self._sizes)

    @property
    def sizes(self) -> Mapping[str, int]:
        """Client id -> number of source examples, known without reading any; `map` and `filter` leave it as it is."""
        return self._sizes

    def size_array(self) -> np.ndarray:
        """The sizes in the order of `client_ids`, int64, shape (number of clients,)."""
        return size_array(self._sizes)

    def __getitem__(self, client_id: str) -> Examples:
        if client_id not in self._sizes:
            raise KeyError(
                f"{self.name} has no client {client_id!r}. It has {len(self)} clients"
                f"{_nearest(client_id, self._sizes)}; `client_ids` lists them all."
            )
        return self._read(client_id)

    def rows(self, client_id: str) -> tuple[Examples, np.ndarray | None]:
        """A client's examples where they lie, for whoever copies them anyway: columns, and which of their rows are the client's.

        Returns:
            The columns, and row numbers, int64 (n,), in the client's order; or the client's own columns, as a look-up gives them, and None.

        Example:
            >>> from fedloom.data import partition, partitioners
            >>> columns, rows = partition({"x": np.array([3, 1, 2])}, partitioners.iid(), num_clients=1).rows("0")
            >>> columns["x"].tolist(), sorted(rows.tolist())
            ([3, 1, 2], [0, 1, 2])
        """
        if isinstance(self._read, RowReader) and client_id in self._sizes:
            return self._read.rows(client_id)
        return self[client_id], None

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
        return f"<FederatedDataset {self.name}: {len(self)} clients, {self.size_array().sum()} examples>"

    def __getstate__(self):  # so that a data set can be sent to another process, if what it reads with can
        return self._sizes if isinstance(self._sizes, ClientTable) else dict(self._sizes), self._read, self.name

    def __setstate__(self, state):
        sizes, self._read, self.name = state
        self._sizes = MappingProxyType(sizes) if isinstance(sizes, dict) else sizes

    def map(self, fn: Callable[[Examples], Examples]) -> FederatedDataset:
        """`fn` on each client's columns as a whole, when that client is read; `sizes` stay those of the source."""
        return self._with(read=partial(_apply, self._read, fn))

    def filter(self, keep: Callable[[Examples], np.ndarray]) -> FederatedDataset:
        """Some of each client's examples, chosen when that client is read; `sizes` stay those of the source.

        Args:
            keep: From a client's columns to booleans of shape (n,): which examples stay.

        Raises:
            ValueError: On reading a client, if what `keep` returns is not one boolean per example.

        Example:
            >>> data = FederatedDataset.from_dict({"ada": {"x": [1, -2, 3]}})
            >>> data.filter(lambda columns: columns["x"] > 0)["ada"]["x"]
            array([1, 3])
        """
        return self._with(read=partial(_keep, self._read, keep))

    def take(self, count: int) -> FederatedDataset:
        """The first `count` examples of each client, or all it has.

        Raises:
            ValueError: `count` is negative.
        """
        if count < 0:
            raise ValueError(f"count must be at least 0, got {count}.")
        return self._with(resized(self._sizes, np.minimum(self.size_array(), count)), partial(_slice, self._read, slice(count)))

    def concat(self, *others: FederatedDataset) -> FederatedDataset:
        """The clients of all these data sets; a client that several have gets its examples one after the other.

        Clients of the first come first, in its order, then those that only later ones have.

        Example:
            >>> old = FederatedDataset.from_dict({"ada": {"x": [1]}})
            >>> both = old.concat(FederatedDataset.from_dict({"bob": {"x": [2]}, "ada": {"x": [3, 4]}}))
            >>> dict(both.sizes), both["ada"]["x"]
            ({'ada': 3, 'bob': 1}, array([1, 3, 4]))
        """
        parts = (self, *others)
        return self._with(joined([part._sizes for part in parts]), partial(_read_all, parts), " + ".join(part.name for part in parts))

    def cache(self, max_bytes: int = 1 << 30) -> FederatedDataset:
        """Keeps what is read, after all maps before this, in memory, so that later rounds read and prepare no client twice.

        Args:
            max_bytes: Of the columns kept; beyond it those not used for the longest time are dropped. Kept arrays are read-only.
        """
        from ._client_cache import ClientCache

        return self._with(read=ClientCache(self._read, max_bytes))

    def subset(self, client_ids: Iterable[str]) -> FederatedDataset:
        """These clients only, in the order given.

        Raises:
            KeyError: A client is not in this data set; the message names it.
        """
        try:
            return self._with(lookup(self._sizes, client_ids))
        except KeyError as error:
            self[error.args[0]]  # raises, with the message that a look-up gives
            raise

    def sample(self, size: int, *, seed: int = 0) -> FederatedDataset:
        """So many clients, drawn uniformly without replacement, in the order that they have here.

        Raises:
            ValueError: `size` is not in [1, number of clients].
        """
        if not 1 <= size <= len(self):
            raise ValueError(f"size must be in [1, {len(self)}], the number of clients of {self.name}, got {size}.")
        return self._at(np.sort(np.random.default_rng(seed).choice(len(self), size, replace=False)))

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
        _check_share(share)
        sizes = self.size_array()
        held = held_out_counts(sizes, share)
        return (
            self._with(resized(self._sizes, sizes - held), partial(_part, self._read, share, False), f"{self.name}, first part"),
            self._with(resized(self._sizes, held), partial(_part, self._read, share, True), f"{self.name}, last part"),
        )

    def split_clients(self, share: float, *, seed: int = 0) -> tuple[FederatedDataset, FederatedDataset]:
        """The clients in two: all but a random `share` of them, and those, each in the order that they have here.

        Args:
            share: In (0, 1). The second part is rounded up, but one client at least is in the first.
            seed: Decides who is where.

        Raises:
            ValueError: `share` is out of range.

        Example:
            >>> data = FederatedDataset.from_dict({name: {"x": [1]} for name in "abcdef"})
            >>> [len(part) for part in data.split_clients(0.3)]
            [4, 2]
        """
        _check_share(share)
        count = held_out_count(len(self), share)
        held = np.zeros(len(self), bool)
        held[np.random.default_rng(seed).choice(len(self), count, replace=False)] = True
        return self._at(np.flatnonzero(~held)), self._at(np.flatnonzero(held))

    def filter_sizes(self, *, at_least: int = 0, at_most: int | None = None) -> FederatedDataset:
        """The clients with so many source examples, bounds included."""
        sizes = self.size_array()
        return self._at(np.flatnonzero((sizes >= at_least) & (sizes <= (sizes.max(initial=0) if at_most is None else at_most))))

    def save(self, path: str | os.PathLike[str], *, on_client: Callable[[str], None] | None = None) -> FederatedDataset:
        """Writes the data set, as mapped and filtered, in fedloom's own form, client by client, and opens it from there.

        What is opened takes no time and almost no memory, whatever the population: `fl.data.load(path)`.

        Args:
            path: A folder that does not exist yet. It appears when all is written, never before.
            on_client: Called with every client's id when it is written, to show progress.

        Raises:
            FileExistsError: There is something at `path`.
            ValueError: A client's columns cannot be stored, or differ from those of the clients before it.
        """
        from .storage import StoreWriter, open_store

        with StoreWriter(path, name=self.name) as writer:
            for client_id in self:
                writer.add(client_id, self._read(client_id))
                if on_client:
                    on_client(client_id)
        return open_store(path)

    def _with(
        self, sizes: Mapping[str, int] | None = None, read: Callable[[str], Examples] | None = None, name: str | None = None
    ) -> FederatedDataset:
        made = FederatedDataset.__new__(FederatedDataset)  # ids were checked when they came in
        made.__setstate__((self._sizes if sizes is None else sizes, read or self._read, name or self.name))
        return made

    def _at(self, positions: np.ndarray) -> FederatedDataset:
        return self._with(select(self._sizes, positions, self.client_ids))


def _check_ids(client_ids: Iterable[object], name: str) -> None:
    for client_id in client_ids:
        if not isinstance(client_id, str):
            raise TypeError(
                f"Client ids of {name} must be strings, got {client_id!r} of type {type(client_id).__name__}. Use str(id): 7 and '7' would "
                "be two clients in memory and one in a file."
            )


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}.")


# What reads a client after each step. Partial functions of these, and so the data set, can be sent to another process.


def _arrays(columns: Mapping[str, object]) -> dict[str, np.ndarray]:
    return {name: np.asarray(column) for name, column in columns.items()}


def _read_arrays(read: Callable[[str], Mapping[str, object]], client_id: str) -> Examples:
    return _arrays(read(client_id))


def _apply(read: Callable[[str], Examples], fn: Callable[[Examples], Examples], client_id: str) -> Examples:
    columns = read(client_id)
    try:
        return fn(columns)
    except Exception as error:
        error.add_note(f"(with the examples of client {client_id!r})")  # which `fn` does not know
        raise


def _keep(read: Callable[[str], Examples], keep: Callable[[Examples], np.ndarray], client_id: str) -> Examples:
    columns = read(client_id)
    count, mask = num_examples(columns, client=client_id), np.asarray(keep(columns))
    if mask.shape != (count,) or mask.dtype != bool:
        raise ValueError(
            f"`keep` must return one boolean per example of client {client_id!r}, shape ({count},), got {mask.dtype} {mask.shape}."
        )
    return {name: np.asarray(column)[mask] for name, column in columns.items()}


def _slice(read: Callable[[str], Examples], which: slice, client_id: str) -> Examples:
    return {name: column[which] for name, column in read(client_id).items()}


def _part(read: Callable[[str], Examples], share: float, second: bool, client_id: str) -> Examples:
    columns = read(client_id)
    count = num_examples(columns, client=client_id)
    border = count - held_out_count(count, share)
    return {name: values[border:] if second else values[:border] for name, values in columns.items()}


def _read_all(parts: Sequence[FederatedDataset], client_id: str) -> Examples:
    found = [(part.name, part[client_id]) for part in parts if client_id in part]
    (name, first), *rest = found
    for other, columns in rest:
        if columns.keys() != first.keys():
            raise ValueError(
                f"Client {client_id!r} must have the same columns in all data sets, got {sorted(first)} in {name} and {sorted(columns)} in "
                f"{other}. Make them equal with `dataset.map`."
            )
    return first if not rest else {key: np.concatenate([columns[key] for _, columns in found]) for key in first}


def held_out_count(count: int, share: float) -> int:
    """How many of a client's examples are held out: the share rounded up, but not all of them."""
    return int(held_out_counts(np.array([count]), share)[0])


def held_out_counts(counts: np.ndarray, share: float) -> np.ndarray:
    """`held_out_count` of each, int64."""
    # Rounded first: 100 * 0.07 is a hair more than 7.
    return np.clip(np.ceil(np.round(counts * share, 9)).astype(np.int64), 0, np.maximum(counts - 1, 0))


def num_examples(examples: Examples, *, client: str) -> int:
    """The common length of a client's columns.

    Raises:
        ValueError: There is no column, or their lengths differ.
    """
    lengths = [len(column) for column in examples.values()]
    if not lengths or lengths.count(lengths[0]) != len(lengths):
        raise ValueError(
            f"The columns of client {client!r} must be equally long, got {dict(zip(examples, lengths, strict=True)) or 'no columns'}. "
            "Give every column one entry per example."
        )
    return lengths[0]


def _nearest(client_id: object, known: Mapping[str, int]) -> str:
    import difflib

    if len(known) > _TOO_MANY_TO_COMPARE:
        return ""

    near = difflib.get_close_matches(str(client_id), list(known), n=3)
    return f", such as {', '.join(map(repr, near))}" if near else ""
