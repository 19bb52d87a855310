"""Arrow files by a client column: IPC files (Feather), and streams, as Hugging Face keeps on disk.

Free to change: nothing much. With care: nothing is read before the first piece is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pyarrow as pa

from .._federated import FederatedDataset
from ._row_pieces import Piece, Types, Wanted, wanted
from ._source_files import naming_damage, source_files, source_name
from ._tables import in_memory

ENDINGS = (".arrow", ".feather")


def from_arrow(
    path: str | os.PathLike[str], *, client: str, columns: Sequence[str] | None = None, types: Types | None = None, name: str | None = None
) -> FederatedDataset:
    """Arrow IPC files or streams with a column that says whose a row is, read into memory; for more than that there is `convert`.

    Clients are sorted by id; the examples of each keep the order of the rows, files being sorted by path. What becomes of types is said at
    `from_table`.

    Args:
        path: A file, or a folder of files ending in .arrow or .feather, such as one that Hugging Face's `save_to_disk` wrote.
        client: The column of client ids. It is not among the examples' columns.
        columns: Those that make an example; None takes all others.
        types: Column -> Arrow type, or its name such as "float64" or "string", to which it is converted.
        name: What error messages call the data set; None takes the name of the file or folder.

    Raises:
        FileNotFoundError: There is no such file, or none in the folder.
        ValueError: A file is no Arrow file or damaged, a column is not there or has a type that NumPy has not, an id is missing, or a value
            other than a floating-point number is; the message names file and column.
    """
    want = wanted(client, columns, types)
    return in_memory(arrow_pieces(path, want), want, name=name or source_name(path))


def arrow_pieces(path: str | os.PathLike[str], want: Wanted) -> Iterator[Piece]:
    """The rows of Arrow files in order, batch by batch; see `from_arrow`."""
    for path_, _ in source_files(path, ENDINGS):
        row = 0
        with naming_damage(path_, "an Arrow IPC file"), pa.OSFile(str(path_)) as file:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
            chosen = want.of(reader.schema.names, str(path_))
            for batch in map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader:
                batch.validate(full=True)
                yield Piece(batch.select(chosen), str(path_), row)
                row += batch.num_rows
