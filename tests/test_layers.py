"""The import rules: on the package itself, and on made-up packages that break one each."""

import re
import subprocess
import sys
from pathlib import Path

import check_layers
import pytest

REPOSITORY = Path(__file__).parents[1]


def package(folder, files):
    """A package `fedloom` with all layers, empty but for `files`: path -> text."""
    root = folder / "fedloom"
    for path, text in {**{f"{layer}/__init__.py": "" for layer in check_layers.MAY_IMPORT}, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_the_package_follows_the_layers():
    assert check_layers.violations(REPOSITORY / "fedloom") == []


@pytest.mark.parametrize(
    ("path", "text", "rule"),
    [
        ("core/_x.py", "from fedloom.data import Batching", "core must not import data; of ours it may import nothing"),
        ("models/_x.py", "import fedloom.data", "models must not import data; of ours it may import core"),
        ("data/datasets/_x.py", "from ... import models", "data must not import models; of ours it may import core"),
        ("algorithms/_x.py", "from ..aggregators import chain", "algorithms must not import aggregators; .* core, data, models"),
        ("text/_x.py", "import numpy, fedloom.algorithms as a", "text must not import algorithms"),
        ("engine/_x.py", "from fedloom.models import from_keras", "engine must not import models; of ours it may import core, data"),
        ("engine/_x.py", "from fedloom import report", "engine must not import report"),
        ("report/_x.py", "def f():\n    from fedloom.core import Batch", "report must not import core; of ours it may import nothing"),
        ("experiment/_x.py", "if TYPE_CHECKING:\n    from fedloom.cli import main", "experiment must not import cli"),
        ("cli/_x.py", "import fedloom as fl", "import from the package that owns the name, not from fedloom itself"),
        ("cli/_x.py", "from fedloom import train", "import from the package that owns the name, not from fedloom itself"),
        ("cli/_x.py", "from fedloom.core import _keys", r"core\._keys is private; import from the package core"),
        ("__init__.py", "from .data._batching import Batching", r"data\._batching.Batching is private; import from the package data"),
        ("plugins/_x.py", "import os", "the package plugins has no place in the layers yet"),
        ("experiment/_x.py", "def f():\n    import keras", "keras may be imported in models and text only"),
        ("__init__.py", "from keras import Model", "keras may be imported in models and text only"),
        ("engine/_x.py", "import matplotlib.pyplot as plt", "matplotlib may be imported in report and data.overview._plot only"),
        ("report/_x.py", "import os\nimport matplotlib", "matplotlib may be imported inside functions only"),
        (
            "report/_x.py",
            "try:\n    class C:\n        import matplotlib\nfinally: pass",
            "matplotlib may be imported inside functions only",
        ),
        ("data/_x.py", "import h5py", r"h5py may be imported in models and data\.sources only"),
        ("data/datasets/_x.py", "import jax.numpy as jnp", "data must not import jax: it does without JAX"),
        ("report/_x.py", "def f():\n    import optax", "report must not import optax: it does without JAX"),
    ],
)
def test_a_wrong_import_is_named_with_its_place_and_rule(tmp_path, path, text, rule):
    root = package(tmp_path, {path: text})
    (found,) = check_layers.violations(root)
    file, line, words = found.removeprefix(str(root)).split(":", 2)
    assert file == f"/{path}"
    assert "import" in text.splitlines()[int(line) - 1]
    assert re.search(rule, words)


def test_right_imports_pass(tmp_path):
    files = {
        "__init__.py": "from ._version import __version__\nfrom . import data as data\nfrom .experiment import train as train",
        "_version.py": "__version__ = '1'",
        "core/_x.py": "import jax\nfrom . import _keys",
        "data/sources/_x.py": "import h5py\nimport numpy\nfrom .._federated import FederatedDataset\nfrom fedloom.core import Batch",
        "models/_x.py": "import h5py, keras\nfrom fedloom.core import Model",
        "text/_x.py": "import keras\nfrom fedloom.models import rebuild\nfrom fedloom import data",
        "aggregators/_x.py": "import optax\nfrom fedloom.core import Aggregator",
        "engine/_x.py": "import jax\nfrom fedloom.data import Batching",
        "report/_x.py": "if TYPE_CHECKING:\n    from matplotlib.figure import Figure\ndef f():\n    import matplotlib.pyplot",
        "experiment/_x.py": "if TYPE_CHECKING:\n    import keras\nfrom fedloom.engine import LocalExecutor\nfrom fedloom import report",
        "cli/_x.py": "from fedloom._version import __version__\nimport fedloom.experiment",
    }
    assert check_layers.violations(package(tmp_path, files)) == []


def test_the_command_prints_what_is_wrong_and_fails(tmp_path):
    root = package(tmp_path, {"core/_x.py": "import os\nimport keras"})
    done = subprocess.run([sys.executable, check_layers.__file__, root], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, f"{root}/core/_x.py:2: keras may be imported in models and text only\n")
