"""Keras 2 files load with the numbers that Keras 2 had; hostile or damaged ones are refused before they cost much."""

import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.models._legacy_hdf5 import load_legacy_hdf5

GOLDENS = Path(__file__).parents[1] / "goldens" / "legacy_keras"
CASES = json.loads((GOLDENS / "index.json").read_text())
GOLDEN = GOLDENS / "gru_reset_after.batch1.kerasmodel"

rng = np.random.default_rng(0)


def random(*shape):
    return rng.normal(size=shape).astype(np.float32)


def layer(class_name, name, **config):
    return {"class_name": class_name, "config": {"name": name, "trainable": True, "dtype": "float32", **config}}


def input_layer(name, *batch_shape):
    config = {
        "name": name,
        "batch_input_shape": list(batch_shape),
        "dtype": "float32",
        "sparse": False,
        "ragged": False,
    }
    return {"class_name": "InputLayer", "config": config}


def dense(name="dense", units=2, **config):
    return layer("Dense", name, units=units, activation="linear", use_bias=True, **config)


def sequential(*layers, shape=(None, 3)):
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [input_layer("in", *shape), *layers]}}


def node(*names, **arguments):
    return [[name, 0, 0, arguments] for name in names]


def functional(inputs, layers, outputs):
    """A Keras 2 functional config; `layers` are (layer, the nodes that call it)."""
    entries = [entry | {"name": entry["config"]["name"], "inbound_nodes": []} for entry in inputs]
    entries += [entry | {"name": entry["config"]["name"], "inbound_nodes": nodes} for entry, nodes in layers]
    config = {"name": "model", "layers": entries, "output_layers": outputs}
    config["input_layers"] = [[entry["config"]["name"], 0, 0] for entry in inputs]
    return {"class_name": "Functional", "config": config}


