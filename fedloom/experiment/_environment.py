"""What a run's bits depend on besides its settings."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import jax

from fedloom.kernels import native

from .._version import __version__

_PACKAGES = ("jax", "jaxlib", "keras", "numpy", "optax")


def environment() -> dict[str, Any]:
    """Versions, devices and kernels, for a run's record.

    Example:
        >>> environment()["fedloom"] == __version__
        True
    """
    kernels = native()
    return {
        "fedloom": __version__,
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in _PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "native_kernels": kernels.instruction_set or f"none: {kernels.missing}",
        "threads": kernels.threads,
    }
