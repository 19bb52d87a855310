"""A small population in every form that `fl.data.load` takes."""

import gzip
import json
import lzma
import sqlite3
import zlib
from contextlib import closing

import datasets
import msgpack
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from data.tff_layout import write_hdf5, write_sqlite

from fedloom.data import FederatedDataset

X = {"ada": [1, 2], "bob": [3]}
ROWS = {"client_id": ["bob", "ada", "ada"], "x": [3, 1, 2]}


def store(folder):
    FederatedDataset.from_dict({client: {"x": x} for client, x in X.items()}).save(folder / "store")
    return folder / "store"


def csv(folder, name="rows.csv", separator=","):
    text = pd.DataFrame(ROWS).to_csv(index=False, sep=separator)
    opener = gzip.open if name.endswith(".gz") else open
    with opener(folder / name, "wt") as file:
        file.write(text)
    return folder / name


def csv_folder(folder):
    (folder / "part").mkdir()
    csv(folder / "part")
    return folder / "part"


def parquet(folder):
    pyarrow.parquet.write_table(pa.table(ROWS), folder / "rows.of-any-name")
    return folder / "rows.of-any-name"


def partitioned(folder):
    pd.DataFrame(ROWS).to_parquet(folder / "by", partition_cols=["client_id"])
    return folder / "by"


def feather(folder):
    with pa.ipc.new_file(str(folder / "rows.arrow"), pa.table(ROWS).schema) as file:
        file.write_table(pa.table(ROWS))
    return folder / "rows.arrow"


def hugging_face_folder(folder):
    datasets.Dataset.from_dict(ROWS).select([1, 2, 0]).save_to_disk(folder / "saved")
    return folder / "saved"


def tff_sqlite(folder):
    return write_sqlite(folder / "tff", {"train": {client: [{"x": value} for value in x] for client, x in X.items()}})


def tff_lzma(folder):
    (folder / "tff.sqlite.lzma").write_bytes(lzma.compress(tff_sqlite(folder).read_bytes()))
    return folder / "tff.sqlite.lzma"


def tff_hdf5(folder):
    return write_hdf5(folder / "tff", {client: {"x": np.array(x)} for client, x in X.items()})


def tff_hdf5_folder(folder):
    write_hdf5(folder / "set_train.h5", {client: {"x": np.array(x)} for client, x in X.items()})
    return folder


def fedjax(folder):
    def packed(x):
        array = np.array(x)
        return zlib.compress(msgpack.packb({"x": msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))}))

    with closing(sqlite3.connect(folder / "fedjax.sqlite")) as database:
        database.execute(
            "CREATE TABLE federated_data (client_id BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL, num_examples INTEGER NOT NULL)"
        )
        database.executemany("INSERT INTO federated_data VALUES (?, ?, ?)", [(c.encode(), packed(x), len(x)) for c, x in X.items()])
        database.commit()
    return folder / "fedjax.sqlite"


def leaf(folder):
    data = {"users": list(X), "num_samples": [2, 1], "user_data": {client: {"x": x, "y": x} for client, x in X.items()}}
    (folder / "data").mkdir()
    (folder / "data" / "all.json").write_text(json.dumps(data))
    return folder / "data"


def npz_folder(folder):
    for client, x in X.items():
        np.savez(folder / f"{client}.npz", x=np.array(x))
    return folder


SOURCES = {
    "a dict": lambda folder: {client: {"x": x} for client, x in X.items()},
    "pandas": lambda folder: pd.DataFrame(ROWS),
    "polars": lambda folder: pl.DataFrame(ROWS),
    "pyarrow": lambda folder: pa.table(ROWS),
    "csv": csv,
    "tsv": lambda folder: csv(folder, "rows.tsv", "\t"),
    "csv.gz": lambda folder: csv(folder, "rows.csv.gz"),
    "LEAF file": lambda folder: leaf(folder) / "all.json",
    **{
        make.__name__: make
        for make in (store, csv_folder, parquet, partitioned, feather, hugging_face_folder, tff_sqlite, tff_lzma, tff_hdf5)
    },
    **{make.__name__: make for make in (tff_hdf5_folder, fedjax, leaf, npz_folder)},
}
"""Name of a form -> what makes it in an empty folder, and returns what `load` takes."""
