"""HDF5 in TFF's layout: its real Shakespeare files, and files made here."""

import pickle
from contextlib import suppress

import h5py
import numpy as np
import pytest
from data.tff_layout import write_hdf5

from fedloom.data.sources import _tff_hdf5, from_tff_hdf5

KING = "THE_TRAGEDY_OF_KING_LEAR_KING"
CLIENTS = {
    "O'BRIEN\"; --": {"snippets": [b"one", b"", b"caf\xc3\xa9"]},
    ".._%20?x": {"snippets": [b"\xff four"]},
    "EMPTY": {"snippets": []},
}


# --- the real files


@pytest.fixture(scope="module")
def real(tff_folder):
    return [from_tff_hdf5(tff_folder / f"shakespeare_{split}.h5") for split in ("train", "test")]


def test_the_real_files_have_the_documented_sizes(real):
    train, test = real
    assert train.client_ids == test.client_ids == tuple(sorted(train.client_ids))
    assert len(train) == 715
    assert (sum(train.sizes.values()), sum(test.sizes.values())) == (16068, 2356)


def test_the_real_snippets(real):
    train, test = real
    assert train[KING]["snippets"][0].startswith("Live regist'red upon our brazen tombs")
    empty = [sum(not snippet for client in split.values() for snippet in client["snippets"]) for split in real]
    assert empty == [150, 45]
    assert all(len(test[client]["snippets"]) == size for client, size in test.sizes.items())


# --- the layout


def test_text(tmp_path):
    data = from_tff_hdf5(write_hdf5(tmp_path / "x.h5", CLIENTS))
    assert data.name == "x"
    assert list(data.sizes.items()) == [(".._%20?x", 1), ("EMPTY", 0), ("O'BRIEN\"; --", 3)]
    assert data["O'BRIEN\"; --"]["snippets"].tolist() == ["one", "", "café"]
    assert data[".._%20?x"]["snippets"].tolist() == ["\ufffd four"]
    assert data["EMPTY"]["snippets"].shape == (0,)


def test_bytes_stay_as_they_are(tmp_path):
    data = from_tff_hdf5(write_hdf5(tmp_path / "x.h5", CLIENTS), features={"snippets": ("bytes", ())})
    assert {client: columns["snippets"].tolist() for client, columns in data.items()} == {c: v["snippets"] for c, v in CLIENTS.items()}


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", ">i4", "uint64", "float16", "float32", ">f8"])
def test_numbers_of_any_shape(tmp_path, dtype):
    numbers = (np.arange(24) % 2).reshape(4, 2, 3).astype(dtype)
    data = from_tff_hdf5(write_hdf5(tmp_path / "x.h5", {"a": {"x": numbers, "y": numbers[:, 0, 0], "t": [b"a", b"b", b"c", b"d"]}}))
    assert (data.sizes["a"], list(data["a"])) == (4, ["t", "x", "y"])
    np.testing.assert_array_equal(data["a"]["x"], numbers, strict=np.dtype(dtype).isnative)
    assert data["a"]["x"].dtype == np.dtype(dtype).newbyteorder("=")


def test_features_choose_columns_and_dtypes(tmp_path):
    path = write_hdf5(tmp_path / "x.h5", {"a": {"image": np.full((2, 3), 255), "z": np.zeros(1)}})
    columns = from_tff_hdf5(path, features={"image": ("uint8", (3,))})["a"]
    np.testing.assert_array_equal(columns["image"], np.full((2, 3), 255, np.uint8), strict=True)
    assert list(columns) == ["image"]
    with pytest.raises(ValueError, match=r"column 'image' of client 'a', int64 with values that int8 cannot hold"):
        from_tff_hdf5(path, features={"image": ("int8", (3,))})["a"]
    with pytest.raises(ValueError, match=r"column 'image' of client 'a', int64 \(3,\) where int64 \(\) is expected"):
        from_tff_hdf5(path, features={"image": ("int64", ())})


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"x": np.zeros((1, 3))}, r"column 'x' of client 'b', float64 \(3,\) where float64 \(2,\) is expected"),
        ({"x": [b"text"]}, r"column 'x' of client 'b', \|S4 \(\) where float64 \(2,\)"),
        ({"y": np.zeros((1, 2))}, "no such thing as 'x' in /examples/b"),
        ({"x": np.full((1, 2), "x", "S1")}, "in column 'x' of client 'b'"),
    ],
)
def test_a_client_unlike_the_first_is_named(tmp_path, second, expected):
    with pytest.raises(ValueError, match=expected):
        from_tff_hdf5(write_hdf5(tmp_path / "x.h5", {"a": {"x": np.zeros((3, 2))}, "b": second}))


def test_integers_among_floats_are_converted_as_the_first_client_says(tmp_path):
    path = write_hdf5(tmp_path / "x.h5", {"a": {"x": np.array([0.5])}, "b": {"x": np.array([2])}, "c": {"x": np.array([2**60 + 1])}})
    data = from_tff_hdf5(path)
    np.testing.assert_array_equal(data["b"]["x"], np.array([2.0]), strict=True)
    with pytest.raises(ValueError, match="column 'x' of client 'c', int64 with values that float64 cannot hold"):
        data["c"]


def test_columns_of_unequal_length(tmp_path):
    with pytest.raises(ValueError, match=r"unequal length for client 'a': \{'x': 2, 'y': 3\}"):
        from_tff_hdf5(write_hdf5(tmp_path / "x.h5", {"a": {"x": np.zeros(2), "y": np.zeros(3)}}))


