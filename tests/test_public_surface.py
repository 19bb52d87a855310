"""What users see: packages say what they offer, and importing them costs no more than it must."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import fedloom

PACKAGES = ["fedloom", *(module.name for module in pkgutil.walk_packages(fedloom.__path__, "fedloom.") if module.ispkg)]
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
HEAVY = {"dp_accounting", "h5py", "keras", "matplotlib", "pandas", "pyarrow", "rich", "scipy", "tyro"}


def loaded_by(statement):
    """Top-level names of the modules that a fresh interpreter has after `statement`."""
    code = f"{statement}\nimport json, sys; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout))


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_sorted_and_is_what_is_visible(name):
    package = importlib.import_module(name)
    visible = {key for key in dir(package) if not key.startswith("_")}
    submodules = {key for key in visible if isinstance(value := getattr(package, key), ModuleType) and value.__name__ == f"{name}.{key}"}
    assert package.__all__ == sorted(package.__all__)
    assert set(package.__all__) == visible - (submodules - set(package.__all__))


def test_every_name_of_the_package_loads_on_use():
    for name in fedloom.__all__:
        assert getattr(fedloom, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_the_kind'"):
        _ = fedloom.nothing_of_the_kind


def test_importing_fedloom_loads_nothing_heavy():
    assert not loaded_by("import fedloom") & (HEAVY | {"jax", "numpy", "optax"})


def test_parts_that_do_without_keras():
    parts = ("aggregators", "algorithms", "analytics", "core", "data", "engine", "experiment", "export")
    assert not loaded_by("; ".join(f"import fedloom.{name}" for name in parts)) & {"keras", "matplotlib"}


def test_keras_runs_on_jax_unless_the_user_says_otherwise():
    show = "import os, fedloom; print(os.environ['KERAS_BACKEND'])"
    for before, after in (({}, "jax"), ({"KERAS_BACKEND": "torch"}, "torch")):
        done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, env={**ENVIRONMENT, **before})
        assert done.stdout.strip() == after
