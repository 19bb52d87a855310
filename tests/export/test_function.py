"""Federated functions as folders of programs: the same results as the function that they came from, by Python and by IREE's runtime."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import fedloom as fl
from fedloom.export._native import inputs_from, outputs_to, read_arrays, write_arrays

ARTIFACT = Path(__file__).with_name("artifacts") / "v1" / "function"  # from make_artifact.py
SENSORS = {"Kyoto": 68.5, "Oslo": 70.3, "Quito": 69.8}


@fl.federated
def outliers(values: fl.core.Clients, how_many, key):
    """Two passes and a third for what stays at the clients; the server carries the mean and the threshold on."""
    mean = fl.core.mean(values)
    deviation = values - fl.core.broadcast(mean)
    spread = fl.core.map(lambda variance, n: n * variance**0.5, fl.core.mean(deviation * deviation), how_many)
    own = fl.core.map(lambda d, limit: {"far": abs(d) > limit}, deviation, fl.core.broadcast(spread))
    sample = fl.core.collect(values, 2, key)
    return {"mean": mean, "most": fl.core.max(values), "spread": spread, "sample": sample, "at home": own}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("functions") / "outliers"
    fl.export.federated_function(outliers, folder, SENSORS, 1.0, jax.random.key(3))
    return folder


def test_it_gives_what_the_function_gives(exported):
    portable = fl.export.load_function(exported)
    assert list(portable.programs) == ["server_0", "client_0", "add_0", "server_1", "client_1", "add_1", "server_2", "client_2"]
    for values, how_many, seed in ((SENSORS, 1.0, 3), ([1.0, 2.0, 3.0, 40.0, 5.0], 1.5, 4)):
        expected = outliers(values, how_many, jax.random.key(seed))
        result, own = portable(values=values, how_many=how_many, key=jax.random.key(seed))
        for name in ("mean", "most", "spread"):
            np.testing.assert_allclose(result[name], expected[name], rtol=1e-6)
        np.testing.assert_array_equal(result["sample/values"], expected["sample"].values)
        far = expected["at home"]
        if isinstance(values, dict):
            assert {client: bool(one["at home/far"]) for client, one in own.items()} == {c: bool(one["far"]) for c, one in far.items()}
        else:
            assert [bool(one["at home/far"]) for one in own] == [bool(one["far"]) for one in far] == [False, False, False, True, False]


def test_it_needs_neither_the_function_nor_keras(exported):
    code = f"""
import sys, jax, fedloom as fl
result, _ = fl.export.load_function({str(exported)!r})(values=[1.0, 3.0], how_many=1.0, key=jax.random.key(0))
print(float(result["mean"]), "keras" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["2.0", "False"]


def test_a_function_of_the_first_version_still_computes_what_it_should():
    assert fl.export.load_function(ARTIFACT)(x=[1.0, 2.0, 7.0], centre=3.0) == 7


def test_a_clients_turn_runs_in_the_binary(tmp_path):
    """Each client's part of a mean, computed by IREE's runtime, is added up and finished by the other programs."""
    mean_square = fl.federated(lambda x, centre: fl.core.mean((x - fl.core.broadcast(centre)) ** 2), clients="x")
    values = np.float32([[1, 2, 3], [4, 6, 8]])
    fl.export.federated_function(mean_square, tmp_path / "export", list(values), np.float32(1))
    module = fl.export.compile_native(tmp_path / "export", programs=["client_0"]) / "client_0.vmfb"
    programs = fl.export.load_function(tmp_path / "export").programs
    message, state = programs["server_0"]({"centre": np.float32(1)})
    info, parts = programs["client_0"].info, []
    for place, own in enumerate(values):
        write_arrays(tmp_path / "in.npy", [*message.values(), own, np.int32(place)])
        flags = [*inputs_from(str(tmp_path / "in.npy"), len(info.inputs)), *outputs_to(str(tmp_path / "out.npy"), len(info.outputs))]
        subprocess.run([fl.export.run_module(), "--device=local-task", f"--module={module}", "--function=main", *flags], check=True)
        found = read_arrays(tmp_path / "out.npy", len(info.outputs))
        parts.append({array.name.removeprefix("part/"): value for array, value in zip(info.outputs, found, strict=True)})
    result = programs["server_1"](state, programs["add_0"](*parts))
    np.testing.assert_allclose(result, ((values - 1) ** 2).mean(0), rtol=1e-6)


def test_a_function_of_the_server_alone(tmp_path):
    fl.export.federated_function(fl.federated(lambda x: fl.core.map(lambda x: 2 * x, x)), tmp_path / "e", np.arange(3))
    portable = fl.export.load_function(tmp_path / "e")
    assert list(portable.programs) == ["server_0"] and portable(x=[1, 2, 3]).tolist() == [2, 4, 6]


def test_bad_input_is_named(exported, tmp_path):
    portable = fl.export.load_function(exported)
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="outliers takes values, how_many, key by name, got values"):
        portable(values=[1.0])
    with pytest.raises(ValueError, match=r"arguments/how_many of server_0 must have the shape \[\], got \[2\]"):
        portable(values=[1.0], how_many=[1.0, 2.0], key=key)
    with pytest.raises(fl.ClientFailure, match=r"'Oslo'.*own/values of client_0 must have the shape \[\], got \[2\]"):
        portable(values={"Oslo": np.ones(2, np.float32)}, how_many=1.0, key=key)
    with pytest.raises(ValueError, match="'outliers' was called without clients"):
        portable(values=[], how_many=1.0, key=key)
    with pytest.raises(TypeError, match="function must be made by fl.federated, got function"):
        fl.export.federated_function(lambda x: x, tmp_path / "e", 1)
    with pytest.raises(ValueError, match="'<lambda>' returns must be values at the server or the clients, got str besides"):
        fl.export.federated_function(fl.federated(lambda: "Hello, World!"), tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_each_kind_of_export_has_its_own_loader(exported, tmp_path):
    with pytest.raises(ValueError, match="`format` must be 'fedloom client work', got 'fedloom federated function'. Load it with .*load_f"):
        fl.export.load(exported)
    content = json.loads((exported / "manifest.json").read_text())
    content["programs"].pop("add_1")
    (tmp_path / "manifest.json").write_text(json.dumps(content | {"files": {}, "programs": {}}))
    with pytest.raises(ValueError, match="damaged: it lacks add_0, add_1, client_0"):
        fl.export.load_function(tmp_path)
