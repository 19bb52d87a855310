"""load: any source of federated data, recognized by what it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import datasets, sources
from ._federated import FederatedDataset
from .storage import is_store, open_store

_TABLES = {f"{form}{folder}" for form in ("arrow", "csv", "parquet") for folder in ("", " folder")} | {"table"}  # rows with a client column
_SPLIT = {"tff_sqlite", "lzma", "hdf5 folder", "leaf", "leaf folder", "dataset"}  # sources that may hold several splits


def load(
    source: Any, *, client: str | None = None, split: str | None = None, columns: Sequence[str] | None = None, name: str | None = None
) -> FederatedDataset:
    """Federated data from anywhere; what the source is shows in its content, not in its name.

    | source | read by |
    | --- | --- |
    | a folder that `dataset.save` wrote | here, memory-mapped |
    | a table: pandas, polars, pyarrow, Hugging Face `datasets`, anything with an Arrow stream | `from_table` |
    | `.csv`, `.tsv`, also under gzip; a folder of them | `from_csv` |
    | Parquet: a file, a folder, partitioned or not | `from_parquet` |
    | Arrow IPC (Feather): a file, a folder, as of Hugging Face's `save_to_disk` | `from_arrow` |
    | TFF's SQLite (also under LZMA) and HDF5 | `from_tff_sqlite`, `from_tff_hdf5` |
    | FedJAX' SQLite | `from_fedjax` |
    | LEAF's json: a file, a folder | `from_leaf` |
    | a folder with a file or a folder per client: text, npz, images | `from_folder` |
    | the name of a public data set, such as "shakespeare" | `fl.data.shakespeare` and its like |
    | a dict of client id -> columns | `FederatedDataset.from_dict` |

    Args:
        source: One of these; a path that could be the name of a data set is written `./shakespeare`.
        client: For tables, the column with the client ids; None is "client_id".
        split: Which split, for sources with several, such as "train"; None takes the only one, and of a public data set the training split.
        columns: For tables, the columns to keep; None keeps all but `client`.
        name: What error messages call the data set; None takes the source's name.

    Raises:
        FileNotFoundError: There is no such file, folder or data set.
        ValueError: The source is not what it seems, is damaged, or does not go with the other arguments.
        TypeError: It is no kind of source that is known.

    Example:
        >>> import pyarrow as pa
        >>> table = pa.table({"who": ["bob", "ada", "ada"], "x": [1, 2, 3]})
        >>> load(table, client="who")["ada"]["x"]
        array([2, 3])
    """
    kind, place = _recognized(source)
    fits = {"split": kind in _SPLIT, "client": kind in _TABLES, "columns": kind in _TABLES}
    for argument, value in (("split", split), ("client", client), ("columns", columns)):
        if value is not None and not fits[argument]:
            raise ValueError(f"{argument} must be left out for a source of this kind ({kind}), got {value!r}.")
    table = {"client": client or "client_id", "columns": columns}
    match kind:
        case "dataset":
            data = datasets.load(place, split=split or "train")
            data.name = name or data.name
            return data
        case "table":
            return sources.from_table(place, **table, name=name or "table")
        case "dict":
            return FederatedDataset.from_dict(place, name=name or "dataset")
        case "store":
            return open_store(place, name=name)
        case "arrow" | "arrow folder":
            return sources.from_arrow(place, **table, name=name)
        case "csv" | "csv folder":
            return sources.from_csv(place, **table, name=name)
        case "parquet" | "parquet folder":
            return sources.from_parquet(place, **table, name=name)
        case "tff_sqlite" | "lzma":
            return sources.from_tff_sqlite(place, split, name=name)
        case "fedjax":
            return sources.from_fedjax(place, name=name)
        case "hdf5":
            return sources.from_tff_hdf5(place, name=name)
        case "hdf5 folder":
            return sources.from_tff_hdf5(_hdf5_split(place, split), name=name)
        case "leaf" | "leaf folder":
            return sources.from_leaf(place, split=split, name=name)
        case _:
            return sources.from_folder(place, name=name)


def _recognized(source: Any) -> tuple[str, Any]:
    """What kind of source this is, and where."""
    if isinstance(source, str) and source in datasets.DATASETS:
        return "dataset", source
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        if not path.exists():
            names = ", ".join(sorted(datasets.DATASETS))
            raise FileNotFoundError(f"source must be a file, a folder or the name of a data set ({names}), got {os.fspath(source)!r}.")
        return _path_kind(path), path
    if isinstance(source, FederatedDataset):
        raise TypeError("source is a FederatedDataset already; there is nothing to load.")
    if isinstance(source, Mapping) and all(isinstance(value, Mapping) for value in source.values()):
        return "dict", source
    if sources.is_table(source):
        return "table", source
    raise TypeError(
        "source must be a path, the name of a data set, a table with a client column or a dict of client id -> columns, got "
        f"{type(source).__name__}. For arrays there is fl.data.from_arrays, for a function FederatedDataset.from_function."
    )


def _path_kind(path: Path) -> str:
    if path.is_dir():
        return "store" if is_store(path) else f"{sources.folder_kind(path)} folder"
    kind = sources.file_kind(path)
    if kind == "sqlite":
        raise ValueError(
            f"{path} must have the tables of TFF (examples, client_metadata) or of FedJAX (federated_data), got an SQLite database with "
            "others. For a table with a row per example there is fl.data.convert(path, folder, table=..., client=...)."
        )
    return kind


def _hdf5_split(folder: Path, split: str | None) -> Path:
    files = {file.stem.rsplit("_", 1)[1]: file for file in sorted(folder.glob("*_*.h5"))}
    if (split is None and len(files) > 1) or (split is not None and split not in files):
        raise ValueError(f"split must name one of the files {sorted(file.name for file in files.values())} of {folder}, got {split!r}.")
    return files[split] if split else next(iter(files.values()))
