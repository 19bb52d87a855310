"""Client work compiled by IREE and run by its runtime, in a process without Python, against JAX."""

import os
import re
import shutil
import subprocess

import exported_models
import jax
import numpy as np
import pytest
from exported_models import KEY, write

import fedloom as fl
from fedloom.core import step_key
from fedloom.export._native import inputs_from, outputs_to, read_arrays, write_arrays

STEPS = 10


@pytest.fixture(scope="module")
def native(export_of):
    """The MLP, its dropout included, and the folder of its export, in which what a round takes is compiled."""
    case, folder = export_of("mlp")
    fl.export.compile_native(folder, programs=["begin", "step", "finish"])
    return case, folder


def steps_in_jax(client, batch):
    """Local states after begin and each of the steps."""
    message, locals_ = client.message(), [client.programs["begin"](client.message(), {}, KEY)]
    for k in range(STEPS):
        locals_.append(client.programs["step"](message, locals_[-1], batch, step_key(KEY, k)))
    return locals_


def steps_in_the_binary(client, module, batch, folder):
    """The same states; each step reads what the one before wrote."""
    info, message = client.programs["step"].info, client.message()
    local = client.programs["begin"](message, {}, KEY)
    write_arrays(folder / "message.npy", message.values())
    write_arrays(folder / "batch.npy", batch.values())
    write_arrays(folder / "local.npy", local.values())
    states = [local]
    for k in range(STEPS):
        write_arrays(folder / "key.npy", [jax.random.key_data(step_key(KEY, k))])
        flags = [inputs_from(str(folder / f"{name}.npy"), n) for name, n in (("message", len(message)), ("local", len(local)))]
        flags += [inputs_from(str(folder / "batch.npy"), len(batch)), inputs_from(str(folder / "key.npy"), 1)]
        flags += [outputs_to(str(folder / "local.npy"), len(info.outputs))]
        command = [fl.export.run_module(), "--device=local-task", f"--module={module}", "--function=main"]
        subprocess.run([*command, *(flag for group in flags for flag in group)], check=True, capture_output=True)
        states.append(dict(zip(local, read_arrays(folder / "local.npy", len(local)), strict=True)))
    return states


def differences(case, exported, folder):
    """After one step and after all: the largest of any weight, and that of the summed loss, relative to it."""
    client = fl.export.load(exported)
    batch = client.batch(case.x, case.y)
    jax_states = steps_in_jax(client, batch)
    native_states = steps_in_the_binary(client, exported / "native" / "step.vmfb", batch, folder)
    found = []
    for k in (1, STEPS):
        one, other = jax_states[k], native_states[k]
        weights = [name for name in one if name.startswith("weights/")]
        assert weights and np.isfinite(float(other["metrics/loss/total"]))
        moved = max(np.abs(np.asarray(other[name]) - np.asarray(native_states[0][name])).max() for name in weights)
        assert moved > 1e-3  # so that equality says something
        loss = abs(float(other["metrics/loss/total"]) / float(one["metrics/loss/total"]) - 1)
        found.append((max(np.abs(np.asarray(one[name]) - np.asarray(other[name])).max() for name in weights), loss))
    return found


@pytest.mark.parametrize("name", ["cnn", "gru"])
def test_ten_chained_steps_are_those_of_jax(name, export_of, tmp_path):
    """Float32 sums in another order: a few units in the last place after one step, more after ten."""
    case, folder = export_of(name)
    fl.export.compile_native(folder, programs=["step"])
    one, ten = differences(case, folder, tmp_path)
    assert max(one) <= 2e-6 and max(ten) <= 1e-3


def test_ten_chained_steps_with_dropout_are_those_of_jax(native, tmp_path):
    """The MLP drops the same activations in both: random numbers are whole numbers until the last."""
    one, ten = differences(*native, tmp_path)
    assert max(one) <= 2e-6 and max(ten) <= 1e-3


@pytest.mark.slow
def test_ten_chained_steps_of_the_tutorials_model_are_those_of_jax(tmp_path):
    """1024 units, on short texts."""
    case = exported_models.gru(units=1024, embedding=256, rows=2, length=10)
    write(case, tmp_path / "export")
    fl.export.compile_native(tmp_path / "export", programs=["step"])
    one, ten = differences(case, tmp_path / "export", tmp_path)
    assert max(one) <= 2e-6 and max(ten) <= 1e-3


def run_script(folder, *arguments, **environment):
    """With the shell's own tools on the PATH, and nothing else."""
    tools = os.pathsep.join({os.path.dirname(shutil.which(name)) for name in ("sh", "awk", "mktemp", "dirname", "rm", "mkdir")})
    return subprocess.run(
        ["sh", str(folder / "native" / "train_one_batch.sh"), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PATH": tools, "IREE_RUN_MODULE": fl.export.run_module()} | environment,
    )


def test_the_script_trains_a_batch_and_prints_the_loss(native, tmp_path):
    case, folder = native
    client = fl.export.load(folder)  # what is compiled lies beside what is exported
    batch = client.batch(case.x, case.y)
    write_arrays(tmp_path / "mine.npy", batch.values())
    done = run_script(folder, tmp_path / "mine.npy", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    printed = dict(line.split() for line in done.stdout.splitlines())
    key = jax.random.key(0)  # that in key.npy, for begin and the step
    message = client.message()
    local = client.programs["step"](message, client.programs["begin"](message, {}, key), batch, key)
    value, weight, metrics, _ = client.programs["finish"](message, local)
    assert float(printed["loss"]) == pytest.approx(float(metrics["loss/total"]) / float(metrics["loss/weight"]), rel=1e-5)
    assert float(printed["num_examples"]) == exported_models.ROWS
    for one, other in zip(read_arrays(tmp_path / "out" / "value.npy", len(value)), value.values(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    assert read_arrays(tmp_path / "out" / "weight.npy", 1)[0] == weight


def test_the_script_has_a_batch_of_its_own_and_misses_the_runtime_by_name(native):
    _, folder = native
    done = run_script(folder)
    assert done.returncode == 0 and re.search(r"^loss \d", done.stdout, re.MULTILINE)
    assert "name it in IREE_RUN_MODULE" in (missing := run_script(folder, IREE_RUN_MODULE="not-there")).stderr
    assert missing.returncode == 127


def test_what_iree_does_not_know_is_named(native, tmp_path, monkeypatch):
    _, folder = native
    with pytest.raises(ValueError, match="programs must be among begin, step, finish, encode, evaluate, got train"):
        fl.export.compile_native(folder, programs=["train"])
    with pytest.raises(ValueError, match="target must be \"cpu\", got 'tpu'"):
        fl.export.compile_native(folder, target="tpu")
    with pytest.raises(ValueError, match="IREE cannot compile the program 'begin'"):
        fl.export.compile_native(folder, programs=["begin"], target_cpu="abacus")
    assert (folder / "native" / "step.vmfb").is_file()  # the one before stays
    monkeypatch.setitem(__import__("sys").modules, "iree.compiler", None)
    with pytest.raises(ImportError, match=r'pip install "fedloom\[iree\]"'):
        fl.export.compile_native(folder, programs=["begin"])
