"""What one process has compiled the next one finds, and whoever has settings of their own keeps them."""

import json
import os
import subprocess
import sys
import time
import zlib

import jaxlib.version
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom import _compilation_cache

OWN = ("FEDLOOM_COMPILATION_CACHE", "FEDLOOM_CACHE", "XDG_CACHE_HOME")
JAXS = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",
)
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in (*OWN, *JAXS)}

ROUND = """
import collections, json
import fedloom as fl, jax, numpy as np, optax
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.rpartition("/")[2]]))
import keras
keras.utils.set_random_seed(0)
net = fl.models.char_gru(11, embedding=4, units=8)
model = fl.models.from_keras(net, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
process = fl.LearningProcess(fl.algorithms.fedavg(model, optax.sgd(0.1)))
ids = np.arange(24, dtype=np.int32).reshape(2, 12) % 11
state, metrics = process.next(process.initialize(net), [[(ids[:, :-1], ids[:, 1:])] * 2] * 3)
print(json.dumps({"loss": metrics["loss"], "looked up": events["compile_requests_use_cache"], "compiled": events["cache_misses"],
                  "found": events["cache_hits"]}))
"""

ONE_PROGRAM = "import fedloom, jax; print(float(jax.jit(lambda x: 2 * x)(3.0)))"


def python(code, **environment):
    """What a fresh interpreter prints; it must end well and say nothing on the side."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**ENVIRONMENT, **environment})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.fixture
def before_jax(monkeypatch, tmp_path):
    """As in a process that has not imported JAX, with nothing set but the folder."""
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    for name in (*OWN, *JAXS):
        monkeypatch.setenv(name, "")  # so that what a test leaves behind goes again
        monkeypatch.delenv(name)
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "jax"


def test_a_second_process_compiles_nothing_anew(tmp_path):
    """The first round, with the fused GRU in it, whose native kernels are calls out of the compiled program."""
    first, second = (json.loads(python(ROUND, FEDLOOM_CACHE=str(tmp_path))) for _ in range(2))
    assert first["compiled"] > 0
    assert (second["compiled"], second["found"]) == (0, second["looked up"])
    assert second["loss"] == first["loss"]


def test_processes_at_the_same_time(tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_PROGRAM], stdout=subprocess.PIPE, text=True, env={**ENVIRONMENT, "FEDLOOM_CACHE": str(tmp_path)}
        )
        for _ in range(3)
    ]
    assert [(process.communicate()[0].strip(), process.returncode) for process in started] == [("6.0", 0)] * 3


def test_without_a_folder_everything_works(tmp_path):
    (tmp_path / "file").write_text("")
    assert python(ONE_PROGRAM, FEDLOOM_CACHE=str(tmp_path / "file" / "below")) == "6.0"


def test_jax_that_is_there_already_is_told(tmp_path):
    show = "import jax, fedloom; print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)"
    assert python(show, FEDLOOM_CACHE=str(tmp_path)) == f"{tmp_path / 'jax' / _compilation_cache.processor()} 0.0"


@pytest.mark.parametrize("choice", ["jax_compilation_cache_dir', '/own", "jax_enable_compilation_cache', '"])
def test_jax_that_the_user_has_configured_stays_as_it_is(tmp_path, choice):
    show = "print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)"
    printed = python(f"import jax; jax.config.update('{choice}'); import fedloom; {show}", FEDLOOM_CACHE=str(tmp_path))
    assert printed == ("/own 1.0" if "own" in choice else "None 1.0")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FEDLOOM_COMPILATION_CACHE", "off"),
        ("FEDLOOM_COMPILATION_CACHE", "0"),
        ("JAX_COMPILATION_CACHE_DIR", "/own"),
        ("JAX_ENABLE_COMPILATION_CACHE", "false"),
    ],
)
def test_settings_in_the_environment_stay_as_they_are(before_jax, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    there = dict(os.environ)
    assert _compilation_cache.turn_on() is None
    assert os.environ == there
    assert not before_jax.exists()


def test_everything_is_kept_unless_the_user_says_otherwise(before_jax, monkeypatch):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "4096")
    folder = _compilation_cache.turn_on()
    assert folder == before_jax / _compilation_cache.processor()
    assert [os.environ.get(name) for name in JAXS] == [str(folder), None, "0.0", "4096"]


def test_a_relative_folder_stays_where_it_is(before_jax, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDLOOM_CACHE", "here")
    assert _compilation_cache.turn_on() == tmp_path / "here" / "jax" / _compilation_cache.processor()


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_what_cannot_be_written_can_still_be_read(before_jax, monkeypatch, trouble):
    if trouble == "full":
        monkeypatch.setattr(_compilation_cache, "_free_bytes", lambda folder: 1000)
    else:  # said by hand, as the tests may run as root
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert _compilation_cache.turn_on() is not None
    assert float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]) > 1e6  # seconds: nothing takes so long to compile


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no such permissions here")
@pytest.mark.parametrize("which", ["all", "one processor's"])
def test_a_folder_that_others_may_write_to_is_not_used(before_jax, which):
    folder = _compilation_cache.turn_on()
    del os.environ["JAX_COMPILATION_CACHE_DIR"]
    (before_jax if which == "all" else folder).chmod(0o777)
    assert _compilation_cache.turn_on() is None
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_a_jaxlib_that_prints_errors_gets_none(before_jax, monkeypatch):
    monkeypatch.setattr(jaxlib.version, "__version__", "0.10.1")
    assert _compilation_cache.turn_on() is None
    monkeypatch.setattr(jaxlib.version, "__version__", "0.11.0.dev1")
    assert _compilation_cache.turn_on() is not None


@settings(max_examples=25, deadline=None)
@given(files=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 10**6)), unique_by=lambda file: file[1]), limit=st.integers(0, 300))
def test_the_sweep_keeps_what_was_used_last(tmp_path_factory, files, limit):
    """Of what was used last, as much as fits: the oracle adds up sizes from the newest."""
    base = tmp_path_factory.mktemp("cache")
    for i, (size, used) in enumerate(files):
        (base / f"{i % 2}").mkdir(exist_ok=True)
        (base / f"{i % 2}" / f"{used}").write_bytes(b"x" * size)
        os.utime(base / f"{i % 2}" / f"{used}", (used, used))
    _compilation_cache.sweep(base, limit)
    expected, total = set(), 0
    for size, used in sorted(files, key=lambda file: -file[1]):
        total += size
        if total > limit:
            break
        expected.add(str(used))
    assert {file.name for file in base.rglob("*") if file.is_file()} - {"swept"} == expected


def test_the_sweep_removes_what_was_cut_off(tmp_path):
    whole = zlib.compress(bytes(range(256)) * 40)
    contents = {"a-cache": whole, "b-cache": whole[:-1], "c-cache": whole[:7], "d-cache": b"", "e-cache": b"of another compressor"}
    contents |= {"f-cache": whole[:20] + b"?" + whole[21:]}  # two that wrote at the same time
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    _compilation_cache.sweep(tmp_path, 10**6)
    assert {file.name for file in tmp_path.iterdir()} == {"a-cache", "e-cache", "swept"}
    (tmp_path / "g-cache").write_bytes(whole[:-1])
    os.utime(tmp_path / "g-cache", (time.time() + 5, time.time() + 5))
    _compilation_cache.sweep(tmp_path, 10**6)
    assert not (tmp_path / "g-cache").exists()
