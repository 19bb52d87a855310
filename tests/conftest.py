import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("FEDLOOM_COMPILATION_CACHE", "off")  # no test depends on what was run before
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # many tests compile the same; worker processes inherit the folder
    folder = tempfile.mkdtemp(prefix="fedloom_tests_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# Most of the tests' time goes into compiling, on all cores: parts of a program need not be compiled side by side, nor know their lines.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")


@pytest.fixture(scope="session")
def tff_folder():
    """The folder with TFF's real Shakespeare files; without it a test is skipped, but in CI it fails."""
    shared = Path(os.environ.get("FEDLOOM_SHARED", Path(__file__).parents[2] / "shared"))
    folder = shared / "data" / "shakespeare_tff"
    if not folder.is_dir():
        message = f"TFF's files are not at {folder}; set FEDLOOM_SHARED to the folder that holds data/shakespeare_tff"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    return folder
