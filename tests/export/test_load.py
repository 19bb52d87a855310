"""Loading: without keras, an export of an earlier version, and everything that may be wrong with a folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import fedloom as fl

ARTIFACT = Path(__file__).with_name("artifacts") / "v1" / "client_work"  # from make_artifact.py
X = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0], [-2.0, 1.0]], np.float32)
Y = np.array([1.0, 0.0, -2.0, 4.0], np.float32)
W, B, RATE = np.array([1.0, -2.0]), 0.5, 0.25
KEY = jax.random.key(0)


def gradient_step(w, b, x, y):
    """On the mean squared error; returns the summed loss before it, too."""
    error = x @ w + b - y
    return w - RATE * 2 * (error @ x) / len(y), b - RATE * 2 * error.mean(), (error**2).sum()


@pytest.mark.parametrize("rows", [4, 3, 2])
def test_an_export_of_the_first_version_still_computes_what_it_should(rows):
    """Two steps of gradient descent, in NumPy; alone with the program for any batch size, or filled up with padding."""
    client = fl.export.load(ARTIFACT)
    w, b, first = gradient_step(W, B, X[:rows], Y[:rows])
    w, b, second = gradient_step(w, b, X[:rows], Y[:rows])
    padded = client.batch(X[:rows], Y[:rows])
    for batch in (padded, {name: column[:rows] for name, column in padded.items()}):
        done = client.train([batch, batch], KEY)
        np.testing.assert_allclose(done.local["weights/trainable/w"], w, rtol=1e-5)
        np.testing.assert_allclose(done.value["trainable/w"], W - w, rtol=1e-5)
        np.testing.assert_allclose(done.value["trainable/b"], B - b, rtol=1e-5)
        np.testing.assert_allclose(done.metrics["loss/total"], first + second, rtol=1e-5)
        assert done.weight == 2 * rows and done.metrics["loss/weight"] == 2 * rows
        sums, carry = client.programs["evaluate"](client.weights(), {}, batch)
        np.testing.assert_allclose(sums["loss/total"], first, rtol=1e-5)
        assert carry == {}


def test_a_message_may_have_other_weights_and_hyperparameters():
    client = fl.export.load(ARTIFACT)
    rate = "hyperparams/client_optimizer/learning_rate"
    assert client.manifest.hyperparameters["client_optimizer.learning_rate"] == RATE == float(client.message()[rate])
    message = client.message({"trainable/w": np.zeros(2, np.float32), "trainable/b": np.float32(0)}) | {rate: np.float32(0.5)}
    done = client.train([client.batch(X, Y)], KEY, message=message)
    np.testing.assert_allclose(done.value["trainable/b"], 0.5 * 2 * -Y.mean(), rtol=1e-6)
    with pytest.raises(ValueError, match="weights must have the names of `weights\\(\\)`, got a difference in weights/trainable/b"):
        client.message({"trainable/w": np.zeros(2, np.float32)})


def test_loading_and_training_need_neither_keras_nor_the_models():
    code = f"""
import sys, numpy as np, jax, fedloom as fl
client = fl.export.load({str(ARTIFACT)!r})
client.train([client.batch(np.ones((4, 2), np.float32), np.ones(4, np.float32))], jax.random.key(0))
print([name for name in sys.modules if name.partition(".")[0] == "keras" or name.startswith(("fedloom.models", "fedloom.text"))])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(ARTIFACT, tmp_path / "copy"))