def test_readers_can_be_pickled(tmp_path):
    """Workers in other processes are handed the data set, not an open file."""
    read = pickle.loads(pickle.dumps(from_tff_hdf5(write_hdf5(tmp_path / "x.h5", CLIENTS))._read))
    assert read("EMPTY")["snippets"].shape == (0,)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing at .*nowhere\.h5"):
        from_tff_hdf5(tmp_path / "nowhere.h5")


# --- files that are not what they should be


def external_link(root):
    root["examples/B/snippets"] = h5py.ExternalLink("secret.h5", "/x")


def soft_link(root):
    root["examples/B"] = h5py.SoftLink("/examples/EMPTY")


def linked_examples(root):
    del root["examples"]
    root["examples"] = h5py.ExternalLink("secret.h5", "/")


def external_storage(root):
    root.create_dataset("examples/B/snippets", (1,), "S4", external=[("secret.h5", 0, 4)])


def virtual(root):
    layout = h5py.VirtualLayout((1,), "S4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (1,))
    root.create_virtual_dataset("examples/B/snippets", layout)


def huge(root):
    root.create_dataset("examples/B/snippets", (1 << 50,), "S8", chunks=(1 << 10,))


def strings_of_any_length(root):
    root.create_dataset("examples/B/snippets", data=["x"], dtype=h5py.string_dtype())


def arrays_of_any_length(root):
    root.create_dataset("examples/B/snippets", (1,), h5py.vlen_dtype(np.int32))


def references(root):
    root.create_dataset("examples/B/snippets", data=[root.ref], dtype=h5py.ref_dtype)


def records(root):
    root["examples/B/snippets"] = np.zeros(1, [("a", "i4")])


def opaque(root):
    root["examples/B/snippets"] = np.zeros(1, "V8")


def complex_numbers(root):
    root["examples/B/snippets"] = np.zeros(1, complex)


def numbers(root):
    root["examples/B/snippets"] = [1.0]


def matrix(root):
    root["examples/B/snippets"] = np.array([[b"x"]])


def scalar(root):
    root["examples/B/snippets"] = np.bytes_(b"x")


def nothing(root):
    root.create_dataset("examples/B/snippets", dtype="S4", shape=None)


def no_snippets(root):
    root.create_group("examples/B")


def first_client_without_columns(root):
    root.create_group("examples/ ")


def client_is_a_dataset(root):
    root["examples/B"] = [1.0]


def no_examples(root):
    del root["examples"]


def no_clients(root):
    del root["examples"]
    root.create_group("examples")


HOSTILE = [
    *(external_link, soft_link, linked_examples, external_storage, virtual, huge, strings_of_any_length, arrays_of_any_length, references),
    *(records, opaque, complex_numbers, numbers, matrix, scalar, nothing, no_snippets, first_client_without_columns, client_is_a_dataset),
    *(no_examples, no_clients),
]


@pytest.mark.parametrize("features", [None, {"snippets": ("str", ())}], ids=["found", "given"])
@pytest.mark.parametrize("spoil", HOSTILE, ids=lambda spoil: spoil.__name__)
def test_hostile(tmp_path, spoil, features):
    with h5py.File(tmp_path / "secret.h5", "w") as root:
        root["x"] = np.array([b"mine"])
    path = write_hdf5(tmp_path / "x.h5", CLIENTS)
    with h5py.File(path, "a") as root:
        spoil(root)
    with pytest.raises(ValueError, match=r"x\.h5 (must be|has, in column 'snippets' of client)"):
        from_tff_hdf5(path, features=features)


def test_the_bound_is_on_all_columns_together(tmp_path, monkeypatch):
    path = write_hdf5(tmp_path / "x.h5", {"a": {"x": np.zeros(10), "y": np.zeros(10)}})
    monkeypatch.setattr(_tff_hdf5, "_MAX_CLIENT_BYTES", 160)
    assert from_tff_hdf5(path).sizes["a"] == 10
    monkeypatch.setattr(_tff_hdf5, "_MAX_CLIENT_BYTES", 159)
    with pytest.raises(ValueError, match="160 bytes for client 'a', over the bound of 159"):
        from_tff_hdf5(path)


@pytest.mark.parametrize("share", [0, 0.02, 0.4, 0.9, 0.999])
def test_truncated(tmp_path, share):
    path = write_hdf5(tmp_path / "x.h5", CLIENTS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"x\.h5 must be TFF's HDF5 file .* cannot be read"):
        from_tff_hdf5(path)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_data_are_read_or_refused(tmp_path, seed):
    """Damage to what the C library checks: compressed chunks and names. In its own structures it may go round in circles for ever."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as root:
        for client in "abc":
            root.create_dataset(f"examples/{client}/x", data=np.arange(100), compression="gzip", fletcher32=seed % 2 == 0)
            root[f"examples/{client}/t"] = np.full(100, b"text")
        chunk = root["examples/b/x"].id.get_chunk_info(0)
        spans = [(chunk.byte_offset, chunk.size), (root["examples/b/t"].id.get_offset(), 400)]
    rng = np.random.default_rng(seed)
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    for start, size in spans:
        content[start + rng.integers(size, size=2)] = rng.integers(256, size=2)
    path.write_bytes(content.tobytes())
    data = from_tff_hdf5(path)
    assert data["a"]["x"].tolist() == list(range(100))
    with suppress(ValueError):
        assert data["b"]["x"].shape == data["b"]["t"].shape == (100,)
