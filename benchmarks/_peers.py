"""The peers' environments, one each, with exact versions: `python -m benchmarks peers FOLDER`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from ._systems import interpreter

PINS: dict[str, list[list[str]]] = {
    "fedjax": [["fedjax==0.0.17", "jax==0.4.30", "jaxlib==0.4.30", "dm-haiku==0.0.13", "optax==0.2.4", "numpy==2.2.6", "scipy==1.15.3"]],
    "fedjax-newer-jax": [
        ["fedjax==0.0.17", "jax==0.5.3", "jaxlib==0.5.3", "dm-haiku==0.0.13", "optax==0.2.4", "numpy==2.2.6", "scipy==1.15.3"],
    ],
    "pfl": [["pfl==0.6.0", "torch==2.13.0+cpu", "numpy==2.4.6"]],
    "flower": [["flwr[simulation]==1.41.0", "ray==2.55.1", "torch==2.13.0+cpu", "numpy==2.4.6"]],
    # TFF pins jaxlib 0.4.14, which was withdrawn, and packages that contradict each other; it needs JAX only to import. So its packages
    # are installed in layers, of which the later ones do not look at what they depend on.
    "tff": [
        [
            "tensorflow-cpu==2.14.1",
            "absl-py==1.4.0",
            "attrs==23.2.0",
            "cachetools==5.5.2",
            "dm-tree==0.1.8",
            "googleapis-common-protos==1.61.0",
            "grpcio==1.59.3",
            "jax==0.4.13",
            "jaxlib==0.4.13",
            "ml-dtypes==0.2.0",
            "numpy==1.25.2",
            "portpicker==1.6.0",
            "scipy==1.9.3",
            "tqdm==4.67.1",
            "typing-extensions==4.5.0",
        ],
        ["--no-deps", "dp-accounting==0.4.3", "google-vizier==0.1.11", "tensorflow-privacy==0.9.0", "tensorflow-model-optimization==0.7.5"],
        ["--no-deps", "tensorflow-probability==0.22.1", "cloudpickle==3.1.2", "decorator==5.3.1"],
        ["--no-deps", "scikit-learn==1.3.2", "joblib==1.3.2", "threadpoolctl==3.5.0"],
        ["--no-deps", "tensorflow-federated==0.87.0"],
    ],
}
"""What pip is asked for, one call after the other."""

PROBES = {
    "fedjax": "fedjax",
    "fedjax-newer-jax": "fedjax",
    "pfl": "pfl.model.pytorch",
    "flower": "flwr.simulation, torch",
    "tff": "tensorflow_federated",
}


def make_environments(folder: Path, peers: list[str]) -> list[str]:
    """Makes what is not there yet; needs Python 3.11, the newest that TFF 0.87 has a build for.

    Returns:
        The peers that cannot be had here.
    """
    if sys.version_info[:2] != (3, 11):
        raise RuntimeError(f"The peers' environments need Python 3.11, got {sys.version.split()[0]}. Run `python3.11 -m benchmarks peers`.")
    failed = []
    for peer in peers:
        python = interpreter(folder, peer)
        print(f"{peer}: {folder / peer}", flush=True)
        if not python.exists():
            venv.create(folder / peer, with_pip=True)
        done = all(subprocess.run([python, "-m", "pip", "install", "--quiet", *pins]).returncode == 0 for pins in PINS[peer])
        probe = subprocess.run([python, "-c", f"import {PROBES[peer]}"], cwd=tempfile.gettempdir(), capture_output=True, text=True)
        if not done or probe.returncode:
            failed.append(peer)
            print(f"{peer} cannot be used: {(probe.stderr.strip().splitlines() or ['pip failed'])[-1]}", flush=True)
    return failed
