"""What tests of kernels share: instruction sets, runs without native kernels, comparison."""

import jax
import numpy as np
import pytest

from fedloom.kernels import _native, native

INSTRUCTION_SETS = ["x86_64_v4_bf16", "x86_64_v4", "x86_64_v3", "baseline"]

needs_library = pytest.mark.skipif(bool(native().missing), reason=native().missing)


def reference(function, *arguments):
    """Runs a function without native kernels."""
    with pytest.MonkeyPatch.context() as without:
        without.setattr(_native, "_library", None)
        return jax.jit(lambda *inner: function(*inner))(*arguments)  # a function of its own: another trace


def assert_close(got, want, tolerance=2e-5):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)
