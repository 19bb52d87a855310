"""Federated Stack Overflow: a client is a user of the site, an example is a sentence of a question or an answer.

169 million sentences of users with at least 100 sentences each: the largest of TFF's data sets.
"""

from __future__ import annotations

import os

from .._federated import FederatedDataset
from ._info import DatasetInfo, Split
from ._official import Layout, read_official

_FEATURES = {
    "creation_date": ("str", ()),
    "score": ("int64", ()),
    "tags": ("str", ()),
    "title": ("str", ()),
    "tokens": ("str", ()),
    "type": ("str", ()),
}
_LAYOUTS = {
    "train": Layout("train", "stackoverflow_train.h5"),
    "held_out": Layout("heldout", "stackoverflow_held_out.h5"),
    "test": Layout("test", "stackoverflow_test.h5"),
}


def stackoverflow(
    *, path: str | os.PathLike[str] | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> tuple[FederatedDataset, FederatedDataset, FederatedDataset]:
    """Train, held-out and test data of `tff.simulation.datasets.stackoverflow`; clients sorted by id.

    `held_out` has one user in ten, whom neither of the others has; of the rest `train` has what they wrote before 2018, and
    `test` what they wrote later. Every client has the columns `tokens` (a sentence in lower case, words and punctuation
    separated by spaces), `creation_date` (as text, UTC), `title`, `tags` (separated by "|"), `type` ("question" or
    "answer"), which are object arrays of `str`, and `score`, int64; all of shape (n,).

    Args:
        path: `stackoverflow.sqlite`, the same with `.lzma`, or a folder with TFF's older HDF5 files
            `stackoverflow_train.h5`, `stackoverflow_held_out.h5` and `stackoverflow_test.h5`. `None` downloads TFF's file
            once and unpacks it: allow many gigabytes and hours. `save` each part then in fedloom's own form, which opens
            at once.
        cache_dir: Where both are kept; `None` is `$FEDLOOM_CACHE`, else `~/.cache/fedloom`.

    Raises:
        ValueError: A file is not what it should be.
        FileNotFoundError: `path`, or a file in it, does not exist.
        ConnectionError: The download fails, or breaks off; the next call goes on from there.

    Example:
        >>> train, held_out, test = stackoverflow()  # doctest: +SKIP
        >>> train[train.client_ids[0]]["tokens"][0]  # doctest: +SKIP
    """
    train, held_out, test = read_official(INFO, _LAYOUTS, _FEATURES, path, cache_dir, max_bytes=1 << 38)
    return train, held_out, test


INFO = DatasetInfo(
    name="stackoverflow",
    summary="Sentences of questions and answers; a client is a user of Stack Overflow.",
    columns={
        "tokens": "str, words separated by spaces",
        "creation_date": "str, such as '2010-01-08 09:34:05 UTC'",
        "score": "int64",
        "tags": "str, separated by '|'",
        "title": "str",
        "type": "str, 'question' or 'answer'",
    },
    splits={"train": Split(342_477, 135_818_730), "held_out": Split(38_758, 16_491_230), "test": Split(204_088, 16_586_035)},
    url="https://storage.googleapis.com/tff-datasets-public/stackoverflow.sqlite.lzma",
    size=None,
    sha256=None,
    licence="CC BY-SA 3.0",
    citation="The TensorFlow Federated Authors 2019, TensorFlow Federated Stack Overflow dataset",
    load=stackoverflow,
)