def edit(folder, change):
    """Changes the manifest."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("file", ["weights.safetensors", "programs/step.symbolic.jaxexport.gz", "programs/step.mlirbc"])
def test_a_flipped_byte_is_noticed(copy, file):
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} is not what was exported: its SHA-256 is .* Copy the folder again, or export anew"):
        fl.export.load(copy)


def test_a_missing_file_is_named(copy):
    (copy / "programs" / "finish.static.jaxexport.gz").unlink()
    with pytest.raises(FileNotFoundError, match="programs/finish.static.jaxexport.gz is missing"):
        fl.export.load(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="no manifest.json"):
        fl.export.load(copy)


def test_another_version_says_who_wrote_it(copy):
    edit(copy, lambda manifest: manifest.update(format_version=2, fedloom_version="9.0", something_new=1))
    with pytest.raises(ValueError, match="format version 2, written by fedloom 9.0; this fedloom reads version 1"):
        fl.export.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(batch_size=0), "damaged: batch_size"),
        (lambda m: m.pop("passes"), "damaged: passes: Field required"),
        (lambda m: m.update(format="something else"), "not the manifest of such an export"),
        (lambda m: m["files"].update({"../secret": m["files"]["weights.safetensors"]}), "damaged: files"),
        (lambda m: m["programs"]["step"]["files"].update(static="/etc/passwd"), "damaged: programs.step.files.static"),
        (lambda m: m["programs"].pop("finish"), "lacks finish"),
        (lambda m: m["programs"]["step"]["files"].update(static="programs/other"), "lacks programs/other"),
    ],
    ids=["batch_size", "passes", "format", "path", "absolute", "program", "file"],
)
def test_a_damaged_manifest_is_refused(copy, change, message):
    edit(copy, change)
    with pytest.raises(ValueError, match=message):
        fl.export.load(copy)


def test_no_json_at_all_is_refused(copy):
    (copy / "manifest.json").write_bytes(b"\xff{")
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        fl.export.load(copy)


@pytest.mark.parametrize(
    ("tensors", "found"),
    [
        ({"weights/trainable/w": np.zeros(3, np.float32)}, r"float32\[3\]"),
        ({"weights/trainable/w": np.zeros(2)}, r"float64\[2\]"),
        ({}, "nothing"),
    ],
    ids=["shape", "dtype", "missing"],
)
def test_weights_that_do_not_fit_are_refused(copy, tensors, found):
    """Even if their hash is that in the manifest."""
    all_of_them = safetensors.numpy.load((ARTIFACT / "weights.safetensors").read_bytes())
    del all_of_them["weights/trainable/w"]
    content = safetensors.numpy.save(all_of_them | tensors)
    (copy / "weights.safetensors").write_bytes(content)
    edit(copy, lambda m: m["files"].update({"weights.safetensors": json.loads(fl.export._manifest.file_info(content).model_dump_json())}))
    with pytest.raises(ValueError, match=rf"weights/trainable/w must be float32\[2\], got {found}"):
        fl.export.load(copy)


def test_a_program_that_is_another_is_refused(copy):
    """The file of `finish` under the name of `step`, with the hash of what is there."""
    files = {name: (copy / f"programs/{name}.static.jaxexport.gz").read_bytes() for name in ("step", "finish")}
    (copy / "programs/step.static.jaxexport.gz").write_bytes(files["finish"])
    edit(copy, lambda m: m["files"].update({"programs/step.static.jaxexport.gz": m["files"]["programs/finish.static.jaxexport.gz"]}))
    client = fl.export.load(copy)
    with pytest.raises(ValueError, match="'step' does not fit the manifest"):
        client.train([client.batch(X, Y)], KEY)


def test_wrong_arguments_are_named():
    client = fl.export.load(ARTIFACT)
    step, message = client.programs["step"], client.message()
    local, batch = client.programs["begin"](message, {}, KEY), client.batch(X, Y)
    with pytest.raises(TypeError, match="step takes message, local, batch, key, got 3 arguments"):
        step(message, local, batch)
    with pytest.raises(ValueError, match="missing: batch/real, unknown: batch/z"):
        step(message, local, {name: v for name, v in batch.items() if name != "real"} | {"z": 1}, KEY)
    with pytest.raises(ValueError, match=r"batch/x of step must have the shape \[b, 2\], got \[4, 3\]"):
        step(message, local, batch | {"x": np.ones((4, 3), np.float32)}, KEY)
    with pytest.raises(ValueError, match=r"batch/y of step must have the shape \[b\], got \[3\]"):
        step(message, local, batch | {"y": np.ones(3, np.float32)}, KEY)
    with pytest.raises(ValueError, match="batch/x must be of the type float32, got complex64"):
        step(message, local, batch | {"x": np.ones((4, 2), np.complex64)}, KEY)