def write(path, config, **weights):
    """Writes a whole-model file as Keras 2 does; `weights` are lists of arrays by layer."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.14.0"
        file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        for name, arrays in weights.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [f"{name}/w{i}:0" for i in range(len(arrays))]
            for i, array in enumerate(arrays):
                group[f"{name}/w{i}:0"] = array
    return path


@pytest.fixture
def model_file(tmp_path):
    """A small valid file for tests to spoil: Dense from 3 to 2."""
    return write(tmp_path / "model.h5", sequential(dense()), dense=[random(3, 2), random(2)])


KERNEL = "model_weights/dense/dense/w0:0"


def replace_kernel(path, **dataset):
    with h5py.File(path, "a") as file:
        del file[KERNEL]
        file.create_dataset(KERNEL, **dataset)


def refused(path, *words):
    """Loading is a ValueError that names the file and says all of `words`."""
    with pytest.raises(ValueError) as error:
        load_legacy_hdf5(path)
    for word in (str(path), *words):
        assert word in str(error.value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_goldens_give_the_logits_of_keras_2(case):
    """Two calls of a stateful model continue each other; after a reset the second starts from zero."""
    model = load_legacy_hdf5(GOLDENS / case["file"])
    with np.load(GOLDENS / case["arrays"]) as arrays:
        golden = dict(arrays)
    assert model.input_shape == (case["batch_size"], None)
    for i, weight in enumerate(model.weights):
        np.testing.assert_array_equal(weight.value, golden[f"weights/{i}"])

    first, second = golden["ids"]
    np.testing.assert_allclose(model(first), golden["logits_first_call"], atol=1e-5)
    np.testing.assert_allclose(model(second), golden["logits_second_call"], atol=1e-5)
    recurrent = model.get_layer("gru")
    np.testing.assert_allclose(recurrent.states[0].value, golden["state_after_second_call"], atol=1e-5)
    recurrent.reset_state()
    np.testing.assert_allclose(model(second), golden["logits_second_ids_after_reset"], atol=1e-5)


def test_a_functional_model_with_two_inputs_and_a_shared_layer(tmp_path):
    """Hand-written Keras 2 graph: h = shared(a), k = shared(b); outputs out([h; a]) and h + k (closed form)."""
    shared, out = [random(3, 4), random(4)], [random(7, 2), random(2)]
    config = functional(
        inputs=[input_layer("a", None, 3), input_layer("b", None, 3)],
        layers=[
            (layer("Add", "add"), [[["shared", 0, 0, {}], ["shared", 1, 0, {}]]]),  # out of order on purpose
            (dense("out"), [node("concat", training=False)]),
            (layer("Concatenate", "concat", axis=-1), [node("shared", "a")]),
            (dense("shared", 4), [node("a"), node("b")]),
        ],
        outputs=[["out", 0, 0], ["add", 0, 0]],
    )
    model = load_legacy_hdf5(write(tmp_path / "m", config, shared=shared, out=out))

    a, b = random(5, 3), random(5, 3)
    h, k = a @ shared[0] + shared[1], b @ shared[0] + shared[1]
    y, total = model([a, b])
    np.testing.assert_allclose(y, np.concatenate([h, a], axis=-1) @ out[0] + out[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total, h + k, rtol=1e-5, atol=1e-6)


def test_wrappers_and_statistics_take_their_weights_in_file_order(tmp_path):
    """Bidirectional is forward, then backward; BatchNormalization gamma, beta, mean, variance (closed form)."""
    rnn = {"class_name": "SimpleRNN", "config": layer("SimpleRNN", "rnn", units=2, activation="linear")["config"]}
    forward, backward = ([random(3, 2), random(2, 2), random(2)] for _ in range(2))
    gamma, beta, mean, variance = random(4), random(4), random(4), np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    config = sequential(
        layer("Bidirectional", "both", layer=rnn, merge_mode="concat"),
        layer("BatchNormalization", "norm", axis=[1], epsilon=0.5, renorm=False),
        shape=(None, 1, 3),
    )
    path = write(tmp_path / "m", config, both=forward + backward, norm=[gamma, beta, mean, variance])

    x = random(5, 1, 3)
    h = np.concatenate([x[:, 0] @ w + bias for w, _, bias in (forward, backward)], axis=-1)
    expected = gamma * (h - mean) / np.sqrt(variance + 0.5) + beta
    np.testing.assert_allclose(load_legacy_hdf5(path)(x), expected, rtol=1e-5, atol=1e-6)


def test_older_ways_to_write_the_same(tmp_path):
    """Config as a bare list and as bytes, shape on the first layer, names in chunks, float64 and float16 weights."""
    first = dense(batch_input_shape=[None, 3], input_dim=3, kernel_initializer="glorot_uniform")
    path = tmp_path / "m"
    write(path, {"class_name": "Sequential", "config": [first]}, dense=[random(3, 2).astype(np.float64), random(2)])
    replace_kernel(path, data=np.arange(6, dtype=np.float16).reshape(3, 2))
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = np.bytes_(file.attrs["model_config"])
        attributes = file["model_weights/dense"].attrs
        attributes["weight_names0"], attributes["weight_names1"] = [b"dense/w0:0"], [b"dense/w1:0"]
        del attributes["weight_names"]
    kernel, bias = load_legacy_hdf5(path).weights
    np.testing.assert_array_equal(kernel.value, [[0, 1], [2, 3], [4, 5]])
    assert bias.dtype == "float32"


def test_what_keras_3_does_not_know_is_dropped_only_if_harmless(tmp_path):
    gru = [random(3, 6), random(2, 6), random(6)]
    older = layer("GRU", "gru", units=2, time_major=False, implementation=1)  # reset_after did not exist
    model = load_legacy_hdf5(write(tmp_path / "m", sequential(older, shape=(None, None, 3)), gru=gru))
    assert model.get_layer("gru").reset_after is False
    config = sequential(layer("GRU", "gru", units=2, time_major=True), shape=(None, None, 3))
    refused(write(tmp_path / "m2", config, gru=gru), "gru", "time_major=True")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (layer("Lambda", "sneaky", function=["bytecode", None, None]), ["sneaky", "Lambda", "never run"]),
        (layer("TFOpLambda", "op"), ["op", "TFOpLambda", "Build the model in code"]),
        (layer("os.system", "shell"), ["shell", "os.system"]),
        (sequential(dense()) | {"config": {"name": "inner", "layers": []}}, ["inner", "Nested models"]),
        (layer("TimeDistributed", "each", layer=layer("Lambda", "inside")), ["each", "inside", "Lambda"]),
        (layer("Bidirectional", "both", layer=dense("inside")), ["both", "inside", "cannot be wrapped"]),
        (dense("d", activation_fn="relu"), ["d", "activation_fn", "unknown"]),
        (layer("Dense", "d", units=2, activation="os.system"), ["d", "activation", "os.system"]),
        (layer("Activation", "act", activation="hard_sigmoid"), ["act", "slope 1/6"]),
        (dense(kernel_initializer={"class_name": "Evil", "config": {}}), ["kernel_initializer", "Evil"]),
        (dense(kernel_regularizer={"class_name": "L2", "config": {"l2": 0.1, "fn": "x"}}), ["L2", "fn"]),
        (dense(kernel_constraint={"class_name": "MaxNorm", "config": []}), ["kernel_constraint"]),
        (dense(dtype={"class_name": "Policy", "config": {"name": "string"}}), ["dtype", "string"]),
        (dense(units=10**18), ["units"]),
        (layer("Dense", "d", units={"class_name": "__lambda__"}), ["units"]),
        (layer("Dense", None, units=2), ["name"]),
        ("text", ["class_name"]),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value)[:40],
)
def test_layers_outside_the_allow_list_are_refused_by_name(tmp_path, bad, words):
    refused(write(tmp_path / "m", sequential(bad), dense=[random(3, 2), random(2)]), *words)


@pytest.mark.parametrize(
    ("nodes", "word"),
    [
        ([node("nowhere")], "do not exist"),
        ([node("dense")], "do not exist, or to itself"),
        ([[["a", 0, 7, {}]]], "output 7"),
        ([node("a", mask=["a", 0, 0])], "mask"),
        ([node("a", "a")], "several tensors"),
        ([[{"class_name": "__keras_tensor__"}]], "expected [name"),
        ({"args": []}, "inbound_nodes"),
        ([[]], "without an input"),
    ],
)
def test_graphs_that_cannot_be_rebuilt_are_refused(tmp_path, nodes, word):
    config = functional([input_layer("a", None, 3)], [(dense(), nodes)], [["dense", 0, 0]])
    refused(write(tmp_path / "m", config, dense=[random(3, 2), random(2)]), word)


def test_other_model_configs_are_refused(tmp_path):
    refused(write(tmp_path / "a", {"class_name": "Subclassed", "config": {}}), "Subclassed", "Build a subclassed model")
    refused(write(tmp_path / "b", '{"class_name": '))
    refused(write(tmp_path / "c", "[" * 100_000))
    refused(write(tmp_path / "d", {"class_name": "Sequential", "config": [dense()]}), "no input shape")
    refused(write(tmp_path / "e", sequential(*[dense()] * 3000)), "2000 layers")
    refused(write(tmp_path / "f", sequential(dense(), shape=(10**9, 3))), "batch size")
    refused(write(tmp_path / "g", sequential(dense(), shape=(None, -3))), "batch shape")


def test_a_tiny_file_cannot_ask_for_a_huge_model(tmp_path):
    """10^9 units, or two layers whose sizes are harmless one by one: 10^6 x 10^6 weights are 4 TB."""
    refused(write(tmp_path / "a", sequential(dense(units=10**9)), dense=[random(3, 2), random(2)]), "needs (3, 1000000000)")
    big = sequential(dense("one", 10**6), dense("two", 10**6))
    refused(write(tmp_path / "b", big, one=[random(3, 2), random(2)], two=[]), "needs (3, 1000000)")
    lstm = sequential(layer("LSTM", "lstm", units=10**6, stateful=True), shape=(1000, None, 3))
    refused(write(tmp_path / "c", lstm, lstm=[random(3, 8), random(2, 8), random(8)]), "needs (3, 4000000)")


@pytest.mark.parametrize(
    ("dataset", "word"),
    [
        ({"shape": (10**12,), "chunks": (1024,)}, "shape (1000000000000,)"),
        ({"shape": (10**6, 10**6), "chunks": (64, 64)}, "declares 4000000000000 bytes"),
        ({"shape": (10**6, 10**6), "chunks": (64, 64), "fillvalue": 1.0, "compression": "gzip"}, "compressed"),
    ],
)
def test_declared_sizes_are_not_believed(tmp_path, dataset, word):
    """A dataset may declare terabytes and hold nothing; here the architecture asks for just as much."""
    path = write(tmp_path / "m", sequential(dense(units=10**6), shape=(None, 10**6)), dense=[random(3, 2), random(2)])
    replace_kernel(path, dtype="f4", **dataset)
    refused(path, KERNEL, word)


def test_datasets_that_hold_less_than_they_declare_are_refused(model_file):
    replace_kernel(model_file, shape=(3, 2), dtype="f4")  # never written: HDF5 would fill it in
    refused(model_file, KERNEL, "24 bytes", "holds 0")
    replace_kernel(model_file, data=random(3, 2), chunks=(3, 2), compression="gzip")
    refused(model_file, KERNEL, "compressed")


def test_one_dataset_cannot_stand_for_many(tmp_path):
    """100 layers share the bytes of one by hard links: each is honest, their sum is not."""
    layers = {f"d{i}": [random(100, 100), random(100)] for i in range(100)}
    config = sequential(*[dense(name, 100) for name in layers], shape=(None, 100))
    path = write(tmp_path / "m", config, d0=layers["d0"])
    with h5py.File(path, "a") as file:
        for name in list(layers)[1:]:
            file[f"model_weights/{name}"] = file["model_weights/d0"]
    refused(path, "weights claim 4040000 bytes")


@pytest.mark.parametrize("where", ["model_weights", "model_weights/dense", "model_weights/dense/dense", KERNEL])
@pytest.mark.parametrize("link", [h5py.SoftLink("/elsewhere"), h5py.ExternalLink("other.h5", "/elsewhere")])
def test_links_are_not_followed(model_file, where, link):
    with h5py.File(model_file, "a") as file:
        file.move(where, "elsewhere")
        shutil.copy(model_file, model_file.with_name("other.h5"))
        file[where] = link
    refused(model_file, where, "link")


def test_numbers_from_other_files_are_not_read(model_file):
    secret = model_file.with_name("secret")
    secret.write_bytes(bytes(24))
    replace_kernel(model_file, shape=(3, 2), dtype="f4", external=[(str(secret), 0, 24)])
    refused(model_file, KERNEL, "other files")

    layout = h5py.VirtualLayout(shape=(3, 2), dtype="f4")
    layout[:] = h5py.VirtualSource(str(model_file), KERNEL, shape=(3, 2))
    with h5py.File(model_file, "a") as file:
        del file[KERNEL]
        file.create_virtual_dataset(KERNEL, layout)
    refused(model_file, KERNEL, "other files")


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ({"data": random(2, 3)}, ["shape (2, 3)", "needs (3, 2)"]),
        ({"data": np.zeros((3, 2), np.int32)}, ["int32", "float32"]),
        ({"data": [["a"] * 2] * 3, "dtype": h5py.string_dtype()}, ["object"]),
        ({"shape": (3, 2), "dtype": h5py.vlen_dtype(np.float32)}, ["object"]),
        ({"shape": (3, 2), "dtype": np.dtype("c8")}, ["complex64"]),
        ({"data": np.full((3, 2), np.nan, np.float32)}, ["NaN"]),
        ({"data": np.full((3, 2), -np.inf, np.float32)}, ["infinite"]),
        ({"data": np.full((3, 2), 1e300)}, ["infinite"]),
        ({"data": h5py.Empty("f4")}, ["shape None"]),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(model_file, dataset, words):
    replace_kernel(model_file, **dataset)
    refused(model_file, KERNEL, *words)


def test_missing_and_misplaced_weights_are_refused(model_file):
    with h5py.File(model_file, "a") as file:
        file["model_weights/dense"].attrs["weight_names"] = ["dense/w0:0"]
    refused(model_file, "'dense' needs 2 weights")
    for name in ("../dense/w0:0", "/model_weights/dense/dense/w0:0", "dense/nowhere", ""):
        with h5py.File(model_file, "a") as file:
            file["model_weights/dense"].attrs["weight_names"] = [name, "dense/w1:0"]
        refused(model_file, "is missing")
    with h5py.File(model_file, "a") as file:
        file["model_weights/dense"].attrs["weight_names"] = ["dense", "dense"]
    refused(model_file, "must be a dataset")
    with h5py.File(model_file, "a") as file:
        file["model_weights/dense"].attrs["weight_names"] = [1.0, 2.0]
    refused(model_file, "weight_names", "float64")
    with h5py.File(model_file, "a") as file:
        del file["model_weights/dense"]
    refused(model_file, "model_weights/dense is missing")


def test_attributes_are_bounded(model_file):
    with h5py.File(model_file, "a", libver="latest") as file:
        del file.attrs["model_config"]
        file.attrs["model_config"] = " " * (17 * 2**20)
    refused(model_file, "model_config", "16777216")


def test_files_of_other_kinds_are_refused(tmp_path, model_file):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.h5"):
        load_legacy_hdf5(tmp_path / "nowhere.h5")
    refused(tmp_path, "not a file")
    (tmp_path / "text").write_text("not hdf5")
    refused(tmp_path / "text", "not an HDF5 file")
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    refused(tmp_path / "model.keras", "Load it as a .keras file")
    with h5py.File(model_file, "a") as file:
        file.attrs["keras_version"] = "3.0.0"
    refused(model_file, "Keras 3.0.0")
    with h5py.File(model_file, "a") as file:
        del file.attrs["model_config"]
    refused(model_file, "at most weights")


@pytest.mark.parametrize("kept", [0, 3, 8, 100, 2000, 10_000, 30_000, -1])
def test_truncated_files_are_refused(tmp_path, kept):
    path = tmp_path / "short.h5"
    path.write_bytes(GOLDEN.read_bytes()[:kept])
    refused(path)


@pytest.mark.parametrize("first_text", [bytes(16), b"\1" + bytes(7) + b"\xff" * 8, b"\1" + bytes(7) + b"\0\2" + bytes(6)])
def test_damaged_texts_do_not_hang(tmp_path, first_text):
    """HDF5 walks through its heaps of texts by their sizes, and goes round for ever where one of them is zero."""
    content = bytearray(GOLDEN.read_bytes())
    first = content.index(b"GCOL") + 16
    content[first : first + 16] = first_text
    path = tmp_path / "m"
    path.write_bytes(content)
    refused(path, "text attributes")


def test_attributes_of_unknown_types_are_not_read(tmp_path):
    """A variable-length attribute that is neither text nor a sequence makes HDF5 follow a null pointer."""
    content = bytearray(GOLDEN.read_bytes())
    datatype = content.index(b"\x19\x01", content.index(b"keras_version"))
    content[datatype + 1] = 0x7F
    path = tmp_path / "m"
    path.write_bytes(content)
    refused(path, "keras_version", "must be text")


METADATA = 24_000  # of the golden file: what follows is mostly weights, where a flip is only another number


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, METADATA), st.integers(0, 255)), max_size=6),
    cut=st.none() | st.integers(0, GOLDEN.stat().st_size),
)
def test_damaged_files_load_or_are_refused(flips, cut):
    content = bytearray(GOLDEN.read_bytes())
    for position, value in flips:
        content[position] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        path.write_bytes(content[:cut])
        try:
            assert load_legacy_hdf5(path).count_params() == 86 * 16 + 3 * 24 * (16 + 24 + 2) + 25 * 86
        except ValueError as error:
            assert str(path) in str(error)
