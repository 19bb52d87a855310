"""Tables in memory by a client column: arrays, and whatever speaks Arrow, such as pandas, polars, pyarrow, Hugging Face, DuckDB.

None of these libraries is imported: a table is known by what it can do.
Free to change: how a kind of table becomes Arrow. With care: rows keep their order, shuffled or selected views included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from .._clients import ClientTable
from .._federated import Examples, FederatedDataset
from ._client_ids import ids_from_objects, text_ids
from ._grouping import by_client, group
from ._row_pieces import Piece, Types, Wanted, numbered, split_pieces, wanted

_ROWS_AT_ONCE = 1 << 14  # of a Hugging Face data set, whose rows may lie anywhere on disk


def from_arrays(columns: Mapping[str, Any], client_ids: Any, *, name: str = "arrays") -> FederatedDataset:
    """Arrays with one entry per example, and the client of each.

    Clients are sorted by id; the examples of each keep their order.

    Args:
        columns: Name -> array of shape (n, ...), of any dtype.
        client_ids: Shape (n,): text, or whole numbers, which become their `str`.
        name: What error messages call the data set.

    Raises:
        ValueError: There is no column or no row, lengths differ, or an id is missing, empty, or neither text nor a whole number.

    Example:
        >>> data = from_arrays({"x": np.array([[1.0], [2.0], [3.0]])}, ["bob", "ada", "bob"])
        >>> list(data), data["bob"]["x"].tolist()
        (['ada', 'bob'], [[1.0], [3.0]])
    """
    ids = _ids_of(client_ids, name)
    arrays = {key: _array(key, values, name) for key, values in columns.items()}
    lengths = {key: len(values) for key, values in arrays.items()}
    if not lengths or set(lengths.values()) != {len(ids)}:
        raise ValueError(
            f"The columns of {name} must have one entry for each of the {len(ids)} client_ids, got {lengths or 'no columns'}. "
            "Make them equally long."
        )
    if not len(ids):
        raise ValueError(f"There must be a row at least to make a client from, got none in {name}. Look at what it holds.")
    groups = group(ids)
    if groups.order is not None:
        arrays = {key: values[groups.order] for key, values in arrays.items()}
    clients = ClientTable(groups.ids, groups.sizes)
    return FederatedDataset(clients, partial(_slice, arrays, clients, np.cumsum(groups.sizes)), name=name)


def from_table(
    table: Any, *, client: str, columns: Sequence[str] | None = None, types: Types | None = None, name: str = "table"
) -> FederatedDataset:
    """A table with a column that says whose a row is; it is copied once, into the order of the clients.

    Clients are sorted by id; the examples of each keep the order of the rows. Numbers, times (in UTC), text, bytes and lists keep their
    values; missing floating-point numbers are NaN. Lists become arrays: of shape (n, k) where Arrow knows the length k, else ragged. Files
    within rows, as Hugging Face stores images, are their bytes.

    Args:
        table: A pandas or polars `DataFrame`, a pyarrow `Table` or `Dataset`, a Hugging Face `Dataset`, a DuckDB relation, or anything else
            with Arrow's `__arrow_c_stream__`.
        client: The column of client ids: text, or whole numbers, which become their `str`. It is not among the examples' columns.
        columns: Those that make an example; None takes all others.
        types: Column -> Arrow type, or its name such as "float64" or "string", to which it is converted.
        name: What error messages call the table.

    Raises:
        ValueError: A column is not there or has a type that NumPy has not, or there is a row without an id, or without a value where it
            cannot be NaN; the message names column, row and client.
        TypeError: `table` is none of these.

    Example:
        >>> data = from_table(pa.table({"user": [7, 12, 7], "text": ["a", "b", "c"]}), client="user")
        >>> dict(data.sizes), data["7"]["text"]
        ({'12': 1, '7': 2}, array(['a', 'c'], dtype=object))
    """
    want = wanted(client, columns, types)
    return in_memory(table_pieces(table, want, name), want, name=name)


def in_memory(pieces: Iterator[Piece], want: Wanted, *, name: str) -> FederatedDataset:
    """The rows of a source by client, in memory."""
    ids, examples = zip(*split_pieces(pieces, want, name), strict=True)
    return by_client(pa.chunked_array(ids), pa.Table.from_batches(examples), name=name)


def table_pieces(table: Any, want: Wanted, name: str) -> Iterator[Piece]:
    """The rows of a table, in order; see `from_table`.

    Raises:
        TypeError: `table` is no table.
    """
    return numbered(table_batches(table, want, name), name)


def is_table(thing: Any) -> bool:
    """Whether this is meant to be a table."""
    marks = ("__arrow_c_stream__", "__arrow_c_array__", "to_batches")
    return any(hasattr(thing, mark) for mark in marks) or _library(thing) in ("pandas", "polars", "datasets")


def table_batches(table: Any, want: Wanted, name: str) -> Iterator[pa.RecordBatch]:
    if _library(table) == "pandas" and type(table).__name__ == "DataFrame":
        return iter(_from_pandas(table, want, name).to_batches())
    if _library(table) == "datasets" and hasattr(table, "with_format"):
        return _from_hugging_face(table, want, name)
    if hasattr(table, "__arrow_c_stream__"):
        return _from_stream(table, want, name)
    if hasattr(table, "__arrow_c_array__"):
        return iter([_select(pa.record_batch(table), want, name)])
    if hasattr(table, "to_batches") and hasattr(table, "schema"):  # a pyarrow data set
        return table.to_batches(columns=want.of(table.schema.names, name))
    raise _no_table(table)


def _from_stream(table: Any, want: Wanted, name: str) -> Iterator[pa.RecordBatch]:
    try:
        reader = pa.RecordBatchReader.from_stream(table)
    except pa.ArrowInvalid as error:  # a stream of something else than rows
        raise _no_table(table) from error
    chosen = want.of(reader.schema.names, name)
    for batch in reader:
        yield batch.select(chosen)


def _select(batch: pa.RecordBatch, want: Wanted, name: str) -> pa.RecordBatch:
    return batch.select(want.of(batch.schema.names, name))


def _from_pandas(frame: Any, want: Wanted, name: str) -> pa.Table:
    """A pandas data frame, without its index. Column by column, so that an error can say which."""
    known = [str(column) for column in frame.columns]
    if want.client not in known and want.client in frame.index.names:
        raise ValueError(f"client must name a column of {name}, got {want.client!r}, which is its index. Pass `table.reset_index()`.")
    arrays = {}
    for column in want.of(known, name):
        series = frame.iloc[:, known.index(column)]
        if column == want.client and series.dtype == object:
            arrays[column] = ids_from_objects(series.tolist(), column=column, source=name)
            continue
        try:
            arrays[column] = pa.array(series, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ValueError(
                f"Column {column!r} of {name} must hold values of one type that Arrow has, got {series.dtype}: {error}. Convert it with "
                "`astype`, or leave it out with `columns=`."
            ) from error
    return pa.table(arrays)


def _from_hugging_face(dataset: Any, want: Wanted, name: str) -> Iterator[pa.RecordBatch]:
    known = dataset.column_names
    if isinstance(known, dict):
        raise TypeError(f"table must be one data set, got {len(known)} splits of {name}. Choose one of {', '.join(map(repr, known))}.")
    if not hasattr(dataset, "__len__") or known is None:
        raise TypeError(
            f"table must be a data set at hand, got the {type(dataset).__name__} {name}, which streams. Write it to disk with "
            '`fl.data.convert(dataset.with_format("arrow").iter(10_000), path, client=...)`.'
        )
    rows = dataset.select_columns(want.of(known, name)).with_format("arrow")
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        # Through its own indexing, which knows of `shuffle` and `select`.
        yield from rows[start : start + _ROWS_AT_ONCE].to_batches()


def _no_table(thing: Any) -> TypeError:
    kind = type(thing).__name__
    hints = {
        "LazyFrame": "Call its collect().",
        "Series": "Pass the DataFrame.",
        "dict": "Pass arrays and client ids to fl.data.from_arrays.",
    }
    return TypeError(
        "table must be a pandas or polars DataFrame, a pyarrow Table, a Hugging Face Dataset or another thing with __arrow_c_stream__, got "
        f"{kind}. {hints.get(kind, 'Convert it to one of these.')}"
    )


def _ids_of(client_ids: Any, name: str) -> pa.Array:
    column = "client_ids"
    if isinstance(client_ids, pa.ChunkedArray):
        client_ids = client_ids.combine_chunks()
    if isinstance(client_ids, pa.Array):
        return text_ids(client_ids, column=column, source=name)
    array = client_ids if isinstance(client_ids, np.ndarray) else None
    if array is None and hasattr(client_ids, "__array__"):
        array = np.asarray(client_ids)
    if array is not None and array.ndim != 1:
        raise ValueError(f"client_ids must have one dimension, got shape {array.shape}. Give one id per example.")
    if array is not None and array.dtype.kind in "iu":
        return text_ids(pa.array(array.astype(array.dtype.newbyteorder("="))), column=column, source=name)
    return ids_from_objects(client_ids if array is None else array.tolist(), column=column, source=name)


def _array(key: str, values: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"Column {key!r} of {name} must be an array, got {error}. Make it an array of objects if it is ragged.") from error
    if not array.ndim:
        raise ValueError(f"Column {key!r} of {name} must have one entry per example, got the single value {values!r}.")
    return array.astype(object) if array.dtype.kind == "U" else array


def _slice(arrays: Mapping[str, np.ndarray], clients: ClientTable, ends: np.ndarray, client_id: str) -> Examples:
    position = clients.position(client_id)
    assert position is not None, client_id  # a data set asks for its own clients only
    end = int(ends[position])
    return {name: values[end - int(clients.size_array[position]) : end] for name, values in arrays.items()}


def _library(thing: Any) -> str:
    return type(thing).__module__.partition(".")[0]
