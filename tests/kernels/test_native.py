"""The native kernels as a whole: found, left out, built without a compiler, and called from several threads at once."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from fedloom.kernels import _native, gru_sequence, native, set_threads

ROOT = Path(__file__).parents[2]

needs_library = pytest.mark.skipif(bool(native().missing), reason=native().missing)


@pytest.fixture
def threads():
    """Puts the number of threads back."""
    before = native().threads
    yield
    set_threads(before)


@pytest.fixture
def build(monkeypatch):
    """`hatch_build.py`."""
    monkeypatch.syspath_prepend(ROOT)
    import hatch_build

    return hatch_build


def python(code, **environment):
    """Runs code in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_checkout_with_a_compiler_has_native_kernels(build):
    if os.environ.get("FEDLOOM_NATIVE") == "skip":
        pytest.skip("they are left out on purpose")
    try:
        build.find_compiler()
    except build.NoNativeKernels as reason:
        pytest.skip(str(reason))
    assert native().missing == ""


def test_they_can_be_left_out():
    status = python("from fedloom.kernels import native; print(native())", FEDLOOM_NATIVE="skip")
    assert status == "Native(instruction_set='', threads=1, missing='FEDLOOM_NATIVE=skip is in the environment')"


@needs_library
def test_the_environment_says_how_many_threads():
    assert python("from fedloom.kernels import native; print(native().threads)", FEDLOOM_THREADS="3") == "3"


@needs_library
def test_an_unusable_number_of_threads_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("FEDLOOM_THREADS", "many")
    with pytest.raises(ValueError, match="FEDLOOM_THREADS in the environment must be a whole number of at least 1, got 'many'"):
        _native._threads_to_begin_with()


@needs_library
def test_a_library_that_cannot_be_loaded_leaves_the_reference(tmp_path, monkeypatch):
    broken = tmp_path / "libkernels.so"
    broken.write_bytes(b"\x7fELF but nothing more")
    monkeypatch.setattr(_native, "LIBRARY", broken)
    library, missing = _native._load()
    assert library is None
    assert missing.startswith("they could not be loaded: ")


def test_threads_are_at_least_one():
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        set_threads(0)


def gru(seed, units=40, batch=3, steps=7):
    rng = np.random.default_rng(seed)
    shapes = (steps, batch, 3 * units), (batch, units), (units, 3 * units), (3 * units,)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@needs_library
@pytest.mark.parametrize("size", [2, 5])
def test_callers_from_several_threads_get_what_one_gets(threads, size):
    set_threads(size)  # more threads than cores too
    run = jax.jit(lambda *arguments: gru_sequence(*arguments, True))
    inputs = [gru(seed) for seed in range(4)]
    want = [np.asarray(run(*one)) for one in inputs]
    got = [[] for _ in inputs]

    def call(i):
        for _ in range(20):
            got[i].append(np.asarray(run(*inputs[i])))

    callers = [threading.Thread(target=call, args=(i,)) for i in range(len(inputs))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(np.array_equal(result, want[i]) for i in range(len(inputs)) for result in got[i])
    assert [len(results) for results in got] == [20] * len(inputs)


@needs_library
def test_a_kernel_refuses_shapes_that_do_not_fit():
    x, h0, kernel, bias = gru(0)
    results = [_native.float32(*x.shape[:2], h0.shape[1])] * 5
    with pytest.raises(Exception, match="shapes of gru_forward do not fit together"):
        none = np.zeros((0, 0), np.int32)
        jax.block_until_ready(_native.call("gru_forward", results, x, none, h0, kernel[:-1], bias, reset_after=True, bfloat16=False))


class TestBuild:
    """`hatch_build.py`, which compiles them."""

    def test_without_a_compiler_it_says_so(self, build, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CXX", raising=False)
        with pytest.raises(build.NoNativeKernels, match="no C\\+\\+ compiler"):
            build.compile_kernels(tmp_path)

    def test_a_failing_compiler_is_quoted(self, build, monkeypatch):
        monkeypatch.setenv("CXX", f"{sys.executable} -c 'import sys; sys.exit(\"no such flag\")'")
        with pytest.raises(build.NoNativeKernels, match="no such flag"):
            build.compile_kernels(ROOT)
